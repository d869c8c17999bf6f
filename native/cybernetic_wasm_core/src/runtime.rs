//! The node: its engines, its compiled-module cache, its compiling threads and its ceilings, under one roof. Loading goes
//! through it; where the code comes from that is not in memory is in `runtime/landing.rs`.

mod landing;

use crate::artifacts::{ArtifactPlace, ArtifactSettings, ArtifactStats, Artifacts};
use crate::cache::{Awaited, Cache, CacheStats, FlightKey, Lookup};
use crate::code::{Code, CodeKey, Compiled};
use crate::compiler::{Asker, Budget, Compiler, CompilerSettings, CompilerStats, Notice};
use crate::engine::{Allocation, Engine, EngineConfig, Features, Metering, Ticker};
use crate::error::Error;
use crate::invocation::Invocation;
use crate::limits::{Ceilings, NodeLimits};
use crate::linker::Linkers;
use crate::live::Snapshot;
use crate::module::{Form, Module};
use landing::Landing;
use parking_lot::{Mutex, RwLock};
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

/// What a runtime is made with.
#[derive(Debug, Clone)]
pub struct Settings {
    /// The node's ceilings.
    pub node: NodeLimits,
    /// Bytes that the compiled-module cache may hold; zero switches it off.
    pub cache_bytes: u64,
    /// A module that nobody has loaded for so long leaves the cache; `None`: none does.
    pub cache_time: Option<Duration>,
    /// Where compiled code is kept on disk, if anywhere.
    pub artifacts: Option<ArtifactSettings>,
    /// The stack of guests for which nothing else is asked; engines of another stack allocate on demand.
    pub default_stack: u64,
    /// False: never reserve a pool.
    pub pooling: bool,
    /// How modules are compiled.
    pub compiler: CompilerSettings,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            node: NodeLimits::default(),
            cache_bytes: 256 << 20,
            cache_time: Some(Duration::from_secs(30 * 60)),
            artifacts: None,
            default_stack: 1_000_000,
            pooling: true,
            compiler: CompilerSettings::default(),
        }
    }
}

/// All that the guests of one node share.
pub struct Runtime {
    settings: RwLock<Settings>,
    engines: Mutex<HashMap<EngineConfig, Arc<Linkers>>>,
    ticker: Arc<Ticker>,
    compiler: Compiler,
    artifacts: Arc<Artifacts>,
    cache: Cache,
    ceilings: Arc<Ceilings>,
    no_pool: Mutex<Option<String>>,
}

impl std::fmt::Debug for Runtime {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Runtime").field("settings", &*self.settings.read()).finish_non_exhaustive()
    }
}

/// Engines to keep though no module uses them: a host that asks for ever new stacks must not gather them.
const IDLE_ENGINES: usize = 16;

/// What the node uses now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stats {
    /// The compiled-module cache.
    pub cache: CacheStats,
    /// Compiled code on disk.
    pub artifacts: ArtifactStats,
    /// Live guests.
    pub live_instances: u64,
    /// Bytes of memory of all guests.
    pub total_memory: u64,
    /// Bytes of compiled code.
    pub code_memory: u64,
    /// Files and directories that guests have open.
    pub open_files: u64,
    /// Executions and calls that want a dirty scheduler.
    pub crowd: u64,
    /// Engines made.
    pub engines: u64,
    /// Ticks of the epoch ticker since the runtime was made.
    pub ticks: u64,
    /// The compiler.
    pub compiler: CompilerStats,
}

impl Runtime {
    /// A runtime with no engine yet.
    pub fn new(settings: Settings) -> Arc<Self> {
        let compiler = Compiler::new(settings.compiler.clone());
        Arc::new(Self {
            engines: Mutex::default(),
            ticker: Arc::default(),
            artifacts: Artifacts::new(settings.artifacts.clone(), compiler.notices()),
            compiler,
            cache: Cache::new(settings.cache_bytes, settings.cache_time),
            ceilings: Arc::new(Ceilings::new(&settings.node)),
            no_pool: Mutex::new(None),
            settings: RwLock::new(settings),
        })
    }

    /// Other settings, for what comes from now on. Modules and guests that are there live on and are counted on: a ceiling below
    /// what is used only refuses what is new.
    pub fn adjust(&self, settings: Settings) {
        self.ceilings.adjust(&settings.node);
        self.cache.adjust(settings.cache_bytes, settings.cache_time);
        self.artifacts.adjust(settings.artifacts.clone());
        self.compiler.adjust(&settings.compiler);
        let before = std::mem::replace(&mut *self.settings.write(), settings.clone());
        if (before.default_stack, before.pooling) != (settings.default_stack, settings.pooling) {
            // Pools of another default are not to add up, and whether there can be one is another question.
            *self.no_pool.lock() = None;
            self.engines.lock().retain(|_, linkers| Arc::strong_count(linkers) > 1);
        }
    }

