//! A component that answers requests, and sends some: what the driver is asked to do for it, and in which order.

use super::{next, nothing};
use crate::support::{Loaded, PATIENCE, first, instantiate, limits, load, shared};
use bytes::Bytes;
use cybernetic_wasm_core::Error;
use cybernetic_wasm_core::code::HANDLER;
use cybernetic_wasm_core::error::{AnswerError, Limit};
use cybernetic_wasm_core::execution::{Asked, Came, Errand, Execution, Fields, NotSent, Product, Setup, Step};
use cybernetic_wasm_core::limits::Limits;
use std::path::Path;
use std::sync::Arc;

fn site() -> Loaded {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../test/fixtures/components/wasi/site.wasm");
    load(shared(), std::fs::read(path).unwrap())
}

fn asked(path: &str, body: Option<&[u8]>) -> Asked {
    let url = format!("http://localhost{path}");
    let headers = vec![("x-url".to_owned(), b"http://example.com/a?b".to_vec())];
    Asked { method: "POST".into(), url, headers, body: body.map(<[u8]>::to_vec) }
}

fn handle(path: &str, body: Option<&[u8]>) -> Execution {
    handle_within(path, body, limits())
}

fn handle_within(path: &str, body: Option<&[u8]>, limits: Limits) -> Execution {
    let site = site();
    let setup = Setup { grants: Some(Arc::new(nothing())), ..site.setup(limits) };
    Execution::handle(&site.module, &site.function(HANDLER).unwrap(), asked(path, body), setup)
}

/// What is to be done next.
fn errand(execution: &mut Execution) -> Errand {
    match next(execution) {
        Step::Http(errand) => errand,
        other => panic!("no errand: {other:?}"),
    }
}

fn failure(execution: &mut Execution) -> Error {
    match next(execution) {
        Step::Failed(error) => error,
        other => panic!("no failure: {other:?}"),
    }
}

fn finish(execution: &mut Execution) {
    assert!(matches!(next(execution), Step::Finished(Product::Values(values)) if values.is_empty()));
}

fn piece(bytes: &'static [u8]) -> Errand {
    Errand::Piece(Bytes::from_static(bytes))
}

fn came(bytes: &'static [u8]) -> Came {
    Came::Piece(Bytes::from_static(bytes))
}

fn fields(name: &str, value: &str) -> Fields {
    vec![(name.to_owned(), value.as_bytes().to_vec())]
}

fn begun(execution: &mut Execution) {
    assert!(matches!(errand(execution), Errand::Answer { .. }));
}

#[test]
fn an_answer_comes_in_its_parts() {
    let mut execution = handle("/with-trailers", Some(b""));
    assert_eq!(errand(&mut execution), Errand::Answer { status: 200, headers: Vec::new() });
    assert_eq!(errand(&mut execution), piece(b"a body"));
    assert_eq!(errand(&mut execution), Errand::End(fields("checksum", "1f")));
    finish(&mut execution);
    assert_eq!(execution.tally().usage.output, "a body".len() as u64 + "checksum1f".len() as u64);
}

#[test]
fn a_body_is_asked_for_as_it_is_read() {
    let mut execution = handle("/echo", None);
    begun(&mut execution);
    for bytes in [&b"one"[..], b"two"] {
        assert_eq!(errand(&mut execution), Errand::Body);
        execution.errand_done(0, came(bytes));
        assert_eq!(errand(&mut execution), piece(bytes));
    }
    assert_eq!(errand(&mut execution), Errand::Body);
    // Nothing yet.
    execution.errand_done(0, came(b""));
    assert_eq!(errand(&mut execution), Errand::Body);
    execution.errand_done(0, Came::End(fields("sum", "7")));
    assert_eq!(errand(&mut execution), Errand::End(fields("sum", "7")));
    finish(&mut execution);
}

#[test]
fn a_request_that_is_sent_leaves_in_its_parts_and_its_answer_comes_back() {
    let mut execution = handle("/forward", Some(b"text"));
    let Errand::Send { number, request } = errand(&mut execution) else { panic!("nothing is sent") };
    assert_eq!((request.method.as_str(), request.url.as_str()), ("POST", "http://example.com/a?b"));
    assert_eq!((request.headers, request.has_body), (fields("x-from", "site"), true));
    assert_eq!(errand(&mut execution), Errand::Write { number, bytes: Bytes::from_static(b"text") });
    assert_eq!(errand(&mut execution), Errand::Finish { number, trailers: Vec::new() });
    assert_eq!(errand(&mut execution), Errand::Head { number });
    execution.errand_done(number, Came::Head { status: 201, headers: Vec::new() });
    assert_eq!(errand(&mut execution), Errand::Answer { status: 200, headers: fields("x-status", "201") });
    assert_eq!(errand(&mut execution), Errand::Read { number });
    execution.errand_done(number, came(b"good"));
    assert_eq!(errand(&mut execution), piece(b"good"));
    assert_eq!(errand(&mut execution), Errand::Read { number });
    execution.errand_done(number, Came::End(Vec::new()));
    assert_eq!(errand(&mut execution), Errand::End(Vec::new()));
    finish(&mut execution);
}

