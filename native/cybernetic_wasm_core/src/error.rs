//! What can go wrong, as facts: one enum, its `kind` and whose fault it is. The text is derived from the facts.

pub mod shown;

use serde::{Deserialize, Serialize};
use std::any::Any;
use std::borrow::Cow;
use std::fmt;
use std::sync::Arc;
use thiserror::Error;

/// Every failure that leaves this crate.
#[derive(Debug, Clone, PartialEq, Error)]
pub enum Error {
    /// A module could not be loaded.
    #[error(transparent)]
    Load(#[from] LoadError),
    /// A module's imports cannot be satisfied.
    #[error("the module's imports cannot be satisfied: {}", join(.0))]
    Link(Vec<ImportProblem>),
    /// The caller's mistake: no such export, wrong arity or type.
    #[error(transparent)]
    Call(#[from] CallError),
    /// The guest gave what the ABI does not say that it is called by.
    #[error(transparent)]
    Abi(#[from] AbiError),
    /// The guest has not answered the request that it was called for.
    #[error(transparent)]
    Answer(#[from] AnswerError),
    /// The guest trapped.
    #[error(transparent)]
    Trap(#[from] Trap),
    /// A limit struck.
    #[error(transparent)]
    Limit(#[from] LimitError),
    /// The guest ended itself with this exit code.
    #[error("the guest exited with {0}")]
    Exit(u32),
    /// Somebody ended the execution from outside: see [`crate::Cancel`].
    #[error("the call was cancelled")]
    Cancelled,
    /// A host function raised; what it raised is kept by the embedder.
    #[error("a host function raised")]
    Host,
    /// Something that should not happen: a panic, or the operating system refused memory.
    #[error("{0}")]
    Internal(String),
}

/// Whose fault a failure is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Blame {
    /// The code that called the library.
    Caller,
    /// The WebAssembly code.
    Guest,
    /// The embedder's functions, or this library.
    Host,
    /// The node: it has too much to do.
    Node,
}

impl Blame {
    /// The blame in one word.
    pub fn name(self) -> &'static str {
        match self {
            Blame::Caller => "caller",
            Blame::Guest => "guest",
            Blame::Host => "host",
            Blame::Node => "node",
        }
    }
}

impl Error {
    /// The kind of failure, one word.
    pub fn kind(&self) -> &'static str {
        match self {
            Error::Load(_) => "load",
            Error::Link(_) => "link",
            Error::Call(_) => "call",
            Error::Abi(_) => "abi",
            Error::Answer(_) => "answer",
            Error::Trap(_) => "trap",
            Error::Limit(_) => "limit",
            Error::Exit(_) => "exit",
            Error::Cancelled => "cancelled",
            Error::Host => "host",
            Error::Internal(_) => "internal",
        }
    }

    /// Whose fault it is.
    pub fn blame(&self) -> Blame {
        match self {
            Error::Limit(error) => error.blame(),
            Error::Load(LoadError::CompilerFailed(_)) | Error::Host | Error::Internal(_) => Blame::Host,
            Error::Load(_) | Error::Link(_) | Error::Call(_) | Error::Cancelled => Blame::Caller,
            Error::Abi(_) | Error::Answer(_) | Error::Trap(_) | Error::Exit(_) => Blame::Guest,
        }
    }

    /// The error on one line, as the first of a message: what an instance that it left poisoned tells later.
    pub(crate) fn line(&self) -> Arc<str> {
        let text = self.to_string();
        shown::name(text.lines().next().unwrap_or_default()).into()
    }

    /// An [`Error::Link`] with these problems, whose names are cut.
    pub(crate) fn link(problems: &[ImportProblem]) -> Self {
        Error::Link(problems.iter().map(ImportProblem::cut).collect())
    }

    /// An [`Error::Internal`] with the text of a caught panic.
    pub(crate) fn panic(panic: &(dyn Any + Send)) -> Self {
        Error::Internal(shown::text(&format!("panicked: {}", panic_text(panic))))
    }

    /// An [`Error::Internal`] with the whole chain of causes as its text; or the limit, where the operating system has given no
    /// more memory.
    pub fn internal(error: impl Into<wasmtime::Error>) -> Self {
        let error = error.into();
        match error.chain().any(is_out_of_memory) {
            true => LimitError::of_system().into(),
            false => Error::Internal(shown::text(&format!("{error:#}"))),
        }
    }
}

fn is_out_of_memory(error: &(dyn std::error::Error + 'static)) -> bool {
    let io = error.downcast_ref::<std::io::Error>().and_then(std::io::Error::raw_os_error);
    let errno = error.downcast_ref::<rustix::io::Errno>().map(|errno| errno.raw_os_error());
    io.or(errno) == Some(rustix::io::Errno::NOMEM.raw_os_error())
}

/// What a caught panic says.
pub fn panic_text(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
    text.or_else(|| panic.downcast_ref::<String>().cloned()).unwrap_or_else(|| "no message".to_owned())
}

/// Why there is no answer to a request that a guest was called for.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum AnswerError {
    /// It has returned without one.
    #[error("the guest returned without an answer")]
    None,
    /// It has answered with this error code of `wasi:http`.
    #[error("the guest answered with an error: {0}")]
    Refused(String),
    /// It has returned, or given up, before the body of its answer had ended.
    #[error("the guest has not ended the body of its answer")]
    Unfinished,
}

/// Why a module was refused.
#[derive(Debug, Clone, PartialEq, Error, Serialize, Deserialize)]
pub enum LoadError {
    /// Neither the binary nor the text format.
    #[error("not WebAssembly: {found}")]
    NotWasm {
        /// What the bytes look like instead.
        found: String,
    },
    /// The module is malformed or does not validate.
    #[error("invalid at offset {offset}: {message}")]
    Invalid {
        /// Byte offset in the binary.
        offset: u64,
        /// What is wrong there.
        message: String,
    },
    /// The text format does not parse.
    #[error("invalid text at line {line}, column {column}: {message}")]
    InvalidText {
        /// Counted from 1.
        line: u64,
        /// Counted from 1.
        column: u64,
        /// What is wrong there.
        message: String,
    },
    /// The module needs a feature that this engine has switched off or does not know.
    #[error("needs the feature {feature} (at offset {offset}: {message})")]
    UnsupportedFeature {
        /// The feature's name, as the `features:` option spells it where it has one.
        feature: String,
        /// Byte offset in the binary.
        offset: u64,
        /// The validator's words.
        message: String,
    },
    /// Valid, but beyond what the compiler or the engine can take.
    #[error("cannot be compiled: {0}")]
    Unsupported(String),
    /// The compiler panicked, or its process died.
    #[error("the compiler failed: {0}")]
    CompilerFailed(String),
}

/// One import that cannot be satisfied.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ImportProblem {
    /// The import's module name.
    pub module: String,
    /// The import's field name.
    pub name: String,
    /// What the module wants, in the text format's words.
    pub wanted: String,
    /// Why it is not there.
    pub reason: Cow<'static, str>,
}

impl ImportProblem {
    fn cut(&self) -> Self {
        let (module, name) = (shown::name(&self.module), shown::name(&self.name));
        Self { module, name, wanted: self.wanted.clone(), reason: self.reason.clone() }
    }
}

impl fmt::Display for ImportProblem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}: {} ({})", self.module, self.name, self.wanted, self.reason)
    }
}

