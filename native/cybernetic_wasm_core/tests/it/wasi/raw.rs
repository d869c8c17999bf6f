//! A guest that hands out the functions of WASI as they are, and has given texts in its memory.

use super::*;
use std::collections::HashMap;

/// Its imports, each exported again under the same name.
const FUNCTIONS: &[(&str, &str)] = &[
    ("fd_close", "i32"),
    ("fd_filestat_get", "i32 i32"),
    ("fd_pread", "i32 i32 i32 i64 i32"),
    ("fd_read", "i32 i32 i32 i32"),
    ("fd_readdir", "i32 i32 i32 i64 i32"),
    ("fd_renumber", "i32 i32"),
    ("fd_seek", "i32 i64 i32 i32"),
    ("path_create_directory", "i32 i32 i32"),
    ("path_filestat_get", "i32 i32 i32 i32 i32"),
    ("path_filestat_set_times", "i32 i32 i32 i32 i64 i64 i32"),
    ("path_link", "i32 i32 i32 i32 i32 i32 i32"),
    ("path_open", "i32 i32 i32 i32 i32 i64 i64 i32 i32"),
    ("path_readlink", "i32 i32 i32 i32 i32 i32"),
    ("path_remove_directory", "i32 i32 i32"),
    ("path_rename", "i32 i32 i32 i32 i32 i32"),
    ("path_symlink", "i32 i32 i32 i32 i32"),
    ("path_unlink_file", "i32 i32 i32"),
    ("poll_oneoff", "i32 i32 i32 i32"),
    ("random_get", "i32 i32"),
    ("sock_recv", "i32 i32 i32 i32 i32 i32"),
    ("sock_send", "i32 i32 i32 i32 i32"),
    ("sock_shutdown", "i32 i32"),
];

/// Where results are written, and where there is room for more.
pub(super) const OUT: i32 = 8;
pub(super) const ROOM: i32 = 65_536;
const TEXTS: i32 = 1_024;

/// A live one, with directory 3 where it is granted one.
pub(super) struct Raw {
    pub(super) instance: Arc<LiveGuest>,
    texts: HashMap<String, i32>,
}

/// The guest's source: `texts` are put into its memory.
fn source(module: &str, texts: &[String]) -> (String, HashMap<String, i32>) {
    let (mut at, mut places, mut source) = (TEXTS, HashMap::new(), String::from("(module\n"));
    for (name, params) in FUNCTIONS {
        source += &format!("(import \"{module}\" \"{name}\" (func ${name} (param {params}) (result i32)))\n");
        source += &format!("(export \"{name}\" (func ${name}))\n");
    }
    source += "(memory (export \"memory\") 4)\n";
    source += "(func (export \"peek\") (param i32) (result i64) (i64.load (local.get 0)))\n";
    source += "(func (export \"poke\") (param i32 i64) (i64.store (local.get 0) (local.get 1)))\n";
    for text in texts {
        let bytes: String = text.bytes().map(|byte| format!("\\{byte:02x}")).collect();
        source += &format!("(data (i32.const {at}) \"{bytes}\")\n");
        places.insert(text.clone(), at);
        at += text.len() as i32 + 1;
    }
    assert!(at < ROOM);
    (source + ")", places)
}

impl Raw {
    pub(super) fn new(grants: Grants, texts: &[String]) -> Self {
        Self::of("wasi_snapshot_preview1", grants, texts)
    }

    pub(super) fn of(module: &str, grants: Grants, texts: &[String]) -> Self {
        Self::on(shared(), module, grants, texts)
    }

    pub(super) fn on(runtime: &Arc<Runtime>, module: &str, grants: Grants, texts: &[String]) -> Self {
        let (source, places) = source(module, texts);
        let module = load(runtime, source);
        let mut making = Execution::instantiate(&module.module, false, setup(&module, grants, limits()));
        match Driver::default().drive(&mut making).unwrap() {
            Product::Guest(instance) => Self { instance, texts: places },
            other => panic!("an instantiation made {other:?}"),
        }
    }

    /// The errno of a call.
    pub(super) fn call(&self, name: &str, args: &[Value]) -> i64 {
        on(&self.instance, name, args)
    }

    /// The errno, and what was refused.
    pub(super) fn told(&self, name: &str, args: &[Value]) -> (i64, Vec<&'static str>) {
        let mut execution = crate::support::start_on(&self.instance, name, args, limits()).unwrap();
        let errno = number(Driver::default().values(&mut execution));
        (errno, execution.tally().denials.iter().map(|denial| denial.operation).collect())
    }

    /// A text as functions take it: where it is, and how long.
    pub(super) fn text(&self, text: &str) -> [Value; 2] {
        [Value::I32(self.texts[text]), Value::I32(text.len() as i32)]
    }

    pub(super) fn peek(&self, at: i32) -> u64 {
        on(&self.instance, "peek", &i32s(&[at])) as u64
    }

    pub(super) fn poke(&self, at: i32, word: u64) {
        crate::support::call_on(&self.instance, "poke", &[Value::I32(at), Value::I64(word as i64)]).unwrap();
    }

    /// Opens a path beneath directory 3, to read and for what `rights` say besides.
    pub(super) fn open(&self, path: &str, (follow, oflags): (i32, i32), rights: i64) -> Result<i32, i64> {
        let [at, length] = self.text(path);
        let rest = [Value::I32(oflags), Value::I64(rights | 2), Value::I64(0), Value::I32(0), Value::I32(OUT)];
        let args = [&[Value::I32(3), Value::I32(follow), at, length][..], &rest].concat();
        match self.call("path_open", &args) {
            0 => Ok(self.peek(OUT) as u32 as i32),
            errno => Err(errno),
        }
    }
}
