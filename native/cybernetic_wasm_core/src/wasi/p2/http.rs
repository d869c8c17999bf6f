//! `wasi:http`: what a component says of the messages that it takes and makes. `wasmtime-wasi-http` does that; a request that is
//! sent leaves the guest for the driver (`http/outgoing.rs`), and one that it is to answer comes from there (`http/incoming.rs`).

mod incoming;
mod outgoing;

pub(crate) use incoming::receive;

use super::add;
use super::entry::{count, system, table};
use crate::store::StoreData;
use wasmtime::component::{Linker, Resource};
use wasmtime_wasi::p2::{DynInputStream, DynOutputStream, DynPollable, IoError};
use wasmtime_wasi_http::FieldMap;
use wasmtime_wasi_http::p2::bindings::http::types::{Duration, ErrorCode, Method, RequestOptions, Scheme, StatusCode};
use wasmtime_wasi_http::p2::bindings::http::{outgoing_handler, types};
use wasmtime_wasi_http::p2::body::{HostFutureTrailers, HostIncomingBody, HostOutgoingBody};
use wasmtime_wasi_http::p2::types::{
    HostFutureIncomingResponse, HostIncomingRequest, HostIncomingResponse, HostOutgoingRequest, HostOutgoingResponse,
    HostResponseOutparam,
};
use wasmtime_wasi_http::p2::{HeaderError, HeaderResult, HttpError, HttpResult};

type Fields = Resource<FieldMap>;
type Outcome<T> = wasmtime::Result<Result<T, ()>>;

pub(super) fn add_to_linker(linker: &mut Linker<StoreData>) -> wasmtime::Result<()> {
    add!(linker: outgoing_handler);
    let options = types::LinkOptions::default();
    types::add_to_linker::<StoreData, wasmtime::component::HasSelf<StoreData>>(linker, &options, |data| data)
}

/// What ends the guest where its function has an error of its own to give.
trait Trapped {
    fn trapped(error: wasmtime::Error) -> Self;
}

impl Trapped for wasmtime::Error {
    fn trapped(error: wasmtime::Error) -> Self {
        error
    }
}

impl Trapped for HeaderError {
    fn trapped(error: wasmtime::Error) -> Self {
        Self::trap(error)
    }
}

impl Trapped for HttpError {
    fn trapped(error: wasmtime::Error) -> Self {
        Self::trap(error)
    }
}

/// Whether a call makes a part of a message, or lets go of some.
#[derive(Clone, Copy)]
enum Parts {
    Same,
    One,
    Less(u32),
}

/// Counts a call, and what it makes.
fn begin(data: &mut StoreData, parts: Parts) -> wasmtime::Result<()> {
    // Who drops what it has does no more than it has to.
    if !matches!(parts, Parts::Less(_)) {
        count(data)?;
    }
    match parts {
        Parts::Same => Ok(()),
        Parts::One => Ok(system(data)?.more_http()?),
        Parts::Less(number) => {
            let system = system(data)?;
            (0..number).for_each(|_| system.less_http());
            Ok(())
        }
    }
}

/// Whether a call has made what it was to make.
trait Made {
    fn is_made(&self) -> bool;
}

impl<T: 'static, E> Made for Result<Resource<T>, E> {
    fn is_made(&self) -> bool {
        self.is_ok()
    }
}

impl<T: 'static, E> Made for Result<Result<Resource<T>, ()>, E> {
    fn is_made(&self) -> bool {
        matches!(self, Ok(Ok(_)))
    }
}

/// Functions that `wasmtime-wasi-http` does alone, once they are counted: `same` and `one` say how many parts of messages there are
/// afterwards, `less` that there is one less.
macro_rules! done {
    ($($trait:ident { $($parts:ident $name:ident($($arg:ident: $ty:ty),*) -> $result:ty;)* })*) => {
        $(impl types::$trait for StoreData {
            $(done!(@function $trait $parts $name($($arg: $ty),*) -> $result);)*
        })*
    };
    (@function $trait:ident $parts:ident $name:ident($($arg:ident: $ty:ty),*) -> $result:ty) => {
        fn $name(&mut self, $($arg: $ty),*) -> $result {
            let begun = begin(self, done!(@parts $parts)).and_then(|()| Ok(system(self)?.http()?));
            let done = match begun {
                Ok(mut view) => types::$trait::$name(&mut view, $($arg),*),
                Err(error) => return Err(Trapped::trapped(error)),
            };
            done!(@made $parts self, done);
            done
        }
    };
    (@made one $data:ident, $done:ident) => {
        if !$done.is_made()
            && let Err(error) = begin($data, Parts::Less(1))
        {
            return Err(Trapped::trapped(error));
        }
    };
    (@made $parts:ident $data:ident, $done:ident) => {};
    (@parts same) => { Parts::Same };
    (@parts one) => { Parts::One };
    (@parts less) => { Parts::Less(1) };
}

