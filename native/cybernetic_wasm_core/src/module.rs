//! Modules as the embedder holds them: code, what it is linked with, and the same source compiled in other ways.

use crate::code::{Code, CodeKey};
use crate::engine::EngineConfig;
use crate::error::{Error, ImportProblem};
use crate::limits::{Limits, Reserved};
use crate::linker::{Linked, Linkers, Ready, Source};
use crate::system::Grants;
use once_cell::sync::OnceCell;
use parking_lot::Mutex;
use std::borrow::Cow;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// Which form of a module a guest runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Form {
    /// As it was loaded.
    Loaded,
    /// Made fit for snapshots.
    Instrumented,
}

/// The bytes of a module that nobody gave but that were made here, and that count for it.
pub(crate) struct Original {
    pub(crate) wasm: Arc<[u8]>,
    pub(crate) _held: Reserved,
}

/// A loaded module.
pub struct Module {
    code: Arc<Code>,
    linkers: Arc<Linkers>,
    linked: Linked,
    /// The same with WASI's functions.
    linked_with_wasi: OnceCell<Linked>,
    /// The same with a plugin's functions, without and with WASI's.
    linked_as_plugin: [OnceCell<Linked>; 2],
    variants: Compilations,
    /// The same modules made fit for snapshots.
    instrumented: Compilations,
    /// What it was before it was made fit for snapshots, where it is that.
    source: OnceCell<Original>,
    /// Counts the modules of this process.
    serial: u64,
}

impl std::fmt::Debug for Module {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Module").field(&self.code).finish()
    }
}

impl Module {
    pub(crate) fn new(code: Code, linkers: Arc<Linkers>) -> Result<Self, Error> {
        static NEXT_SERIAL: AtomicU64 = AtomicU64::new(0);
        Ok(Self {
            linked: linkers.prepare(&code, None, false)?,
            linked_with_wasi: OnceCell::new(),
            linked_as_plugin: [OnceCell::new(), OnceCell::new()],
            code: Arc::new(code),
            linkers,
            variants: Mutex::default(),
            instrumented: Mutex::default(),
            source: OnceCell::new(),
            serial: NEXT_SERIAL.fetch_add(1, Relaxed),
        })
    }

    /// What was compiled, and what is known of it.
    pub fn code(&self) -> &Arc<Code> {
        &self.code
    }

    /// The module in the binary format, as it was before anything was done to it.
    pub fn source(&self) -> &Arc<[u8]> {
        self.source.get().map_or(self.code.wasm(), |source| &source.wasm)
    }

    /// Keeps what it was, of one that was made fit for snapshots from the first.
    pub(crate) fn made_of(&self, source: Original) {
        let _ = self.source.set(source);
    }

    pub(crate) fn linkers(&self) -> &Arc<Linkers> {
        &self.linkers
    }

    /// Whether nobody holds the module but whoever asks, nor its code, nor one of its compilations for other engines that share
    /// that code: dropped, it gives memory back.
    pub(crate) fn is_unused(module: &Arc<Self>) -> bool {
        let shares = |other: &Arc<Self>| Arc::ptr_eq(other.code.compiled(), module.code.compiled());
        Arc::strong_count(module) == 1
            && Arc::strong_count(&module.code) == 1
            && module.variants.lock().iter().all(|(_, other)| !shares(other) || Self::is_unused(other))
    }

    /// This module, or one of its kept compilations, whose code is this.
    pub(crate) fn of_code(self: &Arc<Self>, key: &CodeKey) -> Option<Arc<Self>> {
        let is = |module: &Arc<Self>| module.code.compiled().key == *key;
        let among =
            |kept: &Compilations| kept.lock().iter().map(|(_, other)| other).find(|other| is(other)).map(Arc::clone);
        if is(self) { Some(Arc::clone(self)) } else { among(&self.variants).or_else(|| among(&self.instrumented)) }
    }

    /// Whether a live instance may be made on a normal scheduler.
    pub fn may_instantiate_inline(&self, limits: &Limits) -> bool {
        self.code.making.is_short() && self.code.may_go_on_inline(limits)
    }

    /// The module ready to instantiate, its imports bound to these sources where there are any. Otherwise the host answers all of
    /// them, and WASI its own where it is granted; or which imports nothing can satisfy.
    pub(crate) fn linked(
        &self,
        grants: Option<&Grants>,
        sources: Option<&Arc<[Source]>>,
        kernel: bool,
    ) -> Result<Cow<'_, Ready>, Error> {
        if let Some(sources) = sources {
            return Ok(Cow::Owned(Ready::Sources(Arc::clone(sources))));
        }
        let answered = grants.map(|grants| &grants.answered[..]);
        let prepare = || self.linkers.prepare(&self.code, answered, kernel);
        let linked = match (answered, kernel) {
            (None, false) => &self.linked,
            (Some([]), _) if self.code.is_component() => &self.linked,
            (Some([]), false) => self.linked_with_wasi.get_or_try_init(prepare)?,
            (None, true) => self.linked_as_plugin[0].get_or_try_init(prepare)?,
            (Some([]), true) => self.linked_as_plugin[1].get_or_try_init(prepare)?,
            // Rare enough to be made anew each time.
            (Some(_), _) => return prepare()?.map(Cow::Owned).map_err(|problems| Error::link(&problems)),
        };
        linked.as_ref().map(Cow::Borrowed).map_err(|problems| Error::link(problems))
    }

    /// Guests that live now and run it, or one of its kept compilations.
    pub fn guests(&self) -> u64 {
        let among = |kept: &Compilations| kept.lock().iter().map(|(_, other)| other.code.guests()).sum::<u64>();
        self.code.guests() + among(&self.variants) + among(&self.instrumented)
    }

    /// Imports that nothing can satisfy, whatever functions the host offers.
    pub fn unlinkable(&self) -> &[ImportProblem] {
        self.linked.as_ref().err().map_or(&[], Vec::as_slice)
    }

    /// This module in a form, compiled for another configuration, if that has been done already.
    pub(crate) fn kept(&self, form: Form, config: &EngineConfig) -> Option<Arc<Module>> {
        let compilations = self.compilations(form).lock();
        compilations.iter().find(|(known, _)| known == config).map(|(_, module)| Arc::clone(module))
    }

    /// Keeps it. A host that goes through ever new stacks gets the latest few; what falls out is only made again.
    pub(crate) fn keep(&self, form: Form, config: EngineConfig, module: &Arc<Module>) {
        const MOST: usize = 8;
        // Two modules can be variants of each other. If each kept the other, neither would ever be freed: only the older
        // keeps the younger, and the younger asks the cache, from where the older cannot go without becoming young.
        if module.serial <= self.serial {
            return;
        }
        let mut compilations = self.compilations(form).lock();
        if compilations.len() == MOST {
            compilations.remove(0);
        }
        compilations.push((config, Arc::clone(module)));
    }

    fn compilations(&self, form: Form) -> &Compilations {
        match form {
            Form::Loaded => &self.variants,
            Form::Instrumented => &self.instrumented,
        }
    }
}

type Compilations = Mutex<Vec<(EngineConfig, Arc<Module>)>>;
