//! HTTP of an invocation: the request that the call is to answer, and the requests that its guest sends.
//!
//! The guest's side leaves here what it has and what it wants. The driver, who has the network and the caller's bodies, runs
//! the errands that follow from it, one a step, and leaves here what came of each. Nothing is woken for that: an errand ends a
//! step, and the next step looks. So a body goes no further, either way, than the driver takes it.

mod body;
mod exchange;

pub(crate) use body::{Awaited, Received};
pub use exchange::{Asked, Came, Errand, Fields, NotSent, Request};

use super::{Denial, Invocation};
use crate::error::{AnswerError, LimitError};
use bytes::Bytes;
use exchange::{Exchange, Sent, fields_of};
use http::Response;
use http_body::Body;
use parking_lot::Mutex;
use std::collections::BTreeMap;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use wasmtime_wasi_http::WasiBody;

/// The number of the request that the call is to answer.
const ASKED: u32 = 0;

/// Requests that a guest may have under way at once. Each takes a connection.
const MOST_SENT: usize = 16;

/// HTTP of one invocation.
#[derive(Default)]
pub(crate) struct Http(Mutex<State>);

#[derive(Default)]
struct State {
    answer: Answer,
    /// By number: the first is that of the request that the call is to answer, the others the guest has sent.
    exchanges: BTreeMap<u32, Exchange>,
    last: u32,
    /// An errand that was found before it was asked for.
    found: Option<Errand>,
    /// The guest's function has returned: all that counts is the rest of its answer.
    returned: bool,
    /// The call is over: whatever the guest still has of it is closed.
    over: bool,
}

/// What the guest answers.
#[derive(Default)]
enum Answer {
    #[default]
    Awaited,
    Given(Box<Response<()>>, WasiBody),
    Begun(WasiBody),
    Ended,
    Failed(AnswerError),
}

impl Http {
    /// What the driver is to do next.
    fn next(&self, context: &mut Context<'_>) -> Option<Errand> {
        let mut state = self.0.lock();
        if state.over {
            return None;
        }
        state.found.take().or_else(|| state.answering(context)).or_else(|| state.exchanging(context))
    }

    /// Something has come for an exchange, or it has failed: what the guest is told then may be a denial.
    fn came(&self, number: u32, came: Came) -> Option<Denial> {
        let mut state = self.0.lock();
        state.exchanges.get_mut(&number)?.came(came)
    }

    /// A request has come, of which this is the body if there is no more to ask for.
    pub(crate) fn begin(self: &Arc<Self>, body: Option<Bytes>) -> Received {
        self.0.lock().exchanges.insert(ASKED, Exchange::received(body));
        Received::new(Arc::clone(self), ASKED)
    }

    /// The guest answers.
    pub(crate) fn answer(&self, answer: Result<Response<WasiBody>, String>) {
        let mut state = self.0.lock();
        if !matches!(state.answer, Answer::Awaited) || state.over {
            return;
        }
        state.answer = match answer {
            Ok(response) => {
                let (parts, body) = response.into_parts();
                Answer::Given(Box::new(Response::from_parts(parts, ())), body)
            }
            Err(code) => Answer::Failed(AnswerError::Refused(code)),
        };
    }

    /// The guest sends a request, if there are not too many under way.
    pub(crate) fn send(self: &Arc<Self>, request: Request, body: Option<WasiBody>) -> Option<Awaited> {
        let mut state = self.0.lock();
        let sent = state.exchanges.keys().filter(|number| **number != ASKED).count();
        if state.over || sent >= MOST_SENT {
            return None;
        }
        state.last += 1;
        let number = state.last;
        state.exchanges.insert(number, Exchange::sent(request, body));
        Some(Awaited::new(Arc::clone(self), number))
    }

    /// Waits until the driver has the rest of the answer, to which nobody adds any more.
    pub(crate) async fn answered(&self) -> Result<(), AnswerError> {
        std::future::poll_fn(|context| self.0.lock().rest(context)).await
    }

    /// The call is over.
    fn close(&self) {
        let mut state = self.0.lock();
        // They are let go of when nobody waits for the lock.
        let rest = std::mem::take(&mut *state);
        state.over = true;
        drop(state);
        drop(rest);
    }
}

impl State {
    /// What is to be told of the answer.
    fn answering(&mut self, context: &mut Context<'_>) -> Option<Errand> {
        match std::mem::take(&mut self.answer) {
            Answer::Given(response, body) => {
                self.answer = Answer::Begun(body);
                let (status, headers) = (response.status().as_u16(), fields_of(response.headers()));
                Some(Errand::Answer { status, headers })
            }
            Answer::Begun(mut body) => {
                let polled = Pin::new(&mut body).poll_frame(context);
                self.answer = Answer::Begun(body);
                let Poll::Ready(frame) = polled else { return None };
                let (errand, answer) = match Sent::of(frame) {
                    Sent::Piece(bytes) => return Some(Errand::Piece(bytes)),
                    Sent::End(trailers) => (Some(Errand::End(trailers)), Answer::Ended),
                    Sent::GivenUp => (None, Answer::Failed(AnswerError::Unfinished)),
                };
                self.answer = answer;
                errand
            }
            other => {
                self.answer = other;
                None
            }
        }
    }

    /// What is to be done for the requests that the guest has sent, and for the one that it reads.
    fn exchanging(&mut self, context: &mut Context<'_>) -> Option<Errand> {
        if self.returned {
            return None;
        }
        let mut found = None;
        for (number, exchange) in &mut self.exchanges {
            found = exchange.outward(*number, context);
            if found.is_some() {
                break;
            }
        }
        if let Some(Errand::Close { number }) = &found {
            self.exchanges.remove(number);
        }
        // First goes out what the guest has: it may wait for an answer to that.
        found.or_else(|| self.exchanges.iter_mut().find_map(|(number, exchange)| exchange.inward(*number)))
    }

    fn rest(&mut self, context: &mut Context<'_>) -> Poll<Result<(), AnswerError>> {
        self.returned = true;
        match &self.answer {
            _ if self.found.is_some() => Poll::Pending,
            Answer::Awaited => Poll::Ready(Err(AnswerError::None)),
            Answer::Given(..) => Poll::Pending,
            Answer::Ended => Poll::Ready(Ok(())),
            Answer::Failed(error) => Poll::Ready(Err(error.clone())),
            Answer::Begun(_) => {
                self.found = self.answering(context);
                match (&self.answer, &self.found) {
                    (Answer::Failed(error), _) => Poll::Ready(Err(error.clone())),
                    // Nobody is there any more who could end it.
                    (Answer::Begun(_), None) => Poll::Ready(Err(AnswerError::Unfinished)),
                    _ => Poll::Pending,
                }
            }
        }
    }
}

impl Invocation {
    /// Its HTTP, which most have not.
    pub(crate) fn http(&self) -> &Arc<Http> {
        self.http.get_or_init(Arc::default)
    }

    /// What the driver is to do for the guest's HTTP. What leaves the guest counts as its output.
    pub(crate) fn errand(&self, context: &mut Context<'_>) -> Option<Result<Errand, LimitError>> {
        let errand = self.http.get()?.next(context)?;
        let counted = self.count_output(errand.size());
        Some(counted.map(|()| errand))
    }

    /// What came of an errand.
    pub(crate) fn errand_done(&self, number: u32, came: Came) {
        let denial = self.http.get().and_then(|http| http.came(number, came));
        if let Some(denial) = denial {
            self.deny(denial);
        }
    }

    /// Nothing is asked for or given any more.
    pub(crate) fn close_http(&self) {
        if let Some(http) = self.http.get() {
            http.close();
        }
    }
}
