//! A writer that ends, or whose disk fails, at any of its system calls: what it said to have kept is there, and nothing that it was
//! at is taken. `strace` tells which calls there are, and ends the writer as it enters one of them, with the signal that cannot be
//! caught.

use super::*;
use parking_lot::Mutex;
use std::collections::HashMap;
use std::io::{BufRead, BufReader, Write};
use std::process::{Child, Command, Stdio};

/// Where the child has its modules from, what it keeps them in, and how many bytes that may have.
const FROM: &str = "CYBERNETIC_WASM_TEST_FROM";
const FOLDER: &str = "CYBERNETIC_WASM_TEST_FOLDER";
const ROOM: &str = "CYBERNETIC_WASM_TEST_ROOM";

/// The modules that are kept, and those that make room for them.
const KEPT: [usize; 2] = [11, 12];
const OLD: [usize; 2] = [21, 22];

/// So often each step is met, and so often in all.
const TIMES: usize = 5;
const CRASHES: usize = 200;
/// Of these a few may miss their step. Where many do, the test itself is wrong.
const MOST: usize = 400;

const CALLS: &str = "trace=?mkdirat,?openat,?flock,?write,?fsync,?linkat,?renameat,?renameat2,?unlinkat";

/// What the tests here start in a process of its own. It says when it is ready, and waits to be told to begin.
#[test]
#[ignore = "is started by others"]
fn keeps_modules_when_it_is_told() {
    let (Some(from), Some(folder)) = (std::env::var_os(FROM), std::env::var_os(FOLDER)) else { return };
    let most_bytes = std::env::var(ROOM).unwrap().parse().unwrap();
    let settings = |folder, most_bytes| cybernetic_wasm_core::runtime::Settings {
        pooling: false,
        artifacts: Some(ArtifactSettings { folder, most_bytes, platform: Platform::default() }),
        ..Default::default()
    };
    let runtime = Runtime::new(settings(PathBuf::from(from), 1 << 30));
    let modules = KEPT.map(|number| (number, load(&runtime, numbered(number))));
    let is_there = Path::new(&folder).exists();
    runtime.adjust(settings(PathBuf::from(folder), most_bytes));
    // Where there is no folder yet, to open it is the work.
    if is_there {
        assert_eq!(runtime.artifacts().unwrap().off, None);
    }
    let _ = rustix::process::set_ptracer(rustix::process::PTracer::Any);
    say("ready");
    std::io::stdin().read_line(&mut String::new()).unwrap();
    if is_there {
        let kept = modules.iter().filter(|(_, module)| runtime.keep(&module.module).is_ok());
        kept.for_each(|(number, _)| say(&format!("kept {number}")));
    } else {
        drop(runtime.artifacts());
    }
    // With no word of the test harness.
    std::process::exit(0);
}

/// That may be what fails.
fn say(word: &str) {
    let _ = writeln!(std::io::stdout(), "{word}");
}

/// What the child does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Work {
    /// Makes the folder and its key.
    Opens,
    /// Writes files, for which others make room.
    Keeps,
}

/// What all runs begin with.
struct Begin {
    from: TempDir,
    folder: TempDir,
    room: u64,
}

impl Begin {
    fn new() -> Self {
        let (from, begin) = (folder(), folder());
        fill(from.path(), &KEPT.map(numbered));
        let old = node_with(begin.path(), |settings| settings.platform.build = "another".into());
        for number in OLD {
            old.keep(&load(&old, numbered(number)).module).unwrap();
        }
        let size = fs::metadata(&files(begin.path())[0]).unwrap().len();
        Self { from, folder: begin, room: 2 * size + size / 2 }
    }

    /// A copy, with files that were used long ago.
    fn copy(&self, work: Work) -> Place {
        let base = folder();
        let folder = base.path().join("a/artifacts");
        if work == Work::Keeps {
            fs::create_dir_all(&folder).unwrap();
            for file in fs::read_dir(self.folder.path()).unwrap().map(|file| file.unwrap().path()) {
                let copy = folder.join(file.file_name().unwrap());
                fs::copy(file, &copy).unwrap();
                let used = std::time::SystemTime::now() - Duration::from_secs(3_600);
                File::options().write(true).open(copy).unwrap().set_modified(used).unwrap();
            }
        }
        Place { base, folder }
    }
}