    /// The configuration for which nothing special is asked.
    pub fn default_config(&self) -> EngineConfig {
        EngineConfig {
            metering: Metering::Fuel,
            deterministic: false,
            features: Features::default(),
            max_stack: self.settings.read().default_stack,
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
            artifacts: self.artifacts.stats(),
            live_instances: self.ceilings.live(),
            total_memory: self.ceilings.memory(),
            code_memory: self.ceilings.code(),
            open_files: self.ceilings.files(),
            crowd: self.ceilings.crowd(),
            engines: self.engines.lock().len() as u64,
            ticks: self.ticker.ticks(),
            compiler: self.compiler.stats(),
        }
    }

    /// Why modules are compiled in this process; `None` where processes of their own do it.
    pub fn compiles_in_process(&self) -> Option<String> {
        self.compiler.in_process()
    }

    /// What an operator should read, once.
    pub fn take_notices(&self) -> Vec<Notice> {
        self.compiler.notices().take()
    }

    /// Where compiled code is kept on disk, if anywhere.
    pub fn artifacts(&self) -> Option<ArtifactPlace> {
        self.artifacts.place()
    }

    /// Sees to it that a module's code is on disk, or says why it cannot be.
    pub fn keep(&self, module: &Module) -> Result<(), String> {
        self.artifacts.keep(module.code().compiled())
    }