fn join(problems: &[ImportProblem]) -> String {
    let texts: Vec<String> = problems.iter().map(ToString::to_string).collect();
    texts.join("; ")
}

/// The caller's mistakes.
#[derive(Debug, Clone, PartialEq, Error)]
pub enum CallError {
    /// The module exports no such name.
    #[error("no export named {name:?}")]
    NoSuchExport {
        /// The name asked for.
        name: String,
        /// What is wanted: `function`, `global`, ….
        expected: &'static str,
        /// Exports of the wanted kind, the first few.
        known: Vec<String>,
    },
    /// The export is a memory, table, global or tag.
    #[error("the export {name:?} is a {found}, not a {expected}")]
    WrongExportKind {
        /// The export's name.
        name: String,
        /// What is wanted: `function`, `memory`, ….
        expected: &'static str,
        /// What it is.
        found: &'static str,
    },
    /// Too many or too few values.
    #[error("expected {expected} values ({signature}), got {given}")]
    Arity {
        /// How many the signature wants.
        expected: usize,
        /// How many were given.
        given: usize,
        /// The signature, in the text format's words.
        signature: String,
    },
    /// A value of the wrong type, or out of its range.
    #[error("value {index} must be {expected}, got {given}")]
    Type {
        /// Position, counted from 0.
        index: usize,
        /// What the type takes.
        expected: String,
        /// What was given, shortened.
        given: String,
    },
    /// Several of a component's functions are called so.
    #[error("several functions are exported as {name:?}")]
    AmbiguousExport {
        /// The name asked for.
        name: String,
        /// Their whole names.
        known: Vec<String>,
    },
    /// A part of a value is not of its type.
    #[error("{path}: expected {expected}, got {given}")]
    Part {
        /// Which argument or result it is in, counted from 0.
        index: usize,
        /// Where it stands in that.
        path: String,
        /// What its type takes.
        expected: String,
        /// What was given, shortened.
        given: String,
    },
    /// A component, where only a module will do.
    #[error("it is a component: {0}")]
    Component(&'static str),
    /// A component was called by a host function that it had called.
    #[error("{called:?} was called while the component waits for {open:?}")]
    Reentrant {
        /// The function that was to be called.
        called: String,
        /// The host function that it waits for.
        open: String,
    },
    /// Another call runs on this instance.
    #[error("the instance is busy with another call")]
    Busy,
    /// An earlier call trapped or was cut off in the middle.
    #[error("the instance is poisoned: an earlier call did not end well")]
    Poisoned {
        /// How that ended, where it is known.
        by: Option<Arc<str>>,
    },
    /// The instance was closed.
    #[error("the instance is closed")]
    Closed,
    /// The live guest has no such member.
    #[error("the instance has no member {0}")]
    NoSuchMember(u32),
    /// The instance was not made to be captured, or its state cannot be.
    #[error("no snapshot can be made: {0}")]
    NoSnapshot(String),
    /// A memory cannot have that many pages more.
    #[error("the memory cannot grow by {pages} pages")]
    CannotGrow {
        /// How many were asked for.
        pages: u64,
        /// The memory's own maximum in pages.
        maximum: Option<u64>,
    },
    /// A table has no element there.
    #[error("the table {name:?} has {size} elements, and none at {index}")]
    NoSuchElement {
        /// The table's export name.
        name: String,
        /// The index asked for.
        index: u64,
        /// How many elements there are.
        size: u64,
    },
    /// A module that joins a live guest was loaded for another kind of engine.
    #[error("the module is for another engine ({theirs}) than the instance that it is to join ({ours})")]
    OtherEngine {
        /// What the instance was made for.
        ours: String,
        /// What the module was loaded for.
        theirs: String,
    },
    /// A module that needs more than a pool's slots hold cannot join a guest that lives in one.
    #[error("the module needs more than the pool's slots hold in which the instance lives that it is to join")]
    NotForPool,
    /// A module that joins a live guest is granted other things than the guest's own.
    #[error("the module is granted another system than the instance has that it is to join")]
    OtherGrants,
    /// A directory that the guest is granted cannot be opened.
    #[error("the directory {host}, granted as {guest}, cannot be opened: {detail}")]
    NoDirectory {
        /// Where it should be.
        host: String,
        /// What the guest would call it.
        guest: String,
        /// The operating system's words.
        detail: String,
    },
    /// A function reference comes from another store.
    #[error("the function reference is another instance's, or from before a reset")]
    OtherInstance,
    /// A host function's context was used after its call had returned.
    #[error("the host call that this context belongs to is over")]
    StaleContext,
    /// A read or write beyond the end of a memory.
    #[error("{offset} + {length} bytes is outside a memory of {size} bytes")]
    OutOfBounds {
        /// First byte.
        offset: u64,
        /// How many bytes.
        length: u64,
        /// The memory's size in bytes.
        size: u64,
    },
    /// The module has no memory of that name.
    #[error("no memory is exported as {0:?}")]
    NoMemory(String),
    /// A function cannot be what an ABI says that it is.
    #[error("the function {name:?} is {found}, and the ABI wants {expected}")]
    NotByAbi {
        /// Its export name.
        name: String,
        /// Its type, in the text format's words.
        found: String,
        /// What it should have.
        expected: String,
    },
    /// An argument is bytes, and the ABI names no function that makes room for them.
    #[error("the ABI names no allocator")]
    NoAllocator,
}

/// What a guest gave that is called by an ABI, and that cannot be.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum AbiError {
    /// Its allocator gave a null pointer.
    #[error("{export:?} has given no room for {length} bytes")]
    NoRoom {
        /// The allocator's export name.
        export: String,
        /// How many bytes were asked for.
        length: u64,
    },
    /// A pointer, or a length with it, leads out of its memory.
    #[error("{export:?} has given {length} bytes at {offset}, outside a memory of {size} bytes")]
    OutOfBounds {
        /// The export name of the function that gave them.
        export: String,
        /// First byte.
        offset: u64,
        /// How many bytes.
        length: u64,
        /// The memory's size in bytes.
        size: u64,
    },
    /// No zero byte ends a string.
    #[error("{export:?} has given a string at {offset} that does not end within a memory of {size} bytes")]
    Unterminated {
        /// The export name of the function that gave it.
        export: String,
        /// First byte.
        offset: u64,
        /// The memory's size in bytes.
        size: u64,
    },
    /// A plugin says that it has failed, or gave a result that says so.
    #[error("{export:?} reports an error")]
    Reported {
        /// The export name of the function that was called.
        export: String,
        /// What the function gave, where that is a number.
        code: Option<i64>,
        /// What it says.
        text: Vec<u8>,
    },
    /// An object of AssemblyScript's is none that holds bytes.
    #[error("{export:?} has given an object at {offset} that is no string and no array of bytes")]
    NotManaged {
        /// The export name of the function that gave it.
        export: String,
        /// Where it is.
        offset: u64,
        /// The number of its class, as its header has it.
        id: u64,
        /// Its size in bytes.
        length: u64,
    },
}

