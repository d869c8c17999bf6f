//! What the compiler gives: code for every engine of its configuration, and what it has seen of the module.

use super::Outline;
use crate::engine::CodeConfig;
use crate::error::LimitError;
use crate::limits::Ceilings;
use cybernetic_wasm_artifact::Artifact;
use serde::Serialize;
use std::sync::Arc;

/// What compiled code is found by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
pub(crate) struct CodeKey {
    /// BLAKE3 of the source.
    pub(crate) digest: [u8; 32],
    pub(crate) config: CodeConfig,
    /// The module was made fit for snapshots before.
    pub(crate) instrumented: bool,
}

/// A module that has been compiled, for all engines that load it.
pub(crate) struct Compiled {
    pub(crate) key: CodeKey,
    /// The module in the binary format.
    pub(crate) wasm: Arc<[u8]>,
    pub(crate) outline: Outline,
    pub(crate) artifact: Artifact,
    /// Counted among the node's as long as this lives.
    ceilings: Option<Arc<Ceilings>>,
}

impl Compiled {
    pub(crate) fn new(key: CodeKey, wasm: Arc<[u8]>, outline: Outline, artifact: Artifact) -> Self {
        Self { key, wasm, outline, artifact, ceilings: None }
    }

    /// Counts the code among the node's.
    pub(crate) fn count(&mut self, ceilings: &Arc<Ceilings>) -> Result<(), LimitError> {
        ceilings.code_counter().reserve(self.artifact.size())?;
        self.ceilings = Some(Arc::clone(ceilings));
        Ok(())
    }
}

impl Drop for Compiled {
    fn drop(&mut self) {
        if let Some(ceilings) = &self.ceilings {
            ceilings.code_counter().release(self.artifact.size());
        }
    }
}