#[test]
fn a_body_that_has_ended_is_not_asked_for_again() {
    let mut execution = handle("/forward", None);
    let Errand::Send { number, .. } = errand(&mut execution) else { panic!("nothing is sent") };
    assert_eq!(errand(&mut execution), Errand::Body);
    execution.errand_done(0, Came::End(Vec::new()));
    assert_eq!(errand(&mut execution), Errand::Finish { number, trailers: Vec::new() });
    assert_eq!(errand(&mut execution), Errand::Head { number });
    execution.abandon();
}

#[test]
fn a_request_that_is_denied_is_told_to_the_guest_and_noted() {
    let mut execution = handle("/fetch", Some(b""));
    let Errand::Send { number, .. } = errand(&mut execution) else { panic!("nothing is sent") };
    execution.errand_done(number, Came::Failed(NotSent::Denied));
    loop {
        match errand(&mut execution) {
            Errand::Answer { status, .. } => assert_eq!(status, 502),
            Errand::Piece(bytes) => assert_eq!(bytes, "ErrorCode::HttpRequestDenied"),
            Errand::End(_) => break,
            other => assert_eq!(other, Errand::Close { number }),
        }
    }
    finish(&mut execution);
    let denials = execution.tally().denials;
    assert_eq!(denials.len(), 1);
    assert_eq!(denials[0].detail.as_deref(), Some("http://example.com/a"));
}

#[test]
fn what_is_no_answer_is_an_error() {
    assert_eq!(failure(&mut handle("/mute", Some(b""))), AnswerError::None.into());
    assert_eq!(failure(&mut handle("/refuse", Some(b""))), AnswerError::Refused("not today".into()).into());
    for path in ["/unfinished", "/leak"] {
        let mut execution = handle(path, Some(b""));
        begun(&mut execution);
        assert_eq!(errand(&mut execution), piece(b"a part"));
        assert_eq!(failure(&mut execution), AnswerError::Unfinished.into(), "{path}");
    }
}

#[test]
fn what_a_guest_puts_out_counts() {
    let mut execution = handle_within("/endless", Some(b""), Limits { max_output: 10_000, ..limits() });
    let failure = loop {
        match next(&mut execution) {
            Step::Http(_) => {}
            Step::Failed(error) => break error,
            other => panic!("{other:?}"),
        }
    };
    assert!(matches!(failure, Error::Limit(limit) if limit.limit == Limit::Output));
}

#[test]
fn nothing_runs_ahead_of_whoever_takes_the_answer() {
    let mut execution = handle("/endless", Some(b""));
    begun(&mut execution);
    let fuel = |execution: &Execution| execution.usage().fuel.unwrap();
    let before = fuel(&execution);
    for _ in 0..100 {
        assert!(matches!(errand(&mut execution), Errand::Piece(bytes) if bytes.len() == 4_096));
    }
    // A few pieces are ahead, and no more.
    assert!(fuel(&execution) - before < 10_000_000);
    execution.abandon();
}

#[test]
fn a_live_instance_answers_again_after_it_has_not() {
    let site = site();
    let guest = instantiate(&site, limits()).unwrap();
    let function = site.function(HANDLER).unwrap();
    let handle = |path| Execution::handle_on(first(&guest), &function, asked(path, Some(b"")), limits()).unwrap();
    assert_eq!(failure(&mut handle("/mute")), AnswerError::None.into());
    for count in ["1", "2"] {
        let mut execution = handle("/count");
        begun(&mut execution);
        assert_eq!(errand(&mut execution), Errand::Piece(Bytes::copy_from_slice(count.as_bytes())));
        assert_eq!(errand(&mut execution), Errand::End(Vec::new()));
        finish(&mut execution);
    }
}

#[test]
fn a_request_of_a_call_that_is_over_is_closed() {
    let mut execution = handle("/fetch", Some(b""));
    let Errand::Send { number, .. } = errand(&mut execution) else { panic!("nothing is sent") };
    execution.abandon();
    execution.errand_done(number, Came::Head { status: 200, headers: Vec::new() });
    assert!(matches!(execution.step(cybernetic_wasm_core::lane::Lane::Dirty), Step::Failed(Error::Cancelled)));
    assert!(execution.time_left() <= PATIENCE);
}