    /// Ends the compiling processes, until there is something to compile again.
    pub fn rest(&self) {
        self.compiler.rest();
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

    /// Makes the default engine and starts the compiler now rather than at the first module, so that it is known what of them
    /// cannot be had.
    pub fn warm_up(&self) -> Result<(), Error> {
        self.compiler.warm_up()?;
        self.artifacts.warm_up();
        self.linkers(self.default_config()).map(|_| ())
    }

    /// The engine of a configuration. Only the usual ones reserve a pool, so that a node never holds more than four.
    fn linkers(&self, mut config: EngineConfig) -> Result<Arc<Linkers>, Error> {
        let (default_stack, pooling) = {
            let settings = self.settings.read();
            (settings.default_stack, settings.pooling)
        };
        let usual = config.features == Features::default() && config.max_stack == default_stack;
        if !usual || !pooling {
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
    /// compilation under way, or by having it compiled.
    pub async fn load(self: &Arc<Self>, source: impl AsRef<[u8]>, config: EngineConfig) -> Result<Arc<Module>, Error> {
        self.begin_load(source.as_ref(), config, None, Asker::next()).end(self, config, None).await
    }

    /// The part of a load that needs the source: its digest, a look into the cache, and at a miss a copy for the compiler.
    pub(crate) fn begin_load(
        self: &Arc<Self>,
        source: &[u8],
        config: EngineConfig,
        budget: Option<Budget>,
        asker: Asker,
    ) -> Loading {
        let code = self.key(*blake3::hash(source).as_bytes(), config, false);
        let wanted = Wanted { key: FlightKey { code, budget: self.compiler.budget(budget) }, config, asker };
        self.begin(wanted, || source.into())
    }

    fn key(&self, digest: [u8; 32], config: EngineConfig, instrumented: bool) -> CodeKey {
        let mut config = config.code();
        config.scarce |= self.no_pool.lock().is_some();
        CodeKey { digest, config, instrumented }
    }

    fn begin(self: &Arc<Self>, wanted: Wanted, source: impl FnOnce() -> Arc<[u8]>) -> Loading {
        let cached = self.cache.is_on() && !wanted.key.code.instrumented;
        match cached.then(|| self.cache.look_up(wanted.key)) {
            Some(Lookup::Hit(module)) => Loading::Done(module),
            Some(Lookup::Join(flight)) => Loading::UnderWay(flight),
            Some(Lookup::Start(flight)) => self.make(wanted, source, flight, cached),
            None => self.make(wanted, source, Awaited::new(&Arc::default()), cached),
        }
    }

    fn make(
        self: &Arc<Self>,
        wanted: Wanted,
        source: impl FnOnce() -> Arc<[u8]>,
        flight: Awaited,
        cached: bool,
    ) -> Loading {
        Landing::new(self, &flight, wanted, cached).begin(source);
        Loading::UnderWay(flight)
    }

    /// Loads what was compiled into an engine for `requested`.
    fn module(&self, compiled: &Arc<Compiled>, requested: EngineConfig) -> Result<Module, Error> {
        let mut config = requested;
        if !compiled.outline.fits_pool() {
            config.allocation = Allocation::OnDemand;
        }
        let linkers = self.linkers(config)?;
        Module::new(Code::load(compiled, linkers.engine(), requested, &self.ceilings)?, linkers)
    }

    /// Makes room in the cache for code that the node's ceiling has none for.
    fn count(&self, mut compiled: Compiled) -> Result<Compiled, Error> {
        loop {
            match compiled.count(&self.ceilings) {
                Ok(()) => return Ok(compiled),
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

    /// `module` in this form, compiled for `config`: itself where that is what it was asked to be made for, or is, which is
    /// something else where the pool is too small for it or there is none. The module itself keeps what was made fit for
    /// snapshots, not the cache.
    pub(crate) async fn variant(
        self: &Arc<Self>,
        module: &Arc<Module>,
        (form, config): (Form, EngineConfig),
        invocation: &Invocation,
    ) -> Result<Arc<Module>, Error> {
        let code = module.code();
        self.check_own(code)?;
        if form == Form::Loaded && is_for(module, &config) {
            return Ok(Arc::clone(module));
        }
        if let Some(variant) = module.kept(form, &config) {
            return Ok(variant);
        }
        // The functions of every form are known by the module that they come from.
        let key = self.key(*code.digest(), config, form == Form::Instrumented);
        if let Some(same) = module.of_code(&key) {
            return self.mapped(&same, config, Some(invocation)).await;
        }
        let wanted =
            Wanted { key: FlightKey { code: key, budget: self.compiler.budget(None) }, config, asker: Asker::next() };
        let variant = self.begin(wanted, || Arc::clone(module.source()));
        let variant = invocation.compile(variant.end(self, config, Some(invocation))).await?;
        module.keep(form, config, &variant);
        Ok(variant)
    }

    /// The module of a snapshot, made fit for another one. Whoever forks keeps it, not the cache.
    pub(crate) async fn load_snapshot(
        self: &Arc<Self>,
        snapshot: Snapshot,
        config: EngineConfig,
        invocation: &Invocation,
    ) -> Result<Arc<Module>, Error> {
        let (digest, source) = self.compiler.compute(move || snapshot.keep()).await??;
        let code = self.key(digest, config, true);
        let wanted =
            Wanted { key: FlightKey { code, budget: self.compiler.budget(None) }, config, asker: Asker::next() };
        let loading = self.begin(wanted, || Arc::clone(&source.wasm));
        let module = invocation.compile(loading.end(self, config, Some(invocation))).await?;
        module.made_of(source);
        Ok(module)
    }

    /// `module` for an engine of `config`, which takes the same code: that is only mapped once more.
    async fn mapped(
        &self,
        module: &Arc<Module>,
        config: EngineConfig,
        invocation: Option<&Invocation>,
    ) -> Result<Arc<Module>, Error> {
        if is_for(module, &config) {
            return Ok(Arc::clone(module));
        }
        if let Some(variant) = module.kept(Form::Loaded, &config) {
            return Ok(variant);
        }
        if let Some(invocation) = invocation {
            invocation.leave_inline().await;
        }
        let variant = Arc::new(self.module(module.code().compiled(), config)?);
        module.keep(Form::Loaded, config, &variant);
        Ok(variant)
    }
}

/// Whether the module was asked to be made for this configuration, or is.
fn is_for(module: &Module, config: &EngineConfig) -> bool {
    [module.code().requested(), module.code().engine().config()].contains(&config)
}

/// What is to be compiled, for which engine, and who asks.
#[derive(Debug, Clone, Copy)]
struct Wanted {
    key: FlightKey,
    config: EngineConfig,
    asker: Asker,
}

/// A load that has begun.
pub(crate) enum Loading {
    Done(Arc<Module>),
    UnderWay(Awaited),
}

impl Loading {
    /// The module, for an engine of `config`: what was found may be for another.
    pub(crate) async fn end(
        self,
        runtime: &Runtime,
        config: EngineConfig,
        invocation: Option<&Invocation>,
    ) -> Result<Arc<Module>, Error> {
        let module = match self {
            Loading::Done(module) => module,
            Loading::UnderWay(flight) => flight.0.landed().await?,
        };
        runtime.mapped(&module, config, invocation).await
    }
}
