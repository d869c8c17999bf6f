//! Who answers an import of WASI: the core, or the driver.

use super::*;

#[test]
fn without_grants_the_driver_answers_every_import() {
    let (module, index) = (guest(), import("random_get"));
    let mut execution = crate::support::start(&module, "random", &[], limits());
    let answered = Driver::with_host(&|call| (call.import() == index).then(|| i32s(&[0]))).values(&mut execution);
    assert_eq!(number(answered), 0);
    assert!(matches!(call(&module, "random", &[]), Err(Error::Host)), "nobody answers");
}

#[test]
fn the_driver_answers_those_imports_that_it_keeps() {
    let random = import("random_get");
    let grants = || Grants { answered: vec![random], ..stdio() };
    let mut execution = begin("random", &[], grants());
    let Step::HostCall { call, args } = next(&mut execution) else { panic!("WASI answers") };
    assert_eq!(call.import, random);
    assert!(crate::support::all_same(&args, &i32s(&[8, 4])));
    execution.command(call, Command::Return(i32s(&[NOTCAPABLE as i32]))).unwrap();
    assert_eq!(number(Driver::default().values(&mut execution)), -NOTCAPABLE);
    assert!(execution.tally().denials.is_empty());
    assert_eq!(number(run("put", &i32s(&[1, 65]), grants())), 1, "the others are WASI's");
}

#[test]
fn what_wasi_has_not_or_has_of_another_type_is_told() {
    let module = load(
        shared(),
        r#"(module
          (import "wasi_snapshot_preview1" "fd_wriet" (func (result i32)))
          (import "wasi_snapshot_preview1" "proc_exit" (func (param i64)))
          (import "wasi_snapshot_preview1" "sched_yield" (func (result i32)))
          (func (export "f")))"#,
    );
    let mut execution = start(&module, ("f", &[]), nothing(), limits());
    let Err(Error::Link(problems)) = Driver::default().values(&mut execution) else { panic!("it links") };
    let told: Vec<String> = problems.iter().map(ToString::to_string).collect();
    assert_eq!(
        told,
        [
            "wasi_snapshot_preview1.fd_wriet: (func (result i32)) (WASI preview 1 has no such function)",
            "wasi_snapshot_preview1.proc_exit: (func (param i64)) (WASI's has another type)"
        ]
    );
}
