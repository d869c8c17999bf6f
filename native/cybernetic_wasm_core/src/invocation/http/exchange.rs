//! One request and its answer, between the guest and the driver.

use super::{ASKED, Http, Received};
use crate::invocation::Denial;
use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue};
use http_body::{Body, Frame};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;
use wasmtime_wasi_http::{Error, WasiBody};

/// Names and values of a message's fields, in order.
pub type Fields = Vec<(String, Vec<u8>)>;

/// A request that a guest sends.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Request {
    /// As it stands in the request's line.
    pub method: String,
    /// With scheme and authority.
    pub url: String,
    /// Its fields.
    pub headers: Fields,
    /// Whether it has a body, which comes piece by piece.
    pub has_body: bool,
    /// How long the guest wants to wait for a connection, and for the beginning of the answer.
    pub timeouts: [Option<Duration>; 2],
}

/// A request that a guest is to answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Asked {
    /// As it stands in the request's line.
    pub method: String,
    /// With scheme and authority.
    pub url: String,
    /// Its fields.
    pub headers: Fields,
    /// Its body; `None` where that comes piece by piece, as the guest reads it.
    pub body: Option<Vec<u8>>,
}

impl Asked {
    pub(crate) fn is_secure(&self) -> bool {
        self.url.starts_with("https:")
    }

    /// As Wasmtime takes it.
    pub(crate) fn into_request(self, http: &Arc<Http>) -> http::Result<http::Request<Received>> {
        let body = http.begin(self.body.map(Bytes::from));
        let mut request = http::Request::builder().method(self.method.as_str()).uri(self.url).body(body)?;
        *request.headers_mut() = fields(self.headers).unwrap_or_default();
        Ok(request)
    }
}

/// What the driver is to do for the guest.
#[derive(Debug, PartialEq, Eq)]
pub enum Errand {
    /// The guest answers the request that the call is for.
    Answer {
        /// The answer's status.
        status: u16,
        /// Its fields.
        headers: Fields,
    },
    /// The next piece of the answer's body.
    Piece(Bytes),
    /// The answer has ended, with these trailers.
    End(Fields),
    /// The guest reads on in the request that the call is for: a piece is wanted, or the end.
    Body,
    /// A request is to be sent.
    Send {
        /// Its number.
        number: u32,
        /// What it is.
        request: Request,
    },
    /// The next piece of a request's body.
    Write {
        /// Its number.
        number: u32,
        /// The piece.
        bytes: Bytes,
    },
    /// A request's body has ended.
    Finish {
        /// Its number.
        number: u32,
        /// Its trailers.
        trailers: Fields,
    },
    /// The beginning of the answer to a request is wanted.
    Head {
        /// Its number.
        number: u32,
    },
    /// The next piece of that answer's body is wanted, or its end.
    Read {
        /// Its number.
        number: u32,
    },
    /// Nobody wants the answer to a request any more.
    Close {
        /// Its number.
        number: u32,
    },
}

impl Errand {
    /// Bytes that leave the guest by it.
    pub(super) fn size(&self) -> u64 {
        let of = |fields: &Fields| fields.iter().map(|(name, value)| name.len() + value.len()).sum();
        let size: usize = match self {
            Self::Piece(bytes) | Self::Write { bytes, .. } => bytes.len(),
            Self::Answer { headers, .. } => of(headers),
            Self::End(trailers) | Self::Finish { trailers, .. } => of(trailers),
            Self::Send { request, .. } => request.url.len() + of(&request.headers),
            Self::Body | Self::Head { .. } | Self::Read { .. } | Self::Close { .. } => 0,
        };
        size as u64
    }
}

/// What came of an errand.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Came {
    /// The beginning of an answer.
    Head {
        /// Its status.
        status: u16,
        /// Its fields.
        headers: Fields,
    },
    /// A piece of a body.
    Piece(Bytes),
    /// The end of a body, with its trailers.
    End(Fields),
    /// No answer, or no more of it.
    Failed(NotSent),
}

/// Why there is no answer to a request, as far as a guest is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(missing_docs, reason = "the interface's own words")]
pub enum NotSent {
    Denied,
    Invalid,
    Unresolved,
    Unreachable,
    Tls,
    ResolveTimeout,
    ConnectTimeout,
    SendTimeout,
    ReceiveTimeout,
    Protocol,
    TooLarge,
    Truncated,
}