/// A trap: the guest did what the specification forbids.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Trap {
    /// Snake-case code, from a fixed set: see `guest/failure.rs`.
    pub code: &'static str,
    /// The trap's text.
    pub message: String,
    /// Innermost frame first.
    pub frames: Vec<Frame>,
    /// The import that was called and that nothing was given for, as module and name.
    pub import: Option<Box<(String, String)>>,
    /// The guest is a program whose entry had not been called: what it sets up was not there.
    pub unstarted: bool,
    /// What nobody caught, where that is the trap.
    pub exception: Option<Box<Exception>>,
}

/// An exception that left the guest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Exception {
    /// The name that the guest's first instance exports its tag by.
    pub tag: Option<String>,
    /// Its first values, each with its type before it.
    pub payload: Vec<String>,
}

impl fmt::Display for Exception {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.tag {
            Some(tag) => write!(f, "tag {tag:?}")?,
            None => write!(f, "a tag without a name")?,
        }
        if self.payload.is_empty() { Ok(()) } else { write!(f, " with {}", self.payload.join(", ")) }
    }
}

impl fmt::Display for Trap {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the guest trapped: {}", self.message)?;
        self.exception.as_ref().map_or(Ok(()), |exception| write!(f, ": {exception}"))
    }
}

impl std::error::Error for Trap {}

