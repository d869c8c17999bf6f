//! Errors as `{kind, fields}`: Elixir makes the struct of that kind from the fields.

use super::{atom, binary, map};
use crate::atoms;
use cybernetic_wasm_core::Error;
use cybernetic_wasm_core::error::{
    AbiError, AnswerError, CallError, Exception, Frame, ImportProblem, LimitError, LoadError, Trap,
};
use rustler::{Encoder, Env, Term};

pub(crate) fn encode<'a>(env: Env<'a>, error: &Error) -> Term<'a> {
    let fields = match error {
        Error::Load(error) => load(env, error),
        Error::Link(problems) => link(env, problems),
        Error::Call(error) => call(env, error),
        Error::Abi(error) => abi(env, error),
        Error::Answer(error) => answer(env, error),
        Error::Trap(trap) => self::trap(env, trap),
        Error::Limit(error) => limit(env, error),
        Error::Exit(code) => map(env, &[("exit_code", code.encode(env))]),
        Error::Host | Error::Cancelled => Term::map_new(env),
        Error::Internal(detail) => map(env, &[("detail", detail.encode(env))]),
    };
    let blamed = fields.map_put(atom(env, "blame"), atom(env, error.blame().name()));
    (atom(env, error.kind()), blamed.unwrap_or(fields)).encode(env)
}

/// `{:refused, error}`: a command or argument that was never carried out.
pub(crate) fn refused<'a>(env: Env<'a>, error: impl Into<Error>) -> Term<'a> {
    (atoms::refused(), encode(env, &error.into())).encode(env)
}

/// `:ok`, or `{:refused, error}`.
pub(crate) fn done<'a>(env: Env<'a>, result: Result<(), impl Into<Error>>) -> Term<'a> {
    result.map_or_else(|failure| refused(env, failure), |()| atoms::ok().encode(env))
}

fn load<'a>(env: Env<'a>, error: &LoadError) -> Term<'a> {
    let reason = |name| ("reason", atom(env, name));
    let detail = |text: &str| ("detail", text.encode(env));
    match error {
        LoadError::NotWasm { found } => map(env, &[reason("not_wasm"), detail(found)]),
        LoadError::Invalid { offset, message } => {
            map(env, &[reason("invalid"), ("offset", offset.encode(env)), detail(message)])
        }
        LoadError::InvalidText { line, column, message } => {
            let place = [("line", line.encode(env)), ("column", column.encode(env))];
            map(env, &[reason("invalid_text"), place[0], place[1], detail(message)])
        }
        LoadError::UnsupportedFeature { feature, offset, message } => {
            let facts = [("feature", feature.encode(env)), ("offset", offset.encode(env))];
            map(env, &[reason("unsupported_feature"), facts[0], facts[1], detail(message)])
        }
        LoadError::CompilerFailed(message) => map(env, &[reason("compiler_failed"), detail(message)]),
        LoadError::Unsupported(message) => map(env, &[reason("unsupported"), detail(message)]),
    }
}

fn link<'a>(env: Env<'a>, problems: &[ImportProblem]) -> Term<'a> {
    map(env, &[("problems", encode_problems(env, problems))])
}

/// Import problems as maps.
pub(crate) fn encode_problems<'a>(env: Env<'a>, problems: &[ImportProblem]) -> Term<'a> {
    let problem = |problem: &ImportProblem| {
        map(
            env,
            &[
                ("module", problem.module.encode(env)),
                ("name", problem.name.encode(env)),
                ("wanted", problem.wanted.encode(env)),
                ("reason", problem.reason.as_ref().encode(env)),
            ],
        )
    };
    problems.iter().map(problem).collect::<Vec<_>>().encode(env)
}

