//! Where the code of a module comes from that is not in memory: from the disk, or else from the compiler.

use super::{Runtime, Wanted};
use crate::artifacts::{Artifacts, Search};
use crate::cache::{Awaited, Flight};
use crate::code::{CodeKey, Compiled};
use crate::compiler::{Client, Job, Notice, Request};
use crate::engine::CodeConfig;
use crate::error::Error;
use crate::module::Module;
use once_cell::sync::OnceCell;
use parking_lot::Mutex;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

/// What a flight waits for: code that is found, or compiled.
pub(super) struct Landing {
    runtime: Arc<Runtime>,
    flight: Arc<Flight>,
    wanted: Wanted,
    cached: bool,
    landed: bool,
}

impl Landing {
    pub(super) fn new(runtime: &Arc<Runtime>, flight: &Awaited, wanted: Wanted, cached: bool) -> Self {
        Self { runtime: Arc::clone(runtime), flight: Arc::clone(&flight.0), wanted, cached, landed: false }
    }

    /// Looks for the code on disk, and has it compiled where it is not there.
    pub(super) fn begin(self, source: impl FnOnce() -> Arc<[u8]>) {
        let runtime = Arc::clone(&self.runtime);
        let sought = Arc::new(Sought { landing: Mutex::new(Some(self)), source: OnceCell::new() });
        let is_sought = runtime.artifacts.search(&sought);
        // It is copied while the disk is read.
        let source = sought.source.get_or_init(source);
        if !is_sought && let Some(landing) = sought.take() {
            landing.compile(Arc::clone(source));
        }
    }

    fn compile(self, source: Arc<[u8]>) {
        let (Wanted { key, asker, .. }, runtime) = (self.wanted, Arc::clone(&self.runtime));
        let request = Request {
            config: key.code.config,
            instrument: key.code.instrumented,
            budget: key.budget,
            threads: 1,
            refuse_deep: false,
        };
        runtime.compiler.submit(Job { key: key.code, request, source, asker, again: false, client: Box::new(self) });
    }

    fn digest(&self) -> [u8; 32] {
        self.wanted.key.code.digest
    }

    fn module(&self, compiled: Compiled) -> Result<Arc<Module>, Error> {
        let compiled = Arc::new(self.runtime.count(compiled)?);
        self.runtime.module(&compiled, self.wanted.config).map(Arc::new)
    }

    fn land(&mut self, module: Result<Arc<Module>, Error>) {
        self.landed = true;
        let flight = Arc::clone(&self.flight);
        if let Ok(module) = &module {
            self.tell_if_too_large(module);
        }
        match self.cached {
            true => self.runtime.cache.land(self.wanted.key, flight, module),
            false => flight.land(module),
        }
    }

    /// Before anybody is woken: who has waited for a compilation reads the notices.
    fn tell_if_too_large(&self, module: &Module) {
        if self.cached
            && let Some(allowed) = self.runtime.cache.note_too_large(module)
        {
            let (digest, size) = (*module.code().digest(), module.code().size());
            self.runtime.compiler.notices().add(Notice::TooLarge { digest, size, allowed });
        }
    }
}

/// A landing whose code is looked for on the disk. Whoever is the first to take it lands it: the thread that looks, or the one that
/// waits no longer for that.
struct Sought {
    landing: Mutex<Option<Landing>>,
    source: OnceCell<Arc<[u8]>>,
}

impl Sought {
    fn take(&self) -> Option<Landing> {
        self.landing.lock().take()
    }

    fn source(&self) -> Arc<[u8]> {
        Arc::clone(self.source.wait())
    }

    /// Where to look, and for what; `None` where nobody waits for it any more.
    fn looked_for(&self) -> Option<(Arc<Artifacts>, Result<CodeKey, Error>)> {
        let landing = self.landing.lock();
        let landing = landing.as_ref().filter(|landing| landing.wants())?;
        let key = landing.config().map(|config| CodeKey { config, ..landing.wanted.key.code });
        Some((Arc::clone(&landing.runtime.artifacts), key))
    }
}

impl Search for Sought {
    fn find(&self) {
        let Some((artifacts, key)) = self.looked_for() else { return };
        let found = key.map(|key| artifacts.find(key, || self.source()));
        let Some(mut landing) = self.take() else { return };
        let loaded = match found {
            Ok(found) => found.and_then(|compiled| artifacts.judge(landing.digest(), landing.module(compiled))),
            Err(error) => Some(Err(error)),
        };
        match loaded {
            Some(module) => landing.land(module),
            None => landing.compile(self.source()),
        }
    }

    fn give_up(&self) {
        if let Some(landing) = self.take() {
            landing.runtime.artifacts.give_up();
            landing.compile(self.source());
        }
    }
}

impl Client for Landing {
    fn wants(&self) -> bool {
        match self.cached {
            true => self.runtime.cache.is_awaited(self.wanted.key, &self.flight),
            false => self.flight.is_awaited(),
        }
    }

    /// The first engine of its kind may find no room for its pool: all take other code from then on.
    fn config(&self) -> Result<CodeConfig, Error> {
        self.runtime.linkers(self.wanted.config)?;
        let CodeKey { digest, instrumented, .. } = self.wanted.key.code;
        Ok(self.runtime.key(digest, self.wanted.config, instrumented).config)
    }

    fn take(mut self: Box<Self>, compiled: Result<Compiled, Error>) {
        let module = compiled.and_then(|compiled| {
            let module = catch_unwind(AssertUnwindSafe(|| self.module(compiled)));
            module.unwrap_or_else(|panic| Err(Error::panic(&*panic)))
        });
        if let Ok(module) = &module {
            self.runtime.artifacts.keep_later(module.code().compiled());
        }
        self.land(module);
    }
}

/// Whoever waits is told, also where a job is lost.
impl Drop for Landing {
    fn drop(&mut self) {
        if !self.landed {
            self.land(Err(Error::Internal("the compilation was given up".into())));
        }
    }
}