done! {
    HostFields {
        one new() -> wasmtime::Result<Fields>;
        one from_list(entries: Vec<(String, Vec<u8>)>) -> HeaderResult<Fields>;
        same get(fields: Fields, name: String) -> wasmtime::Result<Vec<Vec<u8>>>;
        same has(fields: Fields, name: String) -> wasmtime::Result<bool>;
        same set(fields: Fields, name: String, values: Vec<Vec<u8>>) -> HeaderResult<()>;
        same delete(fields: Fields, name: String) -> HeaderResult<()>;
        same append(fields: Fields, name: String, value: Vec<u8>) -> HeaderResult<()>;
        same entries(fields: Fields) -> wasmtime::Result<Vec<(String, Vec<u8>)>>;
        one clone(fields: Fields) -> wasmtime::Result<Fields>;
        less drop(fields: Fields) -> wasmtime::Result<()>;
    }
    HostIncomingRequest {
        same method(request: Resource<HostIncomingRequest>) -> wasmtime::Result<Method>;
        same path_with_query(request: Resource<HostIncomingRequest>) -> wasmtime::Result<Option<String>>;
        same scheme(request: Resource<HostIncomingRequest>) -> wasmtime::Result<Option<Scheme>>;
        same authority(request: Resource<HostIncomingRequest>) -> wasmtime::Result<Option<String>>;
        one headers(request: Resource<HostIncomingRequest>) -> wasmtime::Result<Fields>;
        one consume(request: Resource<HostIncomingRequest>) -> Outcome<Resource<HostIncomingBody>>;
        same drop(request: Resource<HostIncomingRequest>) -> wasmtime::Result<()>;
    }
    HostOutgoingRequest {
        same new(headers: Fields) -> wasmtime::Result<Resource<HostOutgoingRequest>>;
        one body(request: Resource<HostOutgoingRequest>) -> Outcome<Resource<HostOutgoingBody>>;
        same method(request: Resource<HostOutgoingRequest>) -> wasmtime::Result<Method>;
        same set_method(request: Resource<HostOutgoingRequest>, method: Method) -> Outcome<()>;
        same path_with_query(request: Resource<HostOutgoingRequest>) -> wasmtime::Result<Option<String>>;
        same set_path_with_query(request: Resource<HostOutgoingRequest>, path: Option<String>) -> Outcome<()>;
        same scheme(request: Resource<HostOutgoingRequest>) -> wasmtime::Result<Option<Scheme>>;
        same set_scheme(request: Resource<HostOutgoingRequest>, scheme: Option<Scheme>) -> Outcome<()>;
        same authority(request: Resource<HostOutgoingRequest>) -> wasmtime::Result<Option<String>>;
        same set_authority(request: Resource<HostOutgoingRequest>, authority: Option<String>) -> Outcome<()>;
        one headers(request: Resource<HostOutgoingRequest>) -> wasmtime::Result<Fields>;
        less drop(request: Resource<HostOutgoingRequest>) -> wasmtime::Result<()>;
    }
    HostIncomingResponse {
        same status(response: Resource<HostIncomingResponse>) -> wasmtime::Result<StatusCode>;
        one headers(response: Resource<HostIncomingResponse>) -> wasmtime::Result<Fields>;
        one consume(response: Resource<HostIncomingResponse>) -> Outcome<Resource<HostIncomingBody>>;
        less drop(response: Resource<HostIncomingResponse>) -> wasmtime::Result<()>;
    }
    HostIncomingBody {
        same stream(body: Resource<HostIncomingBody>) -> Outcome<Resource<DynInputStream>>;
        same finish(body: Resource<HostIncomingBody>) -> wasmtime::Result<Resource<HostFutureTrailers>>;
        less drop(body: Resource<HostIncomingBody>) -> wasmtime::Result<()>;
    }
    HostOutgoingResponse {
        same new(headers: Fields) -> wasmtime::Result<Resource<HostOutgoingResponse>>;
        one body(response: Resource<HostOutgoingResponse>) -> Outcome<Resource<HostOutgoingBody>>;
        same status_code(response: Resource<HostOutgoingResponse>) -> wasmtime::Result<StatusCode>;
        same set_status_code(response: Resource<HostOutgoingResponse>, status: StatusCode) -> Outcome<()>;
        one headers(response: Resource<HostOutgoingResponse>) -> wasmtime::Result<Fields>;
        less drop(response: Resource<HostOutgoingResponse>) -> wasmtime::Result<()>;
    }
    HostRequestOptions {
        one new() -> wasmtime::Result<Resource<RequestOptions>>;
        same connect_timeout(options: Resource<RequestOptions>) -> wasmtime::Result<Option<Duration>>;
        same set_connect_timeout(options: Resource<RequestOptions>, time: Option<Duration>) -> Outcome<()>;
        same first_byte_timeout(options: Resource<RequestOptions>) -> wasmtime::Result<Option<Duration>>;
        same set_first_byte_timeout(options: Resource<RequestOptions>, time: Option<Duration>) -> Outcome<()>;
        same between_bytes_timeout(options: Resource<RequestOptions>) -> wasmtime::Result<Option<Duration>>;
        same set_between_bytes_timeout(options: Resource<RequestOptions>, time: Option<Duration>) -> Outcome<()>;
        less drop(options: Resource<RequestOptions>) -> wasmtime::Result<()>;
    }
}