/// One frame of a WebAssembly backtrace.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Frame {
    /// The function's index in its module.
    pub function: u32,
    /// Its name from the name section.
    pub name: Option<String>,
    /// Byte offset of the instruction in the module.
    pub offset: Option<u64>,
}

/// What a limit bounds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Limit {
    /// Fuel of one call.
    Fuel,
    /// Wall-clock time of one call, in milliseconds.
    Time,
    /// Bytes of all memories and tables of one guest.
    Memory,
    /// Table elements of one guest.
    TableElements,
    /// Instances in one guest.
    Instances,
    /// Bytes of WebAssembly stack.
    Stack,
    /// Bytes of output of one call.
    Output,
    /// Host calls of one call.
    HostCalls,
    /// Bytes of values that a component passes to the host at once.
    Transfer,
    /// Handles on resources of a component.
    Resources,
    /// Bytes of a plugin's variables.
    Variables,
    /// Host calls of one call that are open at once, one inside the other.
    Reentrance,
    /// Live guests on this node.
    LiveInstances,
    /// Bytes of memory of all guests on this node.
    TotalMemory,
    /// Bytes of compiled code on this node.
    CodeMemory,
    /// Files and directories that guests of this node have open.
    OpenFiles,
    /// Bytes resident in the process that compiles a module.
    CompileMemory,
    /// Processor time of compiling a module, in milliseconds.
    CompileTime,
    /// Bytes of sources that wait to be compiled on this node.
    CompileQueue,
    /// Bytes of address space of this process.
    AddressSpace,
    /// Memory mappings of this process.
    Mappings,
}

