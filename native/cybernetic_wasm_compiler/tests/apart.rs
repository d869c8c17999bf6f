//! The compiler in processes of its own, as a runtime uses it: what it gives, what ends it, and what it leaves behind.
#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs)]

use cybernetic_wasm_core::Error;
use cybernetic_wasm_core::compiler::{Asker, Budget, CompilerSettings, Notice, cores};
use cybernetic_wasm_core::engine::{EngineConfig, Metering};
use cybernetic_wasm_core::error::{Blame, Limit, LoadError};
use cybernetic_wasm_core::execution::{Execution, Step};
use cybernetic_wasm_core::lane::Lane;
use cybernetic_wasm_core::module::Module;
use cybernetic_wasm_core::runtime::{Runtime, Settings};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Far beyond what anything takes: no test is decided by the time it takes.
const PATIENCE: Duration = Duration::from_secs(600);

/// A runtime whose program has a name of its own, by which its processes are known.
struct Node {
    runtime: Arc<Runtime>,
    program: PathBuf,
    _folder: tempfile::TempDir,
}

fn node(change: impl FnOnce(&mut Settings)) -> Node {
    let folder = tempfile::tempdir().unwrap();
    let program = folder.path().join("compiler");
    std::fs::copy(env!("CARGO_BIN_EXE_cybernetic_wasm_compiler"), &program).unwrap();
    with_program(folder, program, change)
}

fn with_program(folder: tempfile::TempDir, program: PathBuf, change: impl FnOnce(&mut Settings)) -> Node {
    let compiler = CompilerSettings { executable: Some(program.clone()), ..CompilerSettings::default() };
    let mut settings = Settings { pooling: false, compiler, ..Settings::default() };
    change(&mut settings);
    let runtime = Runtime::new(settings);
    runtime.warm_up().unwrap();
    Node { runtime, program, _folder: folder }
}

/// A node whose program is this script.
fn script(text: &str, mode: u32) -> Node {
    let folder = tempfile::tempdir().unwrap();
    let program = folder.path().join("compiler");
    std::fs::write(&program, text).unwrap();
    std::fs::set_permissions(&program, PermissionsExt::from_mode(mode)).unwrap();
    with_program(folder, program, |_| {})
}

impl Node {
    fn load(&self, source: impl AsRef<[u8]>) -> Result<Arc<Module>, Error> {
        self.load_for(source, self.runtime.default_config())
    }

    fn load_for(&self, source: impl AsRef<[u8]>, config: EngineConfig) -> Result<Arc<Module>, Error> {
        block_on(self.runtime.load(source, config))
    }

    /// The numbers of its processes, and what they are.
    fn processes(&self) -> Vec<(i32, String)> {
        let all = std::fs::read_dir("/proc").unwrap().flatten();
        let numbers = all.filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok());
        let own = numbers.filter_map(|number| {
            let arguments = std::fs::read_to_string(format!("/proc/{number}/cmdline")).ok()?;
            let exe = std::fs::read_link(format!("/proc/{number}/exe")).ok()?;
            let role = arguments.split('\0').nth(1)?.to_owned();
            (exe == self.program).then_some((number, role))
        });
        own.collect()
    }

    fn process(&self, role: &str) -> i32 {
        eventually(|| self.processes().into_iter().find(|(_, known)| known == role).map(|(number, _)| number))
    }
}

fn block_on<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap().block_on(future)
}

fn eventually<T>(mut condition: impl FnMut() -> Option<T>) -> T {
    let until = Instant::now() + PATIENCE;
    loop {
        if let Some(found) = condition() {
            return found;
        }
        assert!(Instant::now() < until, "it did not come about");
        std::thread::sleep(Duration::from_millis(2));
    }
}

fn kill(process: i32) {
    let pid = rustix::process::Pid::from_raw(process).unwrap();
    let _ = rustix::process::kill_process(pid, rustix::process::Signal::KILL);
}

