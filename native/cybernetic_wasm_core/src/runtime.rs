//! The node: its engines, its compiled-module cache, its compiling threads and its ceilings, under one roof. Loading goes
//! through it.

use crate::cache::{Cache, CacheStats, Flight, Key, Lookup};
use crate::code::{Code, Order, Outline, instrument::instrument, to_binary};
use crate::engine::{Allocation, Compiler, Engine, EngineConfig, Features, Metering, Ticker};
use crate::error::Error;
use crate::limits::{Ceilings, NodeLimits};
use crate::linker::Linkers;
use crate::module::Module;
use parking_lot::Mutex;
use std::collections::HashMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

/// What a runtime is made with.
#[derive(Debug, Clone)]
pub struct Settings {
    /// The node's ceilings.
    pub node: NodeLimits,
    /// Bytes that the compiled-module cache may hold; zero switches it off.
    pub cache_bytes: u64,
    /// The stack of guests for which nothing else is asked; engines of another stack allocate on demand.
    pub default_stack: u64,
    /// False: never reserve a pool.
    pub pooling: bool,
}

impl Default for Settings {
    fn default() -> Self {
        Self { node: NodeLimits::default(), cache_bytes: 256 << 20, default_stack: 1_000_000, pooling: true }
    }
}

/// All that the guests of one node share.
pub struct Runtime {
    settings: Settings,
    engines: Mutex<HashMap<EngineConfig, Arc<Linkers>>>,
    ticker: Arc<Ticker>,
    compiler: Compiler,
    cache: Cache,
    ceilings: Arc<Ceilings>,
    no_pool: Mutex<Option<String>>,
}

impl std::fmt::Debug for Runtime {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Runtime").field("settings", &self.settings).finish_non_exhaustive()
    }
}

/// Engines to keep though no module uses them: a host that asks for ever new stacks must not gather them.
const IDLE_ENGINES: usize = 16;

/// What the node uses now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stats {
    /// The compiled-module cache.
    pub cache: CacheStats,
    /// Live guests.
    pub live_instances: u64,
    /// Bytes of memory of all guests.
    pub total_memory: u64,
    /// Bytes of compiled code.
    pub code_memory: u64,
    /// Files and directories that guests have open.
    pub open_files: u64,
    /// Engines made.
    pub engines: u64,
    /// Ticks of the epoch ticker since the runtime was made.
    pub ticks: u64,
}

impl Runtime {
    /// A runtime with no engine yet.
    pub fn new(settings: Settings) -> Arc<Self> {
        Arc::new(Self {
            engines: Mutex::default(),
            ticker: Arc::default(),
            compiler: Compiler::default(),
            cache: Cache::new(settings.cache_bytes),
            ceilings: Arc::new(Ceilings::new(&settings.node)),
            no_pool: Mutex::new(None),
            settings,
        })
    }

    /// The configuration for which nothing special is asked.
    pub fn default_config(&self) -> EngineConfig {
        EngineConfig {
            metering: Metering::Fuel,
            deterministic: false,
            features: Features::default(),
            max_stack: self.settings.default_stack,
            allocation: Allocation::Pooling,
        }
    }

    /// The node's ceilings and what is used of them.
    pub fn ceilings(&self) -> &Arc<Ceilings> {
        &self.ceilings
    }

    pub(crate) fn ticker(&self) -> &Arc<Ticker> {
        &self.ticker
    }

    pub(crate) fn compiler(&self) -> &Compiler {
        &self.compiler
    }

    /// What the node uses now.
    pub fn stats(&self) -> Stats {
        Stats {
            cache: self.cache.stats(),
            live_instances: self.ceilings.live(),
            total_memory: self.ceilings.memory(),
            code_memory: self.ceilings.code(),
            open_files: self.ceilings.files(),
            engines: self.engines.lock().len() as u64,
            ticks: self.ticker.ticks(),
        }
    }

    /// Forgets all compiled modules that nobody uses; those in use live on with their users.
    pub fn clear_cache(&self) {
        self.cache.clear();
    }

    // Engines

    /// Why guests are allocated on demand although a pool was wanted, once that has happened.
    pub fn no_pool(&self) -> Option<String> {
        self.no_pool.lock().clone()
    }

    /// Makes the default engine now rather than at the first module, so that a missing pool is known.
    pub fn warm_up(&self) -> Result<(), Error> {
        self.linkers(self.default_config()).map(|_| ())
    }

    /// The engine of a configuration. Only the usual ones reserve a pool, so that a node never holds more than four.
    fn linkers(&self, mut config: EngineConfig) -> Result<Arc<Linkers>, Error> {
        let usual = config.features == Features::default() && config.max_stack == self.settings.default_stack;
        if !usual || !self.settings.pooling {
            config.allocation = Allocation::OnDemand;
        }
        let mut engines = self.engines.lock();
        if self.no_pool.lock().is_some() {
            config.allocation = Allocation::Scarce;
        }
        if let Some(linkers) = engines.get(&config) {
            return Ok(Arc::clone(linkers));
        }
        let engine = Engine::new(config, &self.ticker).or_else(|error| match config.allocation {
            Allocation::Pooling => {
                *self.no_pool.lock() = Some(error.to_string());
                config.allocation = Allocation::Scarce;
                Engine::new(config, &self.ticker)
            }
            Allocation::OnDemand | Allocation::Scarce => Err(error),
        });
        let linkers = Arc::new(Linkers::new(engine?));
        if engines.len() >= IDLE_ENGINES {
            engines.retain(|_, linkers| Arc::strong_count(linkers) > 1);
        }
        engines.insert(config, Arc::clone(&linkers));
        Ok(linkers)
    }

    // Loading

