//! What the guest holds of an exchange: a body that comes to it, and an answer that it waits for. When it lets go of them, the
//! exchange ends.

use super::{ASKED, Exchange, Http};
use bytes::Bytes;
use http::HeaderMap;
use http_body::{Body, Frame};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use wasmtime_wasi::p2::Pollable;
use wasmtime_wasi_http::Error;

/// Lets go of an exchange when nobody holds it any more.
struct Hold {
    http: Arc<Http>,
    number: u32,
}

impl Hold {
    /// Does something with the exchange, unless the call is over that it belongs to.
    fn with<T>(&self, work: impl FnOnce(&mut Exchange) -> T) -> Option<T> {
        self.http.0.lock().exchanges.get_mut(&self.number).map(work)
    }
}

impl Drop for Hold {
    fn drop(&mut self) {
        if self.number != ASKED {
            self.with(Exchange::let_go);
        }
    }
}

/// A body that comes to the guest.
pub(crate) struct Received(Hold);

impl Received {
    pub(super) fn new(http: Arc<Http>, number: u32) -> Self {
        Self(Hold { http, number })
    }
}

impl Body for Received {
    type Data = Bytes;
    type Error = Error;

    fn poll_frame(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
        self.0.with(Exchange::poll_frame).unwrap_or(Poll::Ready(Some(Err(Error::ConnectionTerminated))))
    }
}

/// An answer that the guest waits for.
pub(crate) struct Awaited(Option<Hold>);

impl Awaited {
    pub(super) fn new(http: Arc<Http>, number: u32) -> Self {
        Self(Some(Hold { http, number }))
    }

    /// Takes the answer, with what its body comes from; `None` before it is there, and after it was taken.
    pub(crate) fn take(&mut self) -> Option<Result<(u16, HeaderMap, Received), Error>> {
        let hold = self.0.as_ref()?;
        let head = hold.with(Exchange::take_head).unwrap_or(Some(Err(Error::ConnectionTerminated)))?;
        let hold = self.0.take()?;
        Some(head.map(|(status, headers)| (status, headers, Received(hold))))
    }

    /// Whether it was taken.
    pub(crate) fn is_taken(&self) -> bool {
        self.0.is_none()
    }
}

#[async_trait::async_trait]
impl Pollable for Awaited {
    async fn ready(&mut self) {
        std::future::poll_fn(|_| match &self.0 {
            Some(hold) if !hold.with(Exchange::is_ready).unwrap_or(true) => Poll::Pending,
            _ => Poll::Ready(()),
        })
        .await;
    }
}