impl Limit {
    /// The limit's snake-case name: its option without `max_`, where it has one.
    pub fn name(self) -> &'static str {
        match self {
            Limit::Fuel => "fuel",
            Limit::Time => "timeout",
            Limit::Memory => "memory",
            Limit::TableElements => "table_elements",
            Limit::Instances => "instances",
            Limit::Stack => "stack",
            Limit::Output => "output",
            Limit::HostCalls => "host_calls",
            Limit::Transfer => "transfer",
            Limit::Resources => "resources",
            Limit::Variables => "variables",
            Limit::Reentrance => "reentrance",
            Limit::LiveInstances => "live_instances",
            Limit::TotalMemory => "total_memory",
            Limit::CodeMemory => "code_memory",
            Limit::OpenFiles => "open_files",
            Limit::CompileMemory => "compile_memory",
            Limit::CompileTime => "compile_time",
            Limit::CompileQueue => "compile_queue",
            Limit::AddressSpace => "address_space",
            Limit::Mappings => "mappings",
        }
    }

    /// Whose fault it is where it strikes. A guest makes no instances: those that are too many the caller has linked.
    fn blame(self) -> Blame {
        match self {
            Limit::Instances => Blame::Caller,
            Limit::LiveInstances
            | Limit::TotalMemory
            | Limit::CodeMemory
            | Limit::OpenFiles
            | Limit::CompileQueue
            | Limit::AddressSpace
            | Limit::Mappings => Blame::Node,
            Limit::Fuel
            | Limit::Time
            | Limit::Memory
            | Limit::TableElements
            | Limit::Stack
            | Limit::Output
            | Limit::HostCalls
            | Limit::Transfer
            | Limit::Resources
            | Limit::Variables
            | Limit::Reentrance
            | Limit::CompileMemory
            | Limit::CompileTime => Blame::Guest,
        }
    }
}

/// What a call waited for that was not its guest's doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Waiting {
    /// A module to be compiled.
    Compile,
    /// Its turn: on the node, or on an instance that another call had.
    Turn,
}

impl Waiting {
    /// What it waited for, in one word.
    pub fn name(self) -> &'static str {
        match self {
            Waiting::Compile => "compile",
            Waiting::Turn => "wait",
        }
    }
}

/// A limit struck: which, what it allowed, and what was used or asked for when it did.
#[derive(Debug, Clone, PartialEq, Error, Serialize, Deserialize)]
#[error("the {} limit was reached: {allowed} allowed", .limit.name())]
pub struct LimitError {
    /// Which limit.
    pub limit: Limit,
    /// What it allows, in the limit's unit.
    pub allowed: u64,
    /// What was used, or what the refused request would have made it.
    pub used: u64,
    /// What the call waited for when it struck.
    pub during: Option<Waiting>,
}

impl LimitError {
    /// A limit that struck.
    pub fn new(limit: Limit, allowed: u64, used: u64) -> Self {
        Self { limit, allowed, used, during: None }
    }

    /// Whose fault it is.
    pub fn blame(&self) -> Blame {
        if self.during.is_some() { Blame::Node } else { self.limit.blame() }
    }

    /// The operating system has given no more memory: how much of it there may be is either bounded for this process, or how many
    /// pieces it is in. Of either no more is known than that all of it is used.
    pub(crate) fn of_system() -> Self {
        let (limit, allowed) = match rustix::process::getrlimit(rustix::process::Resource::As).current {
            Some(bytes) => (Limit::AddressSpace, bytes),
            None => (Limit::Mappings, most_mappings()),
        };
        Self::new(limit, allowed, allowed)
    }
}

/// Memory mappings that the kernel allows a process.
pub(crate) fn most_mappings() -> u64 {
    const LINUX_DEFAULT: u64 = 65_530;
    let read = std::fs::read_to_string("/proc/sys/vm/max_map_count").ok();
    read.and_then(|text| text.trim().parse().ok()).unwrap_or(LINUX_DEFAULT)
}