fn call<'a>(env: Env<'a>, error: &CallError) -> Term<'a> {
    let reason = |name| ("reason", atom(env, name));
    match error {
        CallError::NoSuchExport { name, expected, known } => {
            let names = [("export", name.encode(env)), ("known", known.encode(env))];
            map(env, &[reason("no_such_export"), names[0], names[1], ("expected", expected.encode(env))])
        }
        CallError::WrongExportKind { name, expected, found } => {
            let kinds = [("expected", expected.encode(env)), ("given", found.encode(env))];
            map(env, &[reason("wrong_export_kind"), ("export", name.encode(env)), kinds[0], kinds[1]])
        }
        CallError::Arity { expected, given, signature } => {
            let numbers = [("expected", expected.encode(env)), ("given", given.encode(env))];
            map(env, &[reason("arity"), numbers[0], numbers[1], ("signature", signature.encode(env))])
        }
        CallError::Type { index, expected, given } => {
            let types = [("expected", expected.encode(env)), ("given", given.encode(env))];
            map(env, &[reason("type"), ("index", index.encode(env)), types[0], types[1]])
        }
        CallError::Part { index, path, expected, given } => {
            let place = [("index", index.encode(env)), ("path", path.encode(env))];
            map(
                env,
                &[reason("type"), place[0], place[1], ("expected", expected.encode(env)), ("given", given.encode(env))],
            )
        }
        CallError::AmbiguousExport { name, known } => {
            map(env, &[reason("ambiguous_export"), ("export", name.encode(env)), ("known", known.encode(env))])
        }
        CallError::Component(detail) => map(env, &[reason("component"), ("detail", detail.encode(env))]),
        CallError::Reentrant { called, open } => {
            map(env, &[reason("reentrant"), ("export", called.encode(env)), ("detail", open.encode(env))])
        }
        CallError::Busy => map(env, &[reason("busy")]),
        CallError::Poisoned { by } => map(env, &[reason("poisoned"), ("detail", by.as_deref().encode(env))]),
        CallError::Closed => map(env, &[reason("closed")]),
        CallError::NoSuchMember(member) => map(env, &[reason("no_such_member"), ("member", member.encode(env))]),
        CallError::NoSnapshot(detail) => map(env, &[reason("no_snapshot"), ("detail", detail.encode(env))]),
        CallError::CannotGrow { pages, maximum } => {
            let numbers = [("pages", pages.encode(env)), ("maximum", maximum.encode(env))];
            map(env, &[reason("cannot_grow"), numbers[0], numbers[1]])
        }
        CallError::NoSuchElement { name, index, size } => {
            let place = [("export", name.encode(env)), ("index", index.encode(env))];
            map(env, &[reason("no_such_element"), place[0], place[1], ("size", size.encode(env))])
        }
        CallError::NoDirectory { host, guest, detail } => {
            let names = [("host_path", host.encode(env)), ("guest_path", guest.encode(env))];
            map(env, &[reason("no_directory"), names[0], names[1], ("detail", detail.encode(env))])
        }
        CallError::OtherGrants => map(env, &[reason("other_grants")]),
        CallError::NotForPool => map(env, &[reason("not_for_pool")]),
        CallError::OtherEngine { ours, theirs } => {
            let engines = [("instance_options", ours.encode(env)), ("module_options", theirs.encode(env))];
            map(env, &[reason("other_engine"), engines[0], engines[1]])
        }
        CallError::OtherInstance => map(env, &[reason("other_instance")]),
        CallError::StaleContext => map(env, &[reason("stale_context")]),
        CallError::OutOfBounds { offset, length, size } => {
            let range = [("offset", offset.encode(env)), ("length", length.encode(env))];
            map(env, &[reason("out_of_bounds"), range[0], range[1], ("size", size.encode(env))])
        }
        CallError::NoMemory(name) => map(env, &[reason("no_memory"), ("export", name.encode(env))]),
        CallError::NotByAbi { name, found, expected } => {
            let facts = [("export", name.encode(env)), ("given", found.encode(env))];
            map(env, &[reason("not_by_abi"), facts[0], facts[1], ("expected", expected.encode(env))])
        }
        CallError::NoAllocator => map(env, &[reason("no_allocator")]),
    }
}

fn abi<'a>(env: Env<'a>, error: &AbiError) -> Term<'a> {
    let reason = |name| ("reason", atom(env, name));
    match error {
        AbiError::NoRoom { export, length } => {
            map(env, &[reason("no_room"), ("export", export.encode(env)), ("length", length.encode(env))])
        }
        AbiError::OutOfBounds { export, offset, length, size } => {
            let range = [("offset", offset.encode(env)), ("length", length.encode(env)), ("size", size.encode(env))];
            map(env, &[reason("out_of_bounds"), ("export", export.encode(env)), range[0], range[1], range[2]])
        }
        AbiError::Unterminated { export, offset, size } => {
            let place = [("offset", offset.encode(env)), ("size", size.encode(env))];
            map(env, &[reason("unterminated"), ("export", export.encode(env)), place[0], place[1]])
        }
        AbiError::Reported { export, code, text } => {
            let said = [("code", code.encode(env)), ("detail", binary(env, text))];
            map(env, &[reason("reported"), ("export", export.encode(env)), said[0], said[1]])
        }
        AbiError::NotManaged { export, offset, id, length } => {
            let object = [("offset", offset.encode(env)), ("class", id.encode(env)), ("length", length.encode(env))];
            map(env, &[reason("not_managed"), ("export", export.encode(env)), object[0], object[1], object[2]])
        }
    }
}

fn answer<'a>(env: Env<'a>, error: &AnswerError) -> Term<'a> {
    let reason = |name| ("reason", atom(env, name));
    match error {
        AnswerError::None => map(env, &[reason("no_answer")]),
        AnswerError::Refused(code) => map(env, &[reason("refused"), ("detail", code.encode(env))]),
        AnswerError::Unfinished => map(env, &[reason("unfinished")]),
    }
}

fn trap<'a>(env: Env<'a>, trap: &Trap) -> Term<'a> {
    let frame = |frame: &Frame| {
        map(
            env,
            &[
                ("function", frame.function.encode(env)),
                ("name", frame.name.encode(env)),
                ("offset", frame.offset.encode(env)),
            ],
        )
    };
    let frames: Vec<_> = trap.frames.iter().map(frame).collect();
    let facts = [("code", atom(env, trap.code)), ("detail", trap.message.encode(env)), ("frames", frames.encode(env))];
    let thrown = trap.exception.as_ref().map(|thrown| exception(env, thrown));
    let more = [("import", trap.import.as_deref().encode(env)), ("unstarted", trap.unstarted.encode(env))];
    map(env, &[facts[0], facts[1], facts[2], more[0], more[1], ("exception", thrown.encode(env))])
}

fn exception<'a>(env: Env<'a>, thrown: &Exception) -> Term<'a> {
    map(env, &[("tag", thrown.tag.encode(env)), ("payload", thrown.payload.encode(env))])
}

fn limit<'a>(env: Env<'a>, error: &LimitError) -> Term<'a> {
    let mut fields = vec![
        ("limit", atom(env, error.limit.name())),
        ("allowed", error.allowed.encode(env)),
        ("used", error.used.encode(env)),
    ];
    if let Some(waiting) = error.during {
        fields.push(("during", atom(env, waiting.name())));
    }
    map(env, &fields)
}
