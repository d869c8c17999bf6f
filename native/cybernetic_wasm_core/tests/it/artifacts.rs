//! Compiled code on disk: what is kept is found again, and nothing but what this user's own processes of this build have
//! written is ever run.

#[cfg(target_os = "linux")]
mod crashes;
mod folders;
#[cfg(target_os = "linux")]
mod hung;
mod writers;

use crate::support::{Driver, Loaded, call, call_on, eventually, limits, load, number, own, property, try_load};
use cybernetic_wasm_core::artifacts::{ArtifactSettings, ArtifactStats, Platform};
use cybernetic_wasm_core::compiler::Notice;
use cybernetic_wasm_core::engine::{EngineConfig, Features, Metering};
use cybernetic_wasm_core::execution::{Execution, Product};
use cybernetic_wasm_core::live::LiveGuest;
use cybernetic_wasm_core::runtime::Runtime;
use cybernetic_wasm_core::value::Value;
use proptest::prelude::*;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use tempfile::TempDir;

fn folder() -> TempDir {
    let real = fs::canonicalize(std::env::temp_dir()).unwrap();
    tempfile::tempdir_in(real).unwrap()
}

/// A node that keeps compiled code in `folder`.
fn node(folder: &Path) -> Arc<Runtime> {
    node_with(folder, |_| {})
}

fn node_with(folder: &Path, change: impl FnOnce(&mut ArtifactSettings)) -> Arc<Runtime> {
    let (folder, platform) = (folder.to_owned(), Platform::default());
    let mut kept = ArtifactSettings { folder, most_bytes: 1 << 30, platform };
    change(&mut kept);
    own(|settings| settings.artifacts = Some(kept))
}