/// A module that differs from others in one constant.
fn numbered(number: usize) -> String {
    format!(r#"(module (func (export "f") (result i32) (i32.const {number})))"#)
}

/// Plain functions: much to compile, and nothing strange.
fn large(functions: usize, seed: usize) -> Vec<u8> {
    let body = "(local.set 0 (i32.add (i32.mul (local.get 0) (i32.const 3)) (i32.const 1)))".repeat(8);
    let functions: String = (0..functions)
        .map(|n| format!("(func (param i32) (result i32) {body} (i32.add (local.get 0) (i32.const {})))", n + seed))
        .collect();
    wat::parse_str(format!("(module {functions})")).unwrap()
}

/// One function with thousands of calls: a small source that is slow.
fn slow(seed: usize) -> Vec<u8> {
    let body = "(block (br_if 0 (local.get 0)) (local.set 0 (call 0 (local.get 0))))".repeat(4_500);
    wat::parse_str(format!("(module (func (param i32) (result i32) {body} (i32.const {seed})))")).unwrap()
}

fn failed(result: Result<Arc<Module>, Error>) -> String {
    match result {
        Err(error @ Error::Load(LoadError::CompilerFailed(_))) => {
            assert_eq!(error.blame(), Blame::Host);
            error.to_string()
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn what_it_gives_is_what_this_process_would_compile() {
    let (apart, here) = (node(|_| {}), Runtime::new(Settings { pooling: false, ..Settings::default() }));
    assert_eq!(apart.runtime.compiles_in_process(), None);
    assert!(here.compiles_in_process().is_some());
    let text = r#"(module (import "env" "f" (func (param i32))) (memory (export "m") 2) (@custom "note" "abc")
        (func (export "g") (result i64) (i64.const 7)) (export "f" (func 0)))"#;
    let binary = wat::parse_str(text).unwrap();
    for source in [text.as_bytes(), &binary, &large(300, 0)] {
        let (one, other) = (apart.load(source).unwrap(), block_on(here.load(source, here.default_config())).unwrap());
        let facts = |module: &Module| {
            let code = module.code();
            let exports: Vec<_> = code.export_types().map(|(name, ty)| format!("{name}: {ty:?}")).collect();
            let imports: Vec<_> = code.imports().iter().map(|import| import.name.clone()).collect();
            (*code.digest(), code.wasm().to_vec(), code.code_size(), code.custom_sections().to_vec(), exports, imports)
        };
        assert_eq!(facts(&one), facts(&other));
    }
    assert_eq!(apart.runtime.stats().compiler.jobs, 3);
    assert_eq!(apart.runtime.take_notices(), []);
}

#[test]
fn its_refusals_are_those_of_this_process() {
    let (apart, here) = (node(|_| {}), Runtime::new(Settings { pooling: false, ..Settings::default() }));
    let config = apart.runtime.default_config();
    let no_simd = EngineConfig { features: config.features.without("simd").unwrap(), ..config };
    let simd = wat::parse_str("(module (func (result v128) (v128.const i64x2 1 2)))").unwrap();
    let invalid = wat::parse_str("(module (func (result i32)))").unwrap();
    for (source, config) in [
        (&b"not wasm"[..], config),
        (b"", config),
        (b"(module (func", config),
        (&invalid, config),
        (&simd, no_simd),
        (b"\0asm\x0d\0\x01\0\x0c", config),
    ] {
        let theirs = block_on(here.load(source, config)).unwrap_err();
        assert_eq!(apart.load_for(source, config).unwrap_err(), theirs);
    }
}

#[test]
fn what_takes_too_much_is_ended_and_says_so() {
    for (limit, budget) in [
        (Limit::CompileTime, Budget { time: Duration::from_millis(50), ..Budget::default() }),
        (Limit::CompileMemory, Budget { memory: 30 << 20, ..Budget::default() }),
    ] {
        let node = node(|settings| settings.compiler.budget = budget);
        match node.load(large(40_000, 0)) {
            Err(Error::Limit(error)) => {
                assert_eq!(error.limit, limit);
                assert!(error.used > error.allowed, "{error:?}");
                assert_eq!(Error::from(error).blame(), Blame::Guest);
            }
            other => panic!("{other:?}"),
        }
        let keeper = node.process("keep");
        for number in 0..20 {
            // Those that come next have nothing to do with it.
            assert!(matches!(node.load(large(3_000, 10_000 * number)), Ok(_) | Err(Error::Limit(_))));
            node.load(numbered(number)).unwrap();
        }
        assert_eq!(node.process("keep"), keeper, "workers came and went, the keeper did not");
        assert_eq!(node.runtime.take_notices(), [], "that is the module's affair");
    }
}

#[test]
fn what_one_module_leaves_behind_is_not_charged_to_the_next() {
    let node = node(|settings| settings.compiler.budget.memory = 40 << 20);
    for number in 0..10 {
        let _ = node.load(large(2_000, 10_000 * number));
        node.load(large(100, 10_000 * number)).unwrap();
    }
}

#[test]
fn a_stopped_worker_or_keeper_does_not_stop_the_others() {
    let node = node(|_| {});
    node.load(numbered(1)).unwrap();
    let stopped = rustix::process::Pid::from_raw(node.process("keep")).unwrap();
    rustix::process::kill_process(stopped, rustix::process::Signal::STOP).unwrap();
    kill(node.process("work"));
    // It is found to be stuck, once; another takes over.
    node.load(numbered(2)).unwrap();
    node.load(numbered(3)).unwrap();
    let _ = rustix::process::kill_process(stopped, rustix::process::Signal::KILL);
}

#[test]
fn nesting_that_is_refused_where_nothing_ends_a_compilation_is_none_of_its_business() {
    let (apart, here) = (node(|_| {}), Runtime::new(Settings { pooling: false, ..Settings::default() }));
    // A switch of 6,000 cases, and an else-if chain of 1,200.
    let switch = format!("(module (func $deep {} {}))", "block ".repeat(6_000), "end ".repeat(6_000));
    let chain =
        format!("(module (func (param i32) {} {}))", "local.get 0 if else ".repeat(1_200), "end ".repeat(1_200));
    for source in [switch, chain] {
        apart.load(&source).unwrap();
        let refused = block_on(here.load(&source, here.default_config())).unwrap_err();
        assert!(
            matches!(&refused, Error::Load(LoadError::Unsupported(text)) if text.contains("function")),
            "{refused}"
        );
    }
}

#[test]
fn a_worker_that_is_killed_fails_its_job_alone() {
    let node = node(|_| {});
    let source = large(20_000, 0);
    std::thread::scope(|scope| {
        let job = scope.spawn(|| node.load(&source));
        eventually(|| (node.runtime.stats().compiler.jobs == 1).then_some(()));
        // Whichever works at it: the quick one is replaced, if that goes first.
        // One that has no time to begin is replaced, too: so each has more than the one before.
        let mut pause = Duration::from_millis(5);
        while !job.is_finished() {
            node.processes().into_iter().filter(|(_, role)| role == "work").for_each(|(process, _)| kill(process));
            std::thread::sleep(pause);
            pause = 2 * pause;
        }
        let error = failed(job.join().unwrap());
        assert!(error.contains("signal 9") || error.contains("no compiling process"), "{error}");
    });
    let digest = *blake3_of(&source);
    let notices = node.runtime.take_notices();
    assert!(matches!(&notices[..], [Notice::Failed { digest: told, .. }] if *told == digest), "{notices:?}");
    node.load(numbered(1)).unwrap();
    node.load(&source).unwrap();
}

fn blake3_of(source: &[u8]) -> Box<[u8; 32]> {
    let here = Runtime::new(Settings { pooling: false, ..Settings::default() });
    Box::new(*block_on(here.load(source, here.default_config())).unwrap().code().digest())
}

#[test]
fn a_keeper_that_is_killed_takes_its_workers_with_it_and_another_takes_over() {
    let node = node(|_| {});
    node.load(numbered(1)).unwrap();
    let before = node.processes();
    kill(node.process("keep"));
    eventually(|| node.processes().iter().all(|process| !before.contains(process)).then_some(()));
    node.load(numbered(2)).unwrap();
    // In the middle of a job, too.
    let source = large(20_000, 0);
    std::thread::scope(|scope| {
        let job = scope.spawn(|| node.load(&source));
        eventually(|| (node.runtime.stats().compiler.jobs == 3).then_some(()));
        kill(node.process("keep"));
        job.join().unwrap().unwrap();
    });
    assert_eq!(node.runtime.take_notices(), []);
}

#[test]
fn nothing_is_left_running_when_the_runtime_rests_or_goes() {
    let mut node = node(|_| {});
    node.load(numbered(1)).unwrap();
    assert!(node.processes().len() >= 2);
    node.runtime.rest();
    eventually(|| node.processes().is_empty().then_some(()));
    // What is loaded all the same is compiled, and leaves nothing behind either.
    node.load(numbered(2)).unwrap();
    eventually(|| node.processes().is_empty().then_some(()));
    node.runtime.warm_up().unwrap();
    node.load(numbered(3)).unwrap();
    assert!(node.processes().len() >= 2);
    node.runtime = Runtime::new(Settings::default());
    eventually(|| node.processes().is_empty().then_some(()));
}

#[test]
fn what_a_runner_hands_to_another_is_compiled_to_its_end_while_the_runtime_rests() {
    let node = node(|_| {});
    node.runtime.rest();
    // They are begun in the quick line, and go on in the slow one.
    for seed in 0..8 {
        node.load(slow(seed)).unwrap();
    }
    eventually(|| node.processes().is_empty().then_some(()));
}

fn open_files(process: i32) -> Vec<String> {
    let entries = std::fs::read_dir(format!("/proc/{process}/fd")).unwrap().flatten();
    entries.map(|entry| std::fs::read_link(entry.path()).unwrap_or_default().display().to_string()).collect()
}

#[test]
fn its_processes_hold_nothing_of_ours_and_can_do_nothing() {
    // As the VM's own: not closed on exec, and so inherited by every child.
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    rustix::io::fcntl_setfd(&listener, rustix::io::FdFlags::empty()).unwrap();
    let node = node(|_| {});
    node.load(numbered(1)).unwrap();
    let (keeper, worker) = (node.process("keep"), node.process("work"));
    let foreign = |name: &String| !["socket:", "/dev/null", "/proc/"].iter().any(|own| name.starts_with(own));
    for (process, most) in [(keeper, 6), (worker, 6)] {
        // The file that it has just handed over is closed a moment later.
        eventually(|| {
            let open = open_files(process);
            (open.len() <= most && !open.iter().any(foreign)).then_some(())
        });
    }
    let status = |what: &str| {
        let text = std::fs::read_to_string(format!("/proc/{worker}/status")).unwrap();
        text.lines().find_map(|line| line.strip_prefix(what)).unwrap().trim().to_owned()
    };
    assert_eq!(status("NoNewPrivs:"), "1");
    assert_eq!(std::fs::read_to_string(format!("/proc/{worker}/oom_score_adj")).unwrap().trim(), "1000");
    let limits = std::fs::read_to_string(format!("/proc/{worker}/limits")).unwrap();
    assert!(limits.lines().any(|line| line.starts_with("Max open files            64 ")), "{limits}");
    let environment = std::fs::read(format!("/proc/{worker}/environ")).unwrap();
    assert_eq!(environment, b"", "secrets of the VM's environment");
    // A session of its own is a share of the processors of its own.
    let session = |process| rustix::process::getsid(rustix::process::Pid::from_raw(process)).unwrap();
    assert_ne!(session(worker), rustix::process::getsid(None).unwrap());
    assert_ne!(session(worker), session(keeper));
}

#[test]
fn a_job_that_nobody_waits_for_is_dropped_or_ended() {
    let node = node(|_| {});
    let config = node.runtime.default_config();
    // More than are compiled at once.
    let sources: Vec<_> = (0..2 * cores() + 4).map(|seed| large(20_000, seed)).collect();
    block_on(async {
        let loads = sources.iter().map(|source| node.runtime.load(source, config));
        let mut loads: Vec<_> = loads.map(Box::pin).collect();
        for load in &mut loads {
            assert!(tokio::time::timeout(Duration::from_millis(1), load).await.is_err());
        }
        while node.runtime.stats().compiler.jobs == 0 {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    });
    eventually(|| (node.runtime.stats().compiler.queued == 0 && node.runtime.stats().compiler.kills > 0).then_some(()));
    let begun = node.runtime.stats().compiler.jobs;
    assert!(begun < sources.len() as u64, "{begun} of {} were begun for nobody", sources.len());
    node.load(numbered(1)).unwrap();
    // Who asks again is served, by another flight.
    node.load(&sources[0]).unwrap();
}

#[test]
fn small_modules_are_served_while_others_take_long() {
    let node = node(|_| {});
    let config = node.runtime.default_config();
    let slow = large(20_000, 1);
    block_on(async {
        let mut load = Box::pin(node.runtime.load(&slow, config));
        assert!(tokio::time::timeout(Duration::from_millis(1), &mut load).await.is_err());
        for number in 0..20 {
            node.runtime.load(numbered(number), config).await.unwrap();
        }
        load.await.unwrap();
    });
}

#[test]
fn whoever_loads_one_module_is_not_behind_all_of_those_that_another_loads() {
    let node = node(|_| {});
    let config = node.runtime.default_config();
    let begin = |source: &Vec<u8>, asker| {
        let mut load = Execution::load_within(&node.runtime, source, config, (None, Asker(asker)));
        assert!(matches!(load.step(Lane::Dirty), Step::Waiting | Step::Yielded));
        load
    };
    // Some are begun at once, and others go on where they are: this is far more.
    let sources: Vec<_> = (0..4 * (cores() + 4)).map(|seed| large(3_000, seed)).collect();
    let greedy: Vec<_> = sources.iter().map(|source| begin(source, 1)).collect();
    let mut modest = begin(&large(3_000, 1_000_000), 2);
    eventually(|| matches!(modest.step(Lane::Dirty), Step::Finished(_)).then_some(()));
    assert!(node.runtime.stats().compiler.queued > 0, "it came last of {}", greedy.len() + 1);
}

#[test]
fn small_modules_that_take_long_let_others_go_first() {
    let node = node(|_| {});
    let config = node.runtime.default_config();
    let slow: Vec<_> = (0..4).map(slow).collect();
    assert!(slow[0].len() < 64 << 10);
    block_on(async {
        let mut loads: Vec<_> = slow.iter().map(|source| Box::pin(node.runtime.load(source, config))).collect();
        for load in &mut loads {
            assert!(tokio::time::timeout(Duration::from_millis(1), load).await.is_err());
        }
        node.runtime.load(numbered(1), config).await.unwrap();
        for load in loads {
            load.await.unwrap();
        }
    });
}

#[test]
fn code_is_shared_by_all_engines_of_its_kind() {
    let node = node(|_| {});
    let config = node.runtime.default_config();
    let module = node.load(numbered(1)).unwrap();
    let code = node.runtime.ceilings().code();
    for max_stack in [200_000, 1_000_000, 8_000_000] {
        let other = node.load_for(numbered(1), EngineConfig { max_stack, ..config }).unwrap();
        assert_eq!(other.code().engine().config().max_stack, max_stack);
        assert_eq!(other.code().digest(), module.code().digest());
    }
    assert_eq!(node.runtime.stats().compiler.jobs, 1);
    assert_eq!(node.runtime.ceilings().code(), code, "it is counted once");
    node.load_for(numbered(1), EngineConfig { metering: Metering::Epoch, ..config }).unwrap();
    node.load_for(numbered(1), EngineConfig { deterministic: true, ..config }).unwrap();
    assert_eq!(node.runtime.stats().compiler.jobs, 3);
}

#[test]
fn a_full_queue_refuses_and_blames_the_node() {
    let node = node(|settings| settings.compiler.queue_bytes = 1_000);
    let config = node.runtime.default_config();
    // More than are compiled at once.
    let sources: Vec<_> = (0..2 * cores() + 4).map(|seed| large(5_000, seed)).collect();
    let results = block_on(async {
        let mut loads: Vec<_> = sources.iter().map(|source| Box::pin(node.runtime.load(source, config))).collect();
        let mut results = Vec::new();
        for load in &mut loads {
            results.extend(tokio::time::timeout(Duration::from_millis(1), load).await.ok());
        }
        results
    });
    let refused = results.into_iter().find_map(Result::err).expect("none was refused");
    assert!(matches!(&refused, Error::Limit(error) if error.limit == Limit::CompileQueue), "{refused:?}");
    assert_eq!(refused.blame(), Blame::Node);
}

#[test]
fn where_the_program_cannot_be_run_modules_are_compiled_here() {
    let missing = |_: &Path| {
        let folder = tempfile::tempdir().unwrap();
        let program = folder.path().join("nothing");
        with_program(folder, program, |_| {})
    };
    let nodes = [
        ("missing", missing(Path::new("/"))),
        ("not executable", script("#!/bin/sh\n", 0o644)),
        ("ends at once", script("#!/bin/sh\nexit 3\n", 0o755)),
        ("rubbish", script("#!/bin/sh\nprintf 'rubbish, rubbish, rubbish' >&0\n", 0o755)),
        ("another program", script("#!/bin/cat\n", 0o755)),
    ];
    for (what, node) in nodes {
        let why = node.runtime.compiles_in_process().unwrap_or_else(|| panic!("{what}: it was run"));
        assert!(why.contains("cannot be run"), "{what}: {why}");
        assert_eq!(node.runtime.take_notices(), [Notice::InProcess(why)], "{what}");
        node.load(numbered(1)).unwrap();
        assert_eq!(node.runtime.take_notices(), [], "it is said once");
    }
}

#[test]
fn a_program_that_says_nothing_is_given_up() {
    let node = script("#!/bin/sh\nexec sleep 600\n", 0o755);
    let why = node.runtime.compiles_in_process().expect("it is waited for");
    assert!(why.contains("cannot be run"), "{why}");
    node.load(numbered(1)).unwrap();
}

#[test]
fn a_program_of_another_build_is_not_trusted() {
    let folder = tempfile::tempdir().unwrap();
    let program = folder.path().join("compiler");
    let mut bytes = std::fs::read(env!("CARGO_BIN_EXE_cybernetic_wasm_compiler")).unwrap();
    let build = cybernetic_wasm_core::compiler::BUILD.as_bytes();
    let places: Vec<_> = (0..bytes.len() - build.len()).filter(|at| bytes[*at..].starts_with(build)).collect();
    assert!(!places.is_empty());
    for place in places {
        bytes[place] = if bytes[place] == b'0' { b'1' } else { b'0' };
    }
    std::fs::write(&program, bytes).unwrap();
    std::fs::set_permissions(&program, PermissionsExt::from_mode(0o755)).unwrap();
    let node = with_program(folder, program, |_| {});
    let why = node.runtime.compiles_in_process().expect("it was run");
    assert!(why.contains("another build"), "{why}");
}

#[test]
fn a_program_that_is_replaced_while_it_runs_goes_on_as_it_was() {
    let node = node(|_| {});
    node.load(numbered(1)).unwrap();
    std::fs::remove_file(&node.program).unwrap();
    std::fs::write(&node.program, "#!/bin/sh\nexit 1\n").unwrap();
    let gone = node.process_deleted("work");
    kill(gone);
    eventually(|| node.load(numbered(2)).is_ok().then_some(()));
}

impl Node {
    /// The same of a program whose file is gone.
    fn process_deleted(&self, role: &str) -> i32 {
        let deleted = PathBuf::from(format!("{} (deleted)", self.program.display()));
        let node = Node { program: deleted, runtime: Arc::clone(&self.runtime), _folder: tempfile::tempdir().unwrap() };
        node.process(role)
    }
}

#[test]
fn loads_end_whatever_is_killed_meanwhile() {
    let node = node(|_| {});
    let done = std::sync::atomic::AtomicBool::new(false);
    std::thread::scope(|scope| {
        let killer = scope.spawn(|| {
            let mut seed = 1_u32;
            while !done.load(std::sync::atomic::Ordering::Relaxed) {
                seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                let processes = node.processes();
                if let Some((process, _)) = processes.get(seed as usize % processes.len().max(1)) {
                    kill(*process);
                }
                std::thread::sleep(Duration::from_millis(u64::from(seed >> 27)));
            }
        });
        let load = |number| match node.load(numbered(number)) {
            Ok(_) | Err(Error::Load(LoadError::CompilerFailed(_))) => {}
            Err(other) => panic!("{other}"),
        };
        let loads: Vec<_> = (0..4).map(|lot| scope.spawn(move || (0..250).for_each(|n| load(lot * 250 + n)))).collect();
        loads.into_iter().for_each(|loads| loads.join().unwrap());
        done.store(true, std::sync::atomic::Ordering::Relaxed);
        killer.join().unwrap();
    });
    node.load(numbered(5_000)).unwrap();
    node.runtime.rest();
    eventually(|| node.processes().is_empty().then_some(()));
}