struct Place {
    base: TempDir,
    folder: PathBuf,
}

/// What became of a child.
struct Run {
    kept: Vec<usize>,
    failed: bool,
    log: String,
}

/// Starts the child, and has `strace` look on from when it is ready, and interfere.
fn run(begin: &Begin, place: &Place, work: Work, inject: Option<&str>) -> Run {
    let mut child = child(begin, place);
    let mut told = BufReader::new(child.stdout.take().unwrap()).lines().map(Result::unwrap);
    assert!(told.any(|line| line.ends_with("ready")));
    if work == Work::Keeps {
        // What somebody was writing who has ended.
        fs::write(place.folder.join(format!(".{:032x}", 1)), "half").unwrap();
    }
    let log = place.base.path().join("log");
    let mut strace = Command::new("strace");
    strace.args(["-f", "-y", "-s", "0", "-e", CALLS, "-p", &child.id().to_string(), "-o"]).arg(&log);
    if let Some(inject) = inject {
        strace.args(["-e", &format!("inject={inject}")]);
    }
    let mut strace = strace.stderr(Stdio::piped()).spawn().unwrap();
    let mut says = BufReader::new(strace.stderr.take().unwrap()).lines().map(Result::unwrap);
    assert!(says.any(|line| line.contains("attached")));
    writeln!(child.stdin.take().unwrap(), "go").unwrap();
    let kept = told.filter_map(|line| line.strip_prefix("kept ")?.parse().ok()).collect();
    let failed = !child.wait().unwrap().success();
    says.for_each(drop);
    strace.wait().unwrap();
    Run { kept, failed, log: fs::read_to_string(log).unwrap() }
}

fn child(begin: &Begin, place: &Place) -> Child {
    let mut child = Command::new(std::env::current_exe().unwrap());
    child.args(["--exact", "artifacts::crashes::keeps_modules_when_it_is_told", "--ignored", "--nocapture"]);
    child.env(FROM, begin.from.path()).env(FOLDER, &place.folder).env(ROOM, begin.room.to_string());
    child.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap()
}

/// A system call for the folder: what it does, and how often that was done before.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Step {
    work: Work,
    what: String,
    before: usize,
}

/// The name of a call, and the how many-th of that name in its thread it is.
type Call = (String, usize);

/// The steps of a run, in order.
fn steps(work: Work, log: &str, base: &Path) -> Vec<(Step, Call)> {
    let (mut calls, mut done) = (HashMap::new(), HashMap::new());
    let step = |line: &str| {
        let (thread, rest) = line.split_once(' ')?;
        let (call, arguments) = rest.trim_start().split_once('(')?;
        let nth = calls.entry((thread.to_owned(), call.to_owned())).and_modify(|count| *count += 1).or_insert(1);
        let what = what(call, arguments, base)?;
        let count = done.entry(what.clone()).and_modify(|count| *count += 1).or_insert(1_usize);
        Some((Step { work, what, before: *count - 1 }, (call.to_owned(), *nth)))
    };
    log.lines().filter_map(step).collect()
}

/// What only looks is no step.
fn what(call: &str, arguments: &str, base: &Path) -> Option<String> {
    let arguments = arguments.split(" = ").next()?;
    let is_step = arguments.contains(base.to_str()?) && (call != "openat" || arguments.contains("O_CREAT"));
    let names = arguments.split(['"', '<', '>', '/']).filter_map(|name| match name.as_bytes() {
        [b'.', rest @ ..] if rest.len() == 32 => Some("draft"),
        b"key" => Some("key"),
        bytes if bytes.len() == 49 && bytes[16] == b'-' => Some("code"),
        _ => None,
    });
    is_step.then(|| format!("{call} {}", names.collect::<Vec<_>>().join(" ")))
}

/// The folder as the next node finds it.
fn check(place: &Place, kept: &[usize]) {
    let runtime = node(&place.folder);
    for number in kept {
        assert_eq!(answer(&load(&runtime, numbered(*number))), *number as i64);
    }
    assert_eq!(counts(&runtime), [kept.len() as u64, 0, 0, 0]);
    // What it was at when it ended is whole, or not there.
    for number in KEPT {
        let module = load(&runtime, numbered(number));
        assert_eq!(answer(&module), number as i64);
        runtime.keep(&module.module).unwrap();
    }
    assert_eq!(stats(&runtime).refused, 0, "{:?}", runtime.take_notices());
    // Who writes sweeps up.
    let names = fs::read_dir(&place.folder).unwrap().map(|file| file.unwrap().file_name());
    assert_eq!(names.filter(|name| name.to_str().unwrap().starts_with('.')).count(), 0);
}

