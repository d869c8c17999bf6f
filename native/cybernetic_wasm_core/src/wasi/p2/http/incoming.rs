//! A request that a guest is to answer: the guest is given it, and something to answer by, as resources of its own.

use super::super::entry::system;
use crate::error::Error;
use crate::invocation::Asked;
use crate::store::StoreData;
use http_body_util::BodyExt;
use std::sync::Arc;
use wasmtime::component::Resource;
use wasmtime_wasi_http::p2::bindings::http::types::{ErrorCode, Scheme};
use wasmtime_wasi_http::p2::types::{HostIncomingRequest, HostResponseOutparam};

/// What a guest's handler is called with.
pub(crate) type Given = (Resource<HostIncomingRequest>, Resource<HostResponseOutparam>);

/// Gives the guest a request.
pub(crate) fn receive(data: &mut StoreData, asked: Asked) -> Result<Given, Error> {
    let http = Arc::clone(data.invocation.http());
    let scheme = if asked.is_secure() { Scheme::Https } else { Scheme::Http };
    let request = asked.into_request(&http).map_err(Error::internal)?.map(BodyExt::boxed_unsync);
    let mut view = system(data).map_err(Error::internal)?.http()?;
    let request = view.new_incoming_request(scheme, request).map_err(Error::internal)?;
    let answer = view.new_response_outparam_from_callback(move |answer| {
        http.answer(answer.map_err(|code| word(&code)));
    });
    Ok((request, answer.map_err(Error::internal)?))
}

/// An error code of the guest's in the words of the interface, with what the guest says of it where that is for people.
fn word(code: &ErrorCode) -> String {
    match code {
        ErrorCode::InternalError(Some(text)) => crate::error::shown::name(text),
        other => crate::error::shown::name(&format!("{other:?}")),
    }
}