impl From<NotSent> for Error {
    fn from(why: NotSent) -> Self {
        match why {
            NotSent::Denied => Error::HttpRequestDenied,
            NotSent::Invalid | NotSent::Protocol => Error::HttpProtocolError,
            NotSent::Unresolved => Error::DnsError { rcode: None, info_code: None },
            NotSent::Unreachable => Error::ConnectionRefused,
            NotSent::Tls => Error::TlsProtocolError,
            NotSent::ResolveTimeout => Error::DnsTimeout,
            NotSent::ConnectTimeout => Error::ConnectionTimeout,
            NotSent::SendTimeout => Error::ConnectionWriteTimeout,
            NotSent::ReceiveTimeout => Error::HttpResponseTimeout,
            NotSent::TooLarge => Error::HttpResponseBodySize(None),
            NotSent::Truncated => Error::HttpResponseIncomplete,
        }
    }
}

/// What a body that the guest writes comes to.
pub(super) enum Sent {
    /// A piece of it.
    Piece(Bytes),
    /// Its end.
    End(Fields),
    /// The guest has not ended it as it should.
    GivenUp,
}

impl Sent {
    pub(super) fn of(frame: Option<Result<Frame<Bytes>, Error>>) -> Self {
        match frame.transpose() {
            Err(_) => Self::GivenUp,
            Ok(None) => Self::End(Vec::new()),
            Ok(Some(frame)) => match frame.into_data() {
                Ok(bytes) => Self::Piece(bytes),
                Err(frame) => Self::End(frame.trailers_ref().map(fields_of).unwrap_or_default()),
            },
        }
    }
}

/// A body that comes to the guest, at most a piece ahead of what it has read.
#[derive(Debug, Default)]
struct Coming {
    piece: Option<Bytes>,
    end: Option<Result<HeaderMap, Error>>,
    ended: bool,
    wanted: bool,
    asked: bool,
}

/// The beginning of an answer.
#[derive(Debug)]
enum Head {
    Awaited { wanted: bool, asked: bool },
    Here(u16, HeaderMap),
    Failed(Error),
    Taken,
}

/// One request and its answer.
pub(super) struct Exchange {
    /// It is to be sent.
    request: Option<Request>,
    /// What a denial is about: the URL without what may be secret in it.
    shown: String,
    /// What the guest writes.
    body: Option<WasiBody>,
    head: Head,
    coming: Coming,
    /// The guest wants no more of it.
    let_go: bool,
}

impl Exchange {
    /// A request that the guest is to answer, of which this is the body if all of it is there.
    pub(super) fn received(body: Option<Bytes>) -> Self {
        let end = body.is_some().then(|| Ok(HeaderMap::new()));
        let piece = body.filter(|body| !body.is_empty());
        let coming = Coming { piece, end, ..Coming::default() };
        Self { head: Head::Taken, coming, ..Self::empty() }
    }

    /// A request that the guest sends.
    pub(super) fn sent(request: Request, body: Option<WasiBody>) -> Self {
        let shown = request.url.split(['?', '#']).next().unwrap_or_default();
        let shown = crate::error::shown::bytes(shown.as_bytes());
        Self { request: Some(request), shown, body, ..Self::empty() }
    }

    fn empty() -> Self {
        let head = Head::Awaited { wanted: false, asked: false };
        let (shown, coming) = (String::new(), Coming::default());
        Self { request: None, shown, body: None, head, coming, let_go: false }
    }

    /// What is to be done for what the guest sends, or no longer wants.
    pub(super) fn outward(&mut self, number: u32, context: &mut Context<'_>) -> Option<Errand> {
        if number == ASKED {
            return None;
        }
        if self.let_go {
            return Some(Errand::Close { number });
        }
        if let Some(request) = self.request.take() {
            return Some(Errand::Send { number, request });
        }
        let Poll::Ready(frame) = Pin::new(self.body.as_mut()?).poll_frame(context) else { return None };
        match Sent::of(frame) {
            Sent::Piece(bytes) => Some(Errand::Write { number, bytes }),
            Sent::End(trailers) => {
                self.body = None;
                Some(Errand::Finish { number, trailers })
            }
            // There will be no answer to a request that has no end.
            Sent::GivenUp => {
                self.fail(Error::HttpProtocolError);
                None
            }
        }
    }

