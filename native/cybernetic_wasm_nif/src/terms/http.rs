//! HTTP of a guest: requests and what there is to do for them.

use super::{Optional, atom, binary};
use crate::atoms;
use cybernetic_wasm_core::execution::{Asked, Came, Errand, Fields, NotSent, Request};
use rustler::{Atom, Binary, Decoder, Encoder, Env, NifRecord, NifResult, Term};
use std::time::Duration;

/// Names and values.
struct FieldList(Fields);

impl<'a> Decoder<'a> for FieldList {
    fn decode(term: Term<'a>) -> NifResult<Self> {
        let fields: Vec<(String, Binary<'a>)> = term.decode()?;
        Ok(Self(fields.into_iter().map(|(name, value)| (name, value.to_vec())).collect()))
    }
}

fn fields<'a>(env: Env<'a>, fields: &Fields) -> Term<'a> {
    fields.iter().map(|(name, value)| (name, binary(env, value))).collect::<Vec<_>>().encode(env)
}

/// A request that a guest is to answer, as `Cybernetic.WASM.HTTP.Asked` gives it.
#[derive(NifRecord)]
#[tag = "asked"]
#[rustler(decode)]
pub(crate) struct AskedRecord<'a> {
    method: String,
    url: String,
    headers: FieldList,
    /// `nil` for one that is pulled.
    body: Optional<Binary<'a>>,
}

impl AskedRecord<'_> {
    /// Bytes that are copied of it.
    pub(crate) fn bytes(&self) -> u64 {
        self.body.0.as_ref().map_or(0, |body| body.len() as u64)
    }
}

impl From<AskedRecord<'_>> for Asked {
    fn from(record: AskedRecord<'_>) -> Self {
        let AskedRecord { method, url, headers, body } = record;
        Self { method, url, headers: headers.0, body: body.0.map(|body| body.to_vec()) }
    }
}

/// What there is to do.
pub(crate) fn encode<'a>(env: Env<'a>, errand: &Errand) -> Term<'a> {
    let named = |name| atom(env, name);
    match errand {
        Errand::Answer { status, headers } => (named("answer"), status, fields(env, headers)).encode(env),
        Errand::Piece(bytes) => (named("piece"), binary(env, bytes)).encode(env),
        Errand::End(trailers) => (named("end"), fields(env, trailers)).encode(env),
        Errand::Body => named("body"),
        Errand::Send { number, request } => (named("send"), number, encode_request(env, request)).encode(env),
        Errand::Write { number, bytes } => (named("write"), number, binary(env, bytes)).encode(env),
        Errand::Finish { number, trailers } => (named("finish"), number, fields(env, trailers)).encode(env),
        Errand::Head { number } => (named("head"), number).encode(env),
        Errand::Read { number } => (named("read"), number).encode(env),
        Errand::Close { number } => (named("close"), number).encode(env),
    }
}

/// Times in milliseconds.
fn encode_request<'a>(env: Env<'a>, request: &Request) -> Term<'a> {
    let time = |time: Option<Duration>| time.map(|time| u64::try_from(time.as_millis()).unwrap_or(u64::MAX));
    let [connect, first] = request.timeouts.map(time);
    let headers = fields(env, &request.headers);
    (&request.method, &request.url, headers, request.has_body, connect, first).encode(env)
}

/// What came of it: `{:head, status, headers}`, `{:piece, bytes}`, `{:end, trailers}` or `{:failed, why}`.
pub(crate) fn decode(term: Term<'_>) -> NifResult<Came> {
    if let Ok((_, status, headers)) = term.decode::<(Atom, u16, FieldList)>() {
        return Ok(Came::Head { status, headers: headers.0 });
    }
    let (what, of): (Atom, Term<'_>) = term.decode()?;
    if what == atoms::failed() {
        return Ok(Came::Failed(why(&of.atom_to_string()?)));
    }
    match of.decode::<Binary<'_>>() {
        Ok(bytes) => Ok(Came::Piece(bytes.to_vec().into())),
        Err(_) => Ok(Came::End(of.decode::<FieldList>()?.0)),
    }
}

fn why(name: &str) -> NotSent {
    match name {
        "denied" => NotSent::Denied,
        "invalid" => NotSent::Invalid,
        "unresolved" => NotSent::Unresolved,
        "unreachable" => NotSent::Unreachable,
        "tls" => NotSent::Tls,
        "resolve_timeout" => NotSent::ResolveTimeout,
        "connect_timeout" => NotSent::ConnectTimeout,
        "send_timeout" => NotSent::SendTimeout,
        "receive_timeout" => NotSent::ReceiveTimeout,
        "too_large" => NotSent::TooLarge,
        "truncated" => NotSent::Truncated,
        _ => NotSent::Protocol,
    }
}
