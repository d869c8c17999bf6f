//! Requests that a guest sends. They leave it for the driver, who holds them to the network rules and sends them by the library's
//! own client; what is awaited here is what came of that.

use super::super::entry::{push, system, table};
use super::{Parts, begin};
use crate::invocation::{Awaited, Request};
use crate::store::StoreData;
use http_body_util::BodyExt;
use std::sync::Arc;
use wasmtime::component::Resource;
use wasmtime_wasi_http::p2::bindings::http::outgoing_handler;
use wasmtime_wasi_http::p2::bindings::http::types::{
    DnsErrorPayload, ErrorCode, Method, RequestOptions, Scheme, TlsAlertReceivedPayload,
};
use wasmtime_wasi_http::p2::body::HostIncomingBody;
use wasmtime_wasi_http::p2::types::{HostFutureIncomingResponse, HostIncomingResponse, HostOutgoingRequest};
use wasmtime_wasi_http::p2::{HttpError, HttpResult};
use wasmtime_wasi_http::{Error, FieldMap};

/// What we keep of an answer that is awaited, in the place of what `wasmtime-wasi-http` would.
pub(super) fn awaited(future: &Resource<HostFutureIncomingResponse>) -> Resource<Awaited> {
    Resource::new_borrow(future.rep())
}

/// The same, given up by the guest.
pub(super) fn owned(future: &Resource<HostFutureIncomingResponse>) -> Resource<Awaited> {
    Resource::new_own(future.rep())
}

impl outgoing_handler::Host for StoreData {
    fn handle(
        &mut self,
        request: Resource<HostOutgoingRequest>,
        options: Option<Resource<RequestOptions>>,
    ) -> HttpResult<Resource<HostFutureIncomingResponse>> {
        begin(self, Parts::Same).map_err(HttpError::trap)?;
        let options = options.map(|options| taken(self, options)).transpose().map_err(HttpError::trap)?;
        let mut asked = table(self).map_err(HttpError::trap)?.delete(request)?;
        let body = asked.body.take();
        let request = sent(asked, options.unwrap_or_default(), body.is_some());
        let http = Arc::clone(self.invocation.http());
        let awaited = request.and_then(|request| http.send(request, body).ok_or(ErrorCode::ConnectionLimitReached));
        if awaited.is_err() {
            begin(self, Parts::Less(1)).map_err(HttpError::trap)?;
        }
        // The request's part is the answer's from now on.
        let awaited = push(self, awaited?).map_err(HttpError::trap)?;
        Ok(Resource::new_own(awaited.rep()))
    }
}

fn taken(data: &mut StoreData, options: Resource<RequestOptions>) -> wasmtime::Result<RequestOptions> {
    begin(data, Parts::Less(1))?;
    Ok(table(data)?.delete(options)?)
}

/// The request as the driver takes it. What the guest has put together has been looked at part by part; that makes no URL yet.
fn sent(asked: HostOutgoingRequest, options: RequestOptions, has_body: bool) -> Result<Request, ErrorCode> {
    let scheme = match &asked.scheme {
        Some(Scheme::Http) => "http",
        None | Some(Scheme::Https) => "https",
        Some(Scheme::Other(_)) => return Err(ErrorCode::HttpProtocolError),
    };
    let authority = asked.authority.filter(|authority| !authority.is_empty());
    let authority = authority.ok_or(ErrorCode::HttpRequestUriInvalid)?;
    let path = asked.path_with_query.unwrap_or_default();
    let headers = asked.headers.iter();
    Ok(Request {
        method: named(asked.method),
        url: format!("{scheme}://{authority}{path}"),
        headers: headers.map(|(name, value)| (name.as_str().to_owned(), value.as_bytes().to_vec())).collect(),
        has_body,
        timeouts: [options.connect_timeout, options.first_byte_timeout],
    })
}

fn named(method: Method) -> String {
    match method {
        Method::Get => "GET".into(),
        Method::Head => "HEAD".into(),
        Method::Post => "POST".into(),
        Method::Put => "PUT".into(),
        Method::Delete => "DELETE".into(),
        Method::Connect => "CONNECT".into(),
        Method::Options => "OPTIONS".into(),
        Method::Trace => "TRACE".into(),
        Method::Patch => "PATCH".into(),
        Method::Other(name) => name,
    }
}

/// An answer as the interface gives it: nothing before it is there, and an error of its own where it was taken before.
pub(super) type Got = Option<Result<Result<Resource<HostIncomingResponse>, ErrorCode>, ()>>;

/// The answer, once it is there.
pub(super) fn take(data: &mut StoreData, future: &Resource<HostFutureIncomingResponse>) -> wasmtime::Result<Got> {
    let awaited = table(data)?.get_mut(&awaited(future))?;
    if awaited.is_taken() {
        return Ok(Some(Err(())));
    }
    let (status, headers, body) = match awaited.take() {
        None => return Ok(None),
        Some(Err(error)) => return Ok(Some(Ok(Err(code_of(&error))))),
        Some(Ok(answer)) => answer,
    };
    begin(data, Parts::One)?;
    let view = system(data)?.http()?;
    let headers = FieldMap::new_immutable(view.hooks, headers);
    let body = Some(HostIncomingBody::new(body.boxed_unsync()));
    let response = view.table.push(HostIncomingResponse { status, headers, body })?;
    Ok(Some(Ok(Ok(response))))
}

/// An error's code in the interface, of those that the driver gives.
pub(super) fn code_of(error: &Error) -> ErrorCode {
    match error {
        Error::HttpRequestDenied => ErrorCode::HttpRequestDenied,
        Error::DnsError { .. } => ErrorCode::DnsError(DnsErrorPayload { rcode: None, info_code: None }),
        Error::DnsTimeout => ErrorCode::DnsTimeout,
        Error::ConnectionRefused => ErrorCode::ConnectionRefused,
        Error::ConnectionTimeout => ErrorCode::ConnectionTimeout,
        Error::ConnectionWriteTimeout => ErrorCode::ConnectionWriteTimeout,
        Error::ConnectionTerminated => ErrorCode::ConnectionTerminated,
        Error::HttpResponseTimeout => ErrorCode::HttpResponseTimeout,
        Error::HttpResponseBodySize(size) => ErrorCode::HttpResponseBodySize(*size),
        Error::HttpResponseIncomplete => ErrorCode::HttpResponseIncomplete,
        Error::TlsProtocolError => ErrorCode::TlsProtocolError,
        Error::TlsCertificateError => ErrorCode::TlsCertificateError,
        Error::TlsAlertReceived { .. } => {
            ErrorCode::TlsAlertReceived(TlsAlertReceivedPayload { alert_id: None, alert_message: None })
        }
        _ => ErrorCode::HttpProtocolError,
    }
}