impl types::Host for StoreData {
    fn convert_error_code(&mut self, error: HttpError) -> wasmtime::Result<ErrorCode> {
        error.downcast()
    }

    fn convert_header_error(&mut self, error: HeaderError) -> wasmtime::Result<types::HeaderError> {
        error.downcast()
    }

    /// A stream of a body fails with what `wasmtime-wasi-http` calls an error by itself.
    fn http_error_code(&mut self, error: Resource<IoError>) -> wasmtime::Result<Option<ErrorCode>> {
        count(self)?;
        if let Some(failed) = table(self)?.get(&error)?.downcast_ref::<wasmtime_wasi_http::Error>() {
            return Ok(Some(outgoing::code_of(failed)));
        }
        types::Host::http_error_code(&mut system(self)?.http()?, error)
    }
}

impl types::HostResponseOutparam for StoreData {
    fn set(
        &mut self,
        out: Resource<HostResponseOutparam>,
        response: Result<Resource<HostOutgoingResponse>, ErrorCode>,
    ) -> wasmtime::Result<()> {
        begin(self, Parts::Same)?;
        begin(self, Parts::Less(u32::from(response.is_ok())))?;
        types::HostResponseOutparam::set(&mut system(self)?.http()?, out, response)
    }

    /// Nobody is there who could be told before the answer.
    fn send_informational(
        &mut self,
        _out: Resource<HostResponseOutparam>,
        _status: StatusCode,
        headers: Fields,
    ) -> HttpResult<()> {
        count(self).map_err(HttpError::trap)?;
        types::HostFields::drop(self, headers).map_err(HttpError::trap)
    }

    fn drop(&mut self, out: Resource<HostResponseOutparam>) -> wasmtime::Result<()> {
        table(self)?.delete(out)?;
        Ok(())
    }
}

impl types::HostOutgoingBody for StoreData {
    fn write(&mut self, body: Resource<HostOutgoingBody>) -> Outcome<Resource<DynOutputStream>> {
        begin(self, Parts::Same)?;
        types::HostOutgoingBody::write(&mut system(self)?.http()?, body)
    }

    fn finish(&mut self, body: Resource<HostOutgoingBody>, trailers: Option<Fields>) -> HttpResult<()> {
        begin(self, Parts::Same).map_err(HttpError::trap)?;
        begin(self, Parts::Less(1 + u32::from(trailers.is_some()))).map_err(HttpError::trap)?;
        let mut view = system(self).and_then(|system| Ok(system.http()?)).map_err(HttpError::trap)?;
        types::HostOutgoingBody::finish(&mut view, body, trailers)
    }

    fn drop(&mut self, body: Resource<HostOutgoingBody>) -> wasmtime::Result<()> {
        begin(self, Parts::Less(1))?;
        types::HostOutgoingBody::drop(&mut system(self)?.http()?, body)
    }
}

impl types::HostFutureTrailers for StoreData {
    fn subscribe(&mut self, trailers: Resource<HostFutureTrailers>) -> wasmtime::Result<Resource<DynPollable>> {
        begin(self, Parts::Same)?;
        types::HostFutureTrailers::subscribe(&mut system(self)?.http()?, trailers)
    }

    fn get(
        &mut self,
        trailers: Resource<HostFutureTrailers>,
    ) -> wasmtime::Result<Option<Result<Result<Option<Fields>, ErrorCode>, ()>>> {
        begin(self, Parts::Same)?;
        let got = types::HostFutureTrailers::get(&mut system(self)?.http()?, trailers)?;
        if matches!(got, Some(Ok(Ok(Some(_))))) {
            begin(self, Parts::One)?;
        }
        Ok(got)
    }

    fn drop(&mut self, trailers: Resource<HostFutureTrailers>) -> wasmtime::Result<()> {
        begin(self, Parts::Less(1))?;
        types::HostFutureTrailers::drop(&mut system(self)?.http()?, trailers)
    }
}

impl types::HostFutureIncomingResponse for StoreData {
    fn subscribe(&mut self, future: Resource<HostFutureIncomingResponse>) -> wasmtime::Result<Resource<DynPollable>> {
        begin(self, Parts::Same)?;
        wasmtime_wasi::p2::subscribe(table(self)?, outgoing::awaited(&future))
    }

    fn get(&mut self, future: Resource<HostFutureIncomingResponse>) -> wasmtime::Result<outgoing::Got> {
        begin(self, Parts::Same)?;
        outgoing::take(self, &future)
    }

    fn drop(&mut self, future: Resource<HostFutureIncomingResponse>) -> wasmtime::Result<()> {
        begin(self, Parts::Less(1))?;
        table(self)?.delete(outgoing::owned(&future))?;
        Ok(())
    }
}
