//! Live guests and their members, which share one system.

use super::*;

fn call_here(instance: &Arc<LiveGuest>, name: &str, args: &[Value], stdin: &[u8]) -> (i64, String) {
    let mut execution = crate::support::start_on(instance, name, args, limits()).unwrap();
    execution.set_stdin(Stdin::Bytes(stdin.to_vec()));
    let result = number(Driver::default().values(&mut execution));
    (result, text(&execution.tally().output, Stream::Stdout))
}

#[test]
fn input_and_output_are_each_calls_own_on_a_live_guest() {
    let instance = live(stdio());
    assert_eq!(call_here(&instance, "echo", &i32s(&[3]), b"first"), (5, "first".into()));
    assert_eq!(call_here(&instance, "take", &i32s(&[1, 1]), b"left over"), (1, String::new()));
    assert_eq!(call_here(&instance, "echo", &i32s(&[3]), b"second"), (6, "second".into()));
    assert_eq!(on(&instance, "take", &i32s(&[9, 1])), 0, "none is none");
}

#[test]
fn an_exit_poisons_a_live_guest_and_a_reset_makes_its_system_anew() {
    let dir = tempfile::tempdir().unwrap();
    let grants = Grants { random: Random::Seeded(3), clocks: Clocks::Stepped(0, 1), ..directory(dir.path(), true) };
    let instance = live(grants);
    let random = on(&instance, "random", &[]);
    let fd = on(&instance, "open", &i32s(&[1, CREATE])) as i32;
    assert_eq!(on(&instance, "look", &i32s(&[0])), 0);
    assert!(matches!(crate::support::call_on(&instance, "quit", &i32s(&[0])), Err(Error::Exit(0))));
    assert_eq!(instance.state(), "poisoned");
    instance.survive_traps();
    let mut reset = Execution::reset(&instance, limits()).unwrap();
    assert!(matches!(Driver::default().drive(&mut reset), Ok(Product::Reset)));
    assert_eq!(on(&instance, "put", &i32s(&[fd, 65])), -BADF);
    assert_eq!((on(&instance, "random", &[]), on(&instance, "look", &i32s(&[0]))), (random, 0));
    // It is no trap.
    assert!(matches!(crate::support::call_on(&instance, "quit", &i32s(&[0])), Err(Error::Exit(0))));
    assert_eq!(instance.state(), "poisoned");
}

fn join(instance: &Arc<LiveGuest>, module: &Loaded, grants: Grants) -> Result<MemberId, Error> {
    let sources = module.imports().iter().map(|_| Source::Wasi).collect();
    let mut link =
        Execution::link(instance, instance.reserve(), (&module.module, sources), setup(module, grants, limits()))?;
    match Driver::default().drive(&mut link)? {
        Product::Member(member) => Ok(member),
        other => panic!("a link made {other:?}"),
    }
}

fn on_member(instance: &Arc<LiveGuest>, member: MemberId, name: &str) -> i64 {
    let function = Instance { guest: instance, member }.code().unwrap().function(name).unwrap();
    number(
        Driver::default().values(
            &mut Execution::call_on(Instance { guest: instance, member }, &function, vec![], limits()).unwrap(),
        ),
    )
}

#[test]
fn members_share_one_system() {
    let seeded = |seed| Grants { random: Random::Seeded(seed), ..stdio() };
    let alone = live(seeded(5));
    let expected = [(); 3].map(|()| on(&alone, "random", &[]));

    let instance = live(seeded(5));
    let one = join(&instance, &guest(), Grants { args: vec!["another".into(), "x".into()], ..seeded(5) }).unwrap();
    let drawn = [on(&instance, "random", &[]), on_member(&instance, one, "random"), on(&instance, "random", &[])];
    assert_eq!(drawn, expected);
    assert_eq!(on_member(&instance, one, "args"), 1, "the command line is the first's");
    for other in
        [seeded(6), Grants { quota: 1, ..seeded(5) }, Grants { stdio: [true, true, false], ..seeded(5) }, nothing()]
    {
        assert!(matches!(join(&instance, &guest(), other), Err(Error::Call(CallError::OtherGrants))));
    }
}

#[test]
fn a_member_may_bring_the_system_and_a_reset_keeps_it() {
    let plain = load(shared(), r#"(module (func (export "f") (result i32) i32.const 1))"#);
    let instance = crate::support::instantiate(&plain, limits()).unwrap();
    let member = join(&instance, &guest(), Grants { random: Random::Seeded(4), ..stdio() }).unwrap();
    let random = on_member(&instance, member, "random");
    assert_ne!(on_member(&instance, member, "random"), random);
    assert!(matches!(Driver::default().drive(&mut Execution::reset(&instance, limits()).unwrap()), Ok(Product::Reset)));
    assert_eq!(on_member(&instance, member, "random"), random);
}

#[test]
fn what_a_reactor_wants_called_first_is_called_once() {
    let module = load(
        shared(),
        r#"(module
          (import "wasi_snapshot_preview1" "random_get" (func $random (param i32 i32) (result i32)))
          (memory (export "memory") 1)
          (func (export "_initialize") (drop (call $random (i32.const 0) (i32.const 4))))
          (func (export "first") (result i32) (i32.load (i32.const 0))))"#,
    );
    let grants = || Grants { random: Random::Seeded(2), ..nothing() };
    let expected = on(&live(grants()), "random", &[]);
    let fresh = |name| Driver::default().values(&mut start(&module, (name, &[]), grants(), limits()));
    assert_eq!(number(fresh("first")), expected, "in a fresh instance");
    let mut making = Execution::instantiate(&module.module, false, setup(&module, grants(), limits()));
    let Ok(Product::Guest(instance)) = Driver::default().drive(&mut making) else { panic!("no instance") };
    for _ in 0..3 {
        assert_eq!(on(&instance, "first", &[]), expected, "in a live one, and not again");
    }
}