/// Modules that differ in one constant.
fn numbered(number: usize) -> String {
    format!(r#"(module (func (export "f") (result i32) (i32.const {number})))"#)
}

/// One whose code is too large to be kept without a memory file.
fn large() -> Vec<u8> {
    let body = "(i32.mul (local.get 0) (i32.const 3)) (local.set 0) ".repeat(100);
    let functions: String =
        (0..60).map(|n| format!(r#"(func (export "f{n}") (param i32) (result i32) {body} (i32.const {n}))"#)).collect();
    wat::parse_str(format!(r#"(module (@custom "note" "abc") (memory (export "m") 1) {functions})"#)).unwrap()
}

fn answer(module: &Loaded) -> i64 {
    number(call(module, "f", &[]))
}

fn stats(runtime: &Runtime) -> ArtifactStats {
    runtime.stats().artifacts
}

/// What was found, was not there, was refused, and has been compiled.
fn counts(runtime: &Runtime) -> [u64; 4] {
    let ArtifactStats { hits, misses, refused, .. } = stats(runtime);
    [hits, misses, refused, runtime.stats().compiler.jobs]
}

/// Fills `folder` with the code of these modules.
fn fill(folder: &Path, sources: &[impl AsRef<[u8]>]) {
    let runtime = node(folder);
    for source in sources {
        runtime.keep(&load(&runtime, source).module).unwrap();
    }
}

/// The files of compiled code, by name.
fn files(folder: &Path) -> Vec<PathBuf> {
    let all = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let mut files: Vec<_> = all.filter(|path| is_artifact(path)).collect();
    files.sort();
    files
}

fn is_artifact(path: &Path) -> bool {
    path.file_name().unwrap().to_str().unwrap().contains('-')
}

fn only_file(folder: &Path) -> PathBuf {
    let [file] = &files(folder)[..] else { panic!("{:?}", files(folder)) };
    file.clone()
}

fn refused(runtime: &Runtime) -> Vec<String> {
    let refused = runtime.take_notices().into_iter().map(|notice| match notice {
        Notice::ArtifactRefused { detail, .. } => detail,
        other => panic!("{other:?}"),
    });
    refused.collect()
}

#[test]
fn what_one_node_has_compiled_the_next_one_need_not() {
    let folder = folder();
    let text = numbered(7);
    let binary = wat::parse_str(numbered(8)).unwrap();
    let sources: [&[u8]; 3] = [text.as_bytes(), &binary, &large()];
    let first = node(folder.path());
    let compiled = sources.map(|source| load(&first, source));
    for module in &compiled {
        first.keep(&module.module).unwrap();
    }
    assert_eq!(counts(&first), [0, 3, 0, 3]);
    assert_eq!((stats(&first).entries, files(folder.path()).len()), (3, 3));
    let next = node(folder.path());
    for (source, before) in sources.iter().zip(&compiled) {
        let module = load(&next, source);
        assert_eq!((module.digest(), module.wasm()), (before.digest(), before.wasm()));
        assert_eq!((module.code_size(), module.size()), (before.code_size(), before.size()));
        assert_eq!(module.custom_sections(), before.custom_sections());
        let facts =
            |module: &Loaded| module.export_types().map(|(name, ty)| (name, format!("{ty:?}"))).collect::<Vec<_>>();
        assert_eq!(facts(&module), facts(before));
    }
    assert_eq!(counts(&next), [3, 0, 0, 0]);
    assert_eq!(answer(&load(&next, &text)), 7);
    assert_eq!(number(call(&load(&next, large()), "f42", &[Value::I32(1)])), 42);
    assert_eq!(next.take_notices(), []);
    assert!(next.ceilings().code() > 0, "it is counted as what is compiled");
}

#[test]
fn what_is_compiled_is_written_though_nobody_asks() {
    let folder = folder();
    let runtime = node(folder.path());
    let _module = load(&runtime, numbered(1));
    eventually("it is written", || stats(&runtime).writes == 1);
    assert_eq!(
        (stats(&runtime).bytes, files(folder.path()).len()),
        (fs::metadata(only_file(folder.path())).unwrap().len(), 1)
    );
    runtime.keep(&_module.module).unwrap();
    assert_eq!(stats(&runtime).writes, 1, "it is there already");
}

#[test]
fn a_module_that_cannot_be_compiled_leaves_nothing() {
    let folder = folder();
    let runtime = node(folder.path());
    for source in ["(module (func (result i32)))", "(modul)", ""] {
        try_load(&runtime, source, runtime.default_config()).unwrap_err();
    }
    assert_eq!(files(folder.path()).len(), 0);
    assert_eq!(stats(&runtime).writes, 0);
}

#[test]
fn each_kind_of_code_is_found_by_its_own_configuration_alone() {
    let folder = folder();
    let usual = own(|_| {}).default_config();
    let configs = [
        usual,
        EngineConfig { metering: Metering::Epoch, ..usual },
        EngineConfig { deterministic: true, ..usual },
        EngineConfig { features: Features::default().without("simd").unwrap(), ..usual },
    ];
    for (known, config) in configs.iter().enumerate() {
        let runtime = node(folder.path());
        let module = try_load(&runtime, numbered(1), *config).unwrap();
        assert_eq!(counts(&runtime), [0, 1, 0, 1], "{config:?}");
        runtime.keep(&module.module).unwrap();
        assert_eq!(files(folder.path()).len(), known + 1);
    }
    let runtime = node(folder.path());
    for config in configs {
        assert_eq!(answer(&try_load(&runtime, numbered(1), config).unwrap()), 1);
    }
    // Another stack takes the same code.
    try_load(&runtime, numbered(1), EngineConfig { max_stack: 100_000, ..usual }).unwrap();
    assert_eq!(counts(&runtime), [4, 0, 0, 0]);
}

const COUNTING: &str = r#"(module (memory (export "m") 1) (global $n (mut i32) (i32.const 0))
    (func (export "next") (result i32) (global.set $n (i32.add (global.get $n) (i32.const 1))) (global.get $n)))"#;

/// A guest of which snapshots can be taken.
fn capturable(runtime: &Arc<Runtime>) -> Arc<LiveGuest> {
    let module = load(runtime, COUNTING);
    match Driver::default().drive(&mut Execution::instantiate(&module.module, true, module.setup(limits()))).unwrap() {
        Product::Guest(guest) => guest,
        other => panic!("{other:?}"),
    }
}

fn snapshot(runtime: &Arc<Runtime>, guest: &Arc<LiveGuest>) -> Vec<u8> {
    match Driver::default().drive(&mut Execution::snapshot(runtime, guest, None, limits()).unwrap()).unwrap() {
        Product::Snapshot(snapshot) => snapshot.as_ref().to_vec(),
        other => panic!("{other:?}"),
    }
}

#[test]
fn snapshots_and_what_was_made_fit_for_them_are_kept_as_well() {
    let folder = folder();
    let first = node(folder.path());
    let guest = capturable(&first);
    assert_eq!(number(call_on(&guest, "next", &[])), 1);
    let wasm = snapshot(&first, &guest);
    let ready = load(&first, &wasm);
    eventually("all are written", || stats(&first).writes == 3);
    let next = node(folder.path());
    // The module, the same made fit for snapshots, and the snapshot.
    let again = capturable(&next);
    assert_eq!(number(call_on(&again, "next", &[])), 1);
    assert_eq!(snapshot(&next, &again), wasm);
    assert_eq!(number(call(&load(&next, &wasm), "next", &[])), 2);
    assert_eq!(counts(&next), [3, 0, 0, 0]);
    drop(ready);
}

#[test]
fn the_code_of_another_build_or_machine_is_none() {
    let kept = Kept::new(numbered(1));
    let build = |settings: &mut ArtifactSettings| settings.platform.build.push('1');
    let machine = |settings: &mut ArtifactSettings| settings.platform.machine.push('1');
    for change in [&build as &dyn Fn(&mut ArtifactSettings), &machine] {
        let folder = kept.with(&kept.bytes);
        let runtime = node_with(folder.path(), change);
        let module = load(&runtime, numbered(1));
        assert_eq!((answer(&module), counts(&runtime)), (1, [0, 1, 0, 1]));
        assert_eq!(runtime.take_notices(), [Notice::ArtifactsStale(1)]);
        runtime.keep(&module.module).unwrap();
        assert_eq!(files(folder.path()).len(), 2, "each has its own");
        // Under the other's name it is none either.
        let names = files(folder.path());
        let theirs = names.iter().find(|path| !path.ends_with(&kept.name)).unwrap();
        fs::copy(folder.path().join(&kept.name), theirs).unwrap();
        let runtime = node_with(folder.path(), change);
        assert_eq!((answer(&load(&runtime, numbered(1))), counts(&runtime)), (1, [0, 0, 1, 1]));
    }
}

#[test]
fn code_that_was_brought_from_another_folder_is_none() {
    let (one, other) = (folder(), folder());
    fill(one.path(), &[numbered(1)]);
    fill(other.path(), &[numbered(2)]);
    // Under a name that this folder's key does not give, and under one that it gives.
    let (foreign, own) = (only_file(one.path()), only_file(other.path()));
    fs::copy(&foreign, other.path().join(foreign.file_name().unwrap())).unwrap();
    fs::copy(&foreign, &own).unwrap();
    let runtime = node(other.path());
    assert_eq!([1, 2].map(|number| answer(&load(&runtime, numbered(number)))), [1, 2]);
    assert_eq!(counts(&runtime), [0, 1, 1, 2]);
    assert_eq!(refused(&runtime), ["its seal is broken, or another's"]);
}

#[test]
fn one_modules_code_under_anothers_name_is_refused() {
    let folder = folder();
    fill(folder.path(), &[numbered(1), numbered(2)]);
    let files = files(folder.path());
    let aside = folder.path().join("aside");
    fs::rename(&files[0], &aside).unwrap();
    fs::rename(&files[1], &files[0]).unwrap();
    fs::rename(&aside, &files[1]).unwrap();
    let runtime = node(folder.path());
    assert_eq!([1, 2].map(|number| answer(&load(&runtime, numbered(number)))), [1, 2]);
    assert_eq!(counts(&runtime), [0, 0, 2, 2]);
}

/// A folder with the code of one module, and its file's name and bytes.
struct Kept {
    folder: TempDir,
    name: String,
    bytes: Vec<u8>,
}

impl Kept {
    fn new(source: impl AsRef<[u8]>) -> Self {
        let folder = folder();
        fill(folder.path(), &[source]);
        let file = only_file(folder.path());
        let name = file.file_name().unwrap().to_str().unwrap().to_owned();
        Self { bytes: fs::read(file).unwrap(), name, folder }
    }

    /// The same folder with this in the place of the file.
    fn with(&self, bytes: &[u8]) -> TempDir {
        let copy = folder();
        fs::copy(self.folder.path().join("key"), copy.path().join("key")).unwrap();
        fs::write(copy.path().join(&self.name), bytes).unwrap();
        copy
    }
}

#[test]
fn a_file_with_any_bit_changed_is_refused_and_written_anew() {
    let kept = Kept::new(numbered(7));
    let check = |index: usize, bit: u8| {
        let mut bytes = kept.bytes.clone();
        bytes[index] ^= 1 << bit;
        let folder = kept.with(&bytes);
        let runtime = node(folder.path());
        let module = load(&runtime, numbered(7));
        prop_assert_eq!((answer(&module), counts(&runtime)), (7, [0, 0, 1, 1]), "byte {} bit {}", index, bit);
        runtime.keep(&module.module).unwrap();
        prop_assert_eq!(fs::read(folder.path().join(&kept.name)).unwrap().len(), kept.bytes.len());
        let next = node(folder.path());
        prop_assert_eq!((answer(&load(&next, numbered(7))), counts(&next)), (7, [1, 0, 0, 0]));
        Ok(())
    };
    // The head is small enough to be gone through.
    for index in 0..104 {
        check(index, (index % 8) as u8).unwrap();
    }
    property(100, (0..kept.bytes.len(), 0_u8..8), |(index, bit)| check(index, bit));
}

#[test]
fn a_file_that_was_cut_or_has_grown_is_refused() {
    let kept = Kept::new(large());
    let check = |bytes: &[u8]| {
        let folder = kept.with(bytes);
        let runtime = node(folder.path());
        let module = load(&runtime, large());
        prop_assert_eq!(number(call(&module, "f9", &[Value::I32(1)])), 9);
        prop_assert_eq!(counts(&runtime), [0, 0, 1, 1], "{} bytes", bytes.len());
        Ok(())
    };
    for length in [0, 1, 103, 104, 105, kept.bytes.len() - 1] {
        check(&kept.bytes[..length]).unwrap();
    }
    check(&[&kept.bytes[..], b"x"].concat()).unwrap();
    property(20, 0..kept.bytes.len(), |length| check(&kept.bytes[..length]));
}

#[test]
fn each_refused_module_is_told_of_once() {
    let kept = Kept::new(numbered(7));
    let folder = kept.with(b"nonsense");
    let runtime = own(|settings| {
        let (folder, platform) = (folder.path().to_owned(), Platform::default());
        settings.artifacts = Some(ArtifactSettings { folder, most_bytes: 1 << 30, platform });
        settings.cache_bytes = 0;
    });
    for _ in 0..3 {
        fs::write(folder.path().join(&kept.name), b"nonsense").unwrap();
        let module = load(&runtime, numbered(7));
        runtime.keep(&module.module).unwrap();
        assert_eq!(answer(&module), 7);
    }
    assert_eq!(counts(&runtime), [0, 0, 3, 3]);
    assert_eq!(refused(&runtime), ["it ends too early"]);
}

#[test]
fn a_file_that_is_cut_changed_or_removed_after_it_was_loaded_harms_nobody() {
    let folder = folder();
    fill(folder.path(), &[large()]);
    let file = only_file(folder.path());
    let spoil: [&dyn Fn(); 3] = [
        &|| fs::write(&file, vec![0xcc; 1 << 20]).unwrap(),
        &|| File::options().write(true).open(&file).unwrap().set_len(0).unwrap(),
        &|| fs::remove_file(&file).unwrap(),
    ];
    let intact = fs::read(&file).unwrap();
    for spoil in spoil {
        fs::write(&file, &intact).unwrap();
        let runtime = node(folder.path());
        let module = load(&runtime, large());
        assert_eq!(counts(&runtime)[0], 1);
        spoil();
        // Pages that nobody has touched yet are the copy's, too; and so are those of another engine that loads it.
        for n in 0..60 {
            assert_eq!(number(call(&module, &format!("f{n}"), &[Value::I32(n)])), i64::from(n));
        }
        let config = EngineConfig { max_stack: 100_000, ..runtime.default_config() };
        let other = try_load(&runtime, large(), config).unwrap();
        assert_eq!(number(call(&other, "f3", &[Value::I32(1)])), 3);
        assert_eq!(counts(&runtime), [1, 0, 0, 0]);
    }
}

/// Puts something in a file's place.
type Put<'a> = &'a dyn Fn(&Path);

#[test]
fn what_is_no_file_of_the_users_own_is_refused_at_once() {
    let kept = Kept::new(numbered(7));
    let elsewhere = folder();
    let outside = elsewhere.path().join("outside");
    fs::write(&outside, &kept.bytes).unwrap();
    let place = |folder: &TempDir| folder.path().join(&kept.name);
    let link = |path: &Path| std::os::unix::fs::symlink(&outside, path).unwrap();
    let pipe = |path: &Path| {
        rustix::fs::mknodat(rustix::fs::CWD, path, rustix::fs::FileType::Fifo, rustix::fs::Mode::RWXU, 0).unwrap()
    };
    let shared = |path: &Path| {
        fs::write(path, &kept.bytes).unwrap();
        fs::set_permissions(path, std::os::unix::fs::PermissionsExt::from_mode(0o666)).unwrap();
    };
    let others = |path: &Path| {
        fs::write(path, &kept.bytes).unwrap();
        std::os::unix::fs::chown(path, Some(65_534), None).unwrap();
    };
    let mut cases: Vec<(Put<'_>, &str)> = vec![
        (&link, "it is a symbolic link"),
        (&pipe, "it is not a file"),
        (&shared, "it can be written to by others"),
    ];
    // Only root can give files away.
    if rustix::process::geteuid().is_root() {
        cases.push((&others, "it belongs to another user (65534)"));
    }
    for (put, why) in cases {
        let folder = kept.with(b"");
        fs::remove_file(place(&folder)).unwrap();
        put(&place(&folder));
        let runtime = node(folder.path());
        let module = load(&runtime, numbered(7));
        assert_eq!((answer(&module), counts(&runtime)), (7, [0, 0, 1, 1]));
        assert_eq!(refused(&runtime), [why]);
        runtime.keep(&module.module).unwrap();
        assert_eq!(fs::read(&outside).unwrap(), kept.bytes, "nothing is written through a link");
    }
}

#[test]
fn what_was_used_longest_ago_makes_room() {
    let folder = folder();
    fill(folder.path(), &[numbered(1)]);
    let size = fs::metadata(only_file(folder.path())).unwrap().len();
    let room = |files: u64| move |settings: &mut ArtifactSettings| settings.most_bytes = files * size + size / 2;
    let runtime = node_with(folder.path(), room(3));
    let age = |hours: u64| {
        for file in files(folder.path()) {
            let file = File::options().write(true).open(file).unwrap();
            let used = file.metadata().unwrap().modified().unwrap();
            file.set_modified(used - Duration::from_secs(3_600 * hours)).unwrap();
        }
    };
    for number in [2, 3] {
        age(1);
        runtime.keep(&load(&runtime, numbered(number)).module).unwrap();
    }
    age(1);
    // The first is used, so that the second is the oldest.
    load(&runtime, numbered(1));
    runtime.keep(&load(&runtime, numbered(4)).module).unwrap();
    let stats = stats(&runtime);
    assert_eq!((stats.entries, stats.evictions, stats.bytes <= 3 * size + size / 2), (3, 1, true), "{stats:?}");
    let next = node(folder.path());
    for number in [1, 3, 4, 2] {
        load(&next, numbered(number));
    }
    assert_eq!(counts(&next), [3, 1, 0, 1], "2 had to go");
    // Less room takes effect when the folder is opened.
    let small = node_with(folder.path(), room(1));
    load(&small, numbered(9));
    eventually("it has room", || files(folder.path()).len() <= 2);
}

#[test]
fn code_that_is_larger_than_all_the_room_is_not_written() {
    let folder = folder();
    let runtime = node_with(folder.path(), |settings| settings.most_bytes = 1_000);
    let module = load(&runtime, numbered(1));
    let why = runtime.keep(&module.module).unwrap_err();
    assert!(why.contains("more bytes than all artifacts may have (1000)"), "{why}");
    assert_eq!((answer(&module), files(folder.path()).len(), stats(&runtime).writes), (1, 0, 0));
}

#[test]
fn a_node_that_has_no_room_for_code_takes_none_from_the_disk_either() {
    let folder = folder();
    fill(folder.path(), &[numbered(1)]);
    let runtime = node(folder.path());
    runtime.ceilings().adjust(&cybernetic_wasm_core::limits::NodeLimits { max_code_memory: 100, ..Default::default() });
    let error = try_load(&runtime, numbered(1), runtime.default_config()).unwrap_err();
    assert!(error.to_string().contains("code"), "{error}");
    assert_eq!(counts(&runtime), [1, 0, 0, 0]);
}

#[test]
fn a_hundred_loads_at_once_read_the_file_once() {
    let folder = folder();
    fill(folder.path(), &[large()]);
    let runtime = node(folder.path());
    std::thread::scope(|scope| {
        let loads: Vec<_> = (0..100).map(|_| scope.spawn(|| load(&runtime, large()))).collect();
        let modules: Vec<_> = loads.into_iter().map(|load| load.join().unwrap()).collect();
        assert!(modules.iter().all(|module| module.is(&modules[0])));
    });
    assert_eq!(counts(&runtime), [1, 0, 0, 0]);
}

#[test]
fn other_settings_take_effect_on_what_comes() {
    let (one, other) = (folder(), folder());
    let settings = |folder: Option<&Path>| cybernetic_wasm_core::runtime::Settings {
        pooling: false,
        artifacts: folder.map(|folder| {
            let (folder, platform) = (folder.to_owned(), Platform::default());
            ArtifactSettings { folder, most_bytes: 1 << 30, platform }
        }),
        ..Default::default()
    };
    let runtime = Runtime::new(settings(None));
    assert_eq!(runtime.artifacts(), None);
    let module = load(&runtime, numbered(1));
    assert!(runtime.keep(&module.module).is_err());
    runtime.adjust(settings(Some(one.path())));
    runtime.keep(&module.module).unwrap();
    runtime.adjust(settings(Some(other.path())));
    assert_eq!(runtime.artifacts().unwrap().folder, other.path());
    runtime.keep(&module.module).unwrap();
    assert_eq!((files(one.path()).len(), files(other.path()).len()), (1, 1));
    runtime.adjust(settings(None));
    load(&runtime, numbered(2));
    assert_eq!(stats(&runtime).misses, 0);
}

#[test]
fn what_a_call_needs_its_module_compiled_for_is_looked_for_as_well() {
    let folder = folder();
    let call_by_epochs = |runtime: &Arc<Runtime>| {
        let module = load(runtime, numbered(1));
        let epochs = EngineConfig { metering: Metering::Epoch, ..runtime.default_config() };
        let function = module.function("f").unwrap();
        let mut execution = Execution::call(&module.module, &function, vec![], module.setup_for(epochs, limits()));
        (number(Driver::default().values(&mut execution)), module)
    };
    let first = node(folder.path());
    let (result, _module) = call_by_epochs(&first);
    eventually("both are written", || stats(&first).writes == 2);
    let next = node(folder.path());
    assert_eq!((result, call_by_epochs(&next).0, counts(&next)), (1, 1, [2, 0, 0, 0]));
}