    /// What is to be asked for.
    pub(super) fn inward(&mut self, number: u32) -> Option<Errand> {
        match &mut self.head {
            Head::Awaited { wanted: true, asked: asked @ false } => {
                *asked = true;
                Some(Errand::Head { number })
            }
            Head::Taken if self.coming.wanted && !self.coming.asked => {
                self.coming.asked = true;
                Some(if number == ASKED { Errand::Body } else { Errand::Read { number } })
            }
            _ => None,
        }
    }

    /// Takes what has come, and gives the denial that it is, if it is one.
    pub(super) fn came(&mut self, came: Came) -> Option<Denial> {
        self.coming.asked = false;
        match came {
            Came::Head { status, headers } => match fields(headers) {
                Some(headers) => self.head = Head::Here(status, headers),
                None => self.fail(Error::HttpProtocolError),
            },
            // Whoever reads takes an empty piece for none: it goes on to wait.
            Came::Piece(bytes) if bytes.is_empty() => {}
            Came::Piece(bytes) => {
                self.coming.piece = Some(bytes);
                self.coming.wanted = false;
            }
            Came::End(trailers) => self.end(fields(trailers).ok_or(Error::HttpProtocolError)),
            Came::Failed(why) => {
                self.fail(why.into());
                return (why == NotSent::Denied).then(|| self.denial());
            }
        }
        None
    }

    fn denial(&self) -> Denial {
        let (capability, operation) = ("network", "wasi:http/outgoing-handler#handle");
        let detail = Some(self.shown.clone());
        Denial { capability, operation, detail, errno: "http-request-denied", count: 1 }
    }

    fn fail(&mut self, error: Error) {
        self.body = None;
        match self.head {
            Head::Awaited { .. } => self.head = Head::Failed(error),
            _ => self.end(Err(error)),
        }
    }

    /// There is no more to ask for.
    fn end(&mut self, end: Result<HeaderMap, Error>) {
        self.coming.end = Some(end);
        self.coming.wanted = false;
    }

    /// The beginning of the answer, which is wanted from now on; `None` before.
    pub(super) fn is_ready(&mut self) -> bool {
        match &mut self.head {
            Head::Awaited { wanted, .. } => {
                *wanted = true;
                false
            }
            _ => true,
        }
    }

    /// Takes it.
    pub(super) fn take_head(&mut self) -> Option<Result<(u16, HeaderMap), Error>> {
        match std::mem::replace(&mut self.head, Head::Taken) {
            Head::Here(status, headers) => Some(Ok((status, headers))),
            Head::Failed(error) => Some(Err(error)),
            other => {
                self.head = other;
                None
            }
        }
    }

    /// The next of the body, which is wanted from now on where there is nothing.
    pub(super) fn poll_frame(&mut self) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
        let coming = &mut self.coming;
        if let Some(piece) = coming.piece.take() {
            return Poll::Ready(Some(Ok(Frame::data(piece))));
        }
        match coming.end.take() {
            Some(end) => {
                coming.ended = true;
                match end {
                    Ok(trailers) if trailers.is_empty() => Poll::Ready(None),
                    Ok(trailers) => Poll::Ready(Some(Ok(Frame::trailers(trailers)))),
                    Err(error) => Poll::Ready(Some(Err(error))),
                }
            }
            None if coming.ended => Poll::Ready(None),
            None => {
                coming.wanted = true;
                Poll::Pending
            }
        }
    }

    /// The guest wants no more of it.
    pub(super) fn let_go(&mut self) {
        self.let_go = true;
    }
}

/// Fields as Wasmtime has them, unless one is none.
pub(super) fn fields(fields: Fields) -> Option<HeaderMap> {
    let mut map = HeaderMap::new();
    for (name, value) in fields {
        let (name, value) = (HeaderName::from_bytes(name.as_bytes()).ok()?, HeaderValue::from_bytes(&value).ok()?);
        map.try_append(name, value).ok()?;
    }
    Some(map)
}

/// Fields as the driver has them.
pub(super) fn fields_of(map: &HeaderMap) -> Fields {
    map.iter().map(|(name, value)| (name.as_str().to_owned(), value.as_bytes().to_vec())).collect()
}