    /// Loads a module, in the binary or the text format, for an engine of `config`: from the cache, from another's
    /// compilation under way, or by compiling it on a thread of ours.
    pub async fn load(self: &Arc<Self>, source: impl AsRef<[u8]>, config: EngineConfig) -> Result<Arc<Module>, Error> {
        self.begin_load(source.as_ref(), config).end().await
    }

    /// The part of a load that needs the source: its digest, a look into the cache, and at a miss a copy for the compiler.
    pub(crate) fn begin_load(self: &Arc<Self>, source: &[u8], config: EngineConfig) -> Loading {
        let key = Key { digest: *blake3::hash(source).as_bytes(), config };
        self.begin(key, || source.into())
    }

    fn begin(self: &Arc<Self>, key: Key, source: impl FnOnce() -> Arc<[u8]>) -> Loading {
        let cached = self.settings.cache_bytes > 0;
        match cached.then(|| self.cache.look_up(key)) {
            Some(Lookup::Hit(module)) => Loading::Done(module),
            Some(Lookup::Join(flight)) => Loading::UnderWay(flight),
            Some(Lookup::Start(flight)) => Loading::UnderWay(self.compile(key, source(), flight, cached)),
            None => Loading::UnderWay(self.compile(key, source(), Arc::default(), cached)),
        }
    }

    /// Starts a compilation that lands `flight` whether or not anybody still waits for it.
    fn compile(self: &Arc<Self>, key: Key, source: Arc<[u8]>, flight: Arc<Flight>, cached: bool) -> Arc<Flight> {
        let (runtime, landing) = (Arc::clone(self), Arc::clone(&flight));
        let job = move || {
            let work = || to_binary(source).map_err(Error::from).and_then(|wasm| runtime.compile_now(key, wasm, false));
            let made = catch_unwind(AssertUnwindSafe(work)).unwrap_or_else(|panic| Err(Error::panic(&*panic)));
            runtime.land(key, landing, made.map(Arc::new), cached);
        };
        if let Err(error) = self.compiler.run(job) {
            self.land(key, Arc::clone(&flight), Err(Error::Internal(format!("no compiling thread: {error}"))), cached);
        }
        flight
    }

    fn land(&self, key: Key, flight: Arc<Flight>, result: Result<Arc<Module>, Error>, cached: bool) {
        match cached {
            true => self.cache.land(key, flight, result),
            false => flight.land(result),
        }
    }

    fn compile_now(&self, key: Key, wasm: Arc<[u8]>, instrumented: bool) -> Result<Module, Error> {
        let outline = Outline::read(&wasm)?;
        let mut config = key.config;
        if !outline.fits_pool() {
            config.allocation = Allocation::OnDemand;
        }
        let linkers = self.linkers(config)?;
        let code = Code::compile(Order {
            digest: key.digest,
            wasm,
            outline,
            requested: key.config,
            engine: Arc::clone(linkers.engine()),
            ceilings: Arc::clone(&self.ceilings),
            instrumented,
        })?;
        Module::new(self.count(code)?, linkers)
    }

    /// Makes room in the cache for code that the node's ceiling has none for.
    fn count(&self, mut code: Code) -> Result<Code, Error> {
        loop {
            match code.count() {
                Ok(()) => return Ok(code),
                Err(_) if self.cache.evict_unused() => {}
                Err(error) => return Err(error.into()),
            }
        }
    }

    // Variants

    /// A guest of another node's module would be counted there, and its epochs ticked there or not at all.
    fn check_own(&self, code: &Code) -> Result<(), Error> {
        match Arc::ptr_eq(code.ceilings(), &self.ceilings) {
            true => Ok(()),
            false => Err(Error::Internal("the module was loaded on another runtime".into())),
        }
    }

    /// `module` compiled for `config`: itself where that is what it was asked to be made for, or is, which is something else
    /// where the pool is too small for it or there is none.
    pub(crate) async fn variant(
        self: &Arc<Self>,
        module: &Arc<Module>,
        config: EngineConfig,
    ) -> Result<Arc<Module>, Error> {
        let code = module.code();
        self.check_own(code)?;
        if [code.requested(), code.engine().config()].contains(&&config) {
            return Ok(Arc::clone(module));
        }
        if let Some(variant) = module.variant(&config) {
            return Ok(variant);
        }
        let key = Key { digest: *code.digest(), config };
        let variant = self.begin(key, || Arc::clone(code.wasm())).end().await?;
        module.keep_variant(config, &variant);
        Ok(variant)
    }

    /// `module` made fit for snapshots, compiled for `config`. The module itself keeps it, not the cache.
    pub(crate) async fn instrumented(
        self: &Arc<Self>,
        module: &Arc<Module>,
        config: EngineConfig,
    ) -> Result<Arc<Module>, Error> {
        self.check_own(module.code())?;
        if let Some(instrumented) = module.instrumented(&config) {
            return Ok(instrumented);
        }
        let (code, runtime) = (Arc::clone(module.code()), Arc::clone(self));
        let job = move || {
            let wasm = instrument(code.wasm())?;
            // Its functions are known by the module that they come from.
            let key = Key { digest: *code.digest(), config };
            runtime.compile_now(key, wasm.into(), true).map(Arc::new)
        };
        let instrumented = self.compiler.compute(job).await??;
        module.keep_instrumented(config, &instrumented);
        Ok(instrumented)
    }
}

/// A load that has begun.
pub(crate) enum Loading {
    Done(Arc<Module>),
    UnderWay(Arc<Flight>),
}

impl Loading {
    pub(crate) async fn end(self) -> Result<Arc<Module>, Error> {
        match self {
            Loading::Done(module) => Ok(module),
            Loading::UnderWay(flight) => flight.landed().await,
        }
    }
}
