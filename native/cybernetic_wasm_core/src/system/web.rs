//! What `wasmtime-wasi-http` keeps of a guest's HTTP, and the bounds that it knows nothing of: how much the host holds for a guest
//! in messages that it makes.

use super::System;
use crate::error::{Error, Trap};
use http::{HeaderName, Request, Response};
use wasmtime_wasi::WasiView;
use wasmtime_wasi_http::{
    DEFAULT_FORBIDDEN_HEADERS, Error as HttpError, RequestOptions, WasiBody, WasiHttpCtx, WasiHttpCtxView,
    WasiHttpHooks,
};

/// Bytes of one message's fields, as the host holds them.
const MOST_FIELDS: usize = 64 << 10;

/// Messages, fields and bodies that a guest may have at once.
const MOST_PARTS: u32 = 256;

/// Bytes of a body that the guest may write before the last ones are taken: two such pieces are kept of each body.
const PIECE: usize = 16 << 10;

/// A guest's HTTP.
pub(super) struct Web {
    ctx: WasiHttpCtx,
    hooks: Hooks,
    parts: u32,
}

impl Default for Web {
    fn default() -> Self {
        let mut ctx = WasiHttpCtx::new();
        ctx.set_field_size_limit(MOST_FIELDS);
        Self { ctx, hooks: Hooks, parts: 0 }
    }
}

/// What `wasmtime-wasi-http` asks.
struct Hooks;

type Sending = Result<(Response<WasiBody>, Box<dyn Future<Output = Result<(), HttpError>> + Send>), HttpError>;

impl WasiHttpHooks for Hooks {
    fn is_forbidden_header(&mut self, name: &HeaderName) -> bool {
        DEFAULT_FORBIDDEN_HEADERS.contains(name)
    }

    /// Requests are sent by the driver, and never by way of this.
    fn send_request(
        &mut self,
        _request: Request<WasiBody>,
        _options: Option<RequestOptions>,
        _processed: Box<dyn Future<Output = Result<(), HttpError>> + Send>,
    ) -> Box<dyn Future<Output = Sending> + Send> {
        Box::new(std::future::ready(Err(HttpError::HttpRequestDenied)))
    }

    fn p2_outgoing_body_chunk_size(&mut self) -> usize {
        PIECE
    }
}

impl System {
    /// As `wasmtime-wasi-http` sees it.
    pub(crate) fn http(&mut self) -> Result<WasiHttpCtxView<'_>, Error> {
        let ctx = self.ctx.as_mut().ok_or_else(|| Error::Internal("the guest's system is elsewhere".into()))?;
        Ok(WasiHttpCtxView { hooks: &mut self.web.hooks, table: ctx.ctx().table, ctx: &mut self.web.ctx })
    }

    /// Counts a part of a message that the guest makes, unless it has too many.
    pub(crate) fn more_http(&mut self) -> Result<(), Error> {
        if self.web.parts >= MOST_PARTS {
            let message =
                format!("it has {MOST_PARTS} messages, fields and bodies of HTTP at once, and may have no more");
            return Err(Trap { code: "wasi", message, ..Trap::default() }.into());
        }
        self.web.parts += 1;
        Ok(())
    }

    /// It has let go of one.
    pub(crate) fn less_http(&mut self) {
        self.web.parts = self.web.parts.saturating_sub(1);
    }
}