/// Which steps were met how often, and how many runs there were.
struct Board {
    met: HashMap<Step, usize>,
    runs: usize,
}

impl Board {
    /// The step that was met least, as long as they were not met often enough.
    fn next(&mut self) -> Option<Step> {
        let (step, least) = self.met.iter().min_by_key(|(_, times)| **times)?;
        let is_enough = *least >= TIMES && self.met.values().sum::<usize>() >= CRASHES;
        self.runs += 1;
        (!is_enough && self.runs <= MOST).then(|| step.clone())
    }
}

fn is_strace_there() -> bool {
    let is_there = Command::new("strace").arg("-V").stdout(Stdio::null()).status().is_ok_and(|status| status.success());
    if !is_there {
        eprintln!("skipped: `strace` is missing");
    }
    is_there
}

/// All steps of undisturbed runs.
fn plan(begin: &Begin) -> Vec<(Step, Call)> {
    let plan = [Work::Opens, Work::Keeps].into_iter().flat_map(|work| {
        let place = begin.copy(work);
        let run = run(begin, &place, work, None);
        assert!(!run.failed);
        assert_eq!(run.kept, if work == Work::Keeps { KEPT.to_vec() } else { Vec::new() });
        let steps = steps(work, &run.log, place.base.path());
        check(&place, &run.kept);
        steps
    });
    plan.collect()
}

#[test]
fn a_writer_that_is_killed_at_any_step_leaves_nothing_half_written() {
    if !is_strace_there() {
        return;
    }
    let begin = Begin::new();
    let plan: HashMap<_, _> = plan(&begin).into_iter().collect();
    assert!(plan.len() > 30, "{plan:#?}");
    let board = Mutex::new(Board { met: plan.keys().map(|step| (step.clone(), 0)).collect(), runs: 0 });
    let lane = || {
        let next = || board.lock().next();
        while let Some(step) = next() {
            let ((call, nth), place) = (&plan[&step], begin.copy(step.work));
            let run = run(&begin, &place, step.work, Some(&format!("{call}:signal=KILL:when={nth}")));
            let last = steps(step.work, &run.log, place.base.path()).pop();
            if run.failed
                && let Some((last, _)) = last
            {
                board.lock().met.entry(last).and_modify(|times| *times += 1);
            }
            check(&place, &run.kept);
        }
    };
    let lanes = std::thread::available_parallelism().map_or(1, |cores| cores.get().min(8));
    std::thread::scope(|scope| (0..lanes).for_each(|_| _ = scope.spawn(lane)));
    let met = board.into_inner().met;
    let seldom: Vec<_> = met.iter().filter(|(_, times)| **times < TIMES).collect();
    assert!(seldom.is_empty(), "{seldom:#?}");
    assert!(met.values().sum::<usize>() >= CRASHES);
}

#[test]
fn a_disk_that_fails_at_any_step_takes_nothing_that_was_kept() {
    if !is_strace_there() {
        return;
    }
    let begin = Begin::new();
    // Where the file cannot be removed that was used longest ago, the next one makes the room.
    for (step, (call, nth)) in plan(&begin).into_iter().filter(|(step, _)| step.what != "unlinkat code") {
        let place = begin.copy(step.work);
        let run = run(&begin, &place, step.work, Some(&format!("{call}:error=EIO:when={nth}")));
        assert!(!run.failed, "{step:?}");
        check(&place, &run.kept);
    }
}

#[test]
fn a_draft_that_somebody_is_about_to_remove_is_not_written_to() {
    if !is_strace_there() {
        return;
    }
    let begin = Begin::new();
    let place = begin.copy(Work::Keeps);
    // As where another process, which makes room, has locked it first.
    let run = run(&begin, &place, Work::Keeps, Some("flock:error=EAGAIN:when=1"));
    assert_eq!(run.kept, KEPT);
    let drafts = steps(Work::Keeps, &run.log, place.base.path()).into_iter();
    assert_eq!(drafts.filter(|(step, _)| step.what == "openat draft").count(), KEPT.len() + 1);
    check(&place, &run.kept);
}
