//! What a guest is given of the system, as the embedder says it.

use super::clocks::Clocks;
use super::random::Random;
use super::times::FileTimes;
use crate::network::Policy;
use std::path::PathBuf;

/// A directory of the host's that a guest may use.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Directory {
    /// Where it is.
    pub host: PathBuf,
    /// What the guest calls it.
    pub guest: String,
    /// Whether the guest may change what is in it.
    pub writable: bool,
}

/// What a guest is given of the system: everything else is refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Grants {
    /// The command line, the program's name first.
    pub args: Vec<String>,
    /// The environment.
    pub env: Vec<(String, String)>,
    /// Directories.
    pub dirs: Vec<Directory>,
    /// Where the guest finds a directory of its own, which is gone afterwards.
    pub scratch: Option<String>,
    /// Where the guest finds a null device: a path that ends in `/null`.
    pub null: Option<String>,
    /// What it sees of the times of files.
    pub times: FileTimes,
    /// Bytes that it may write to files. A new file, directory or link counts as 4,096.
    pub quota: u64,
    /// Files, directories and sockets that it may have open at once, beside those that it is given.
    pub max_open: u64,
    /// Peers that a component may reach; a module has no sockets.
    pub network: Option<Policy>,
    /// What its clocks show.
    pub clocks: Clocks,
    /// Where its random bytes come from.
    pub random: Random,
    /// Whether it has standard input, standard output and standard error.
    pub stdio: [bool; 3],
    /// Which of these are a terminal's: programs then hand out each line, and prompts at once.
    pub terminals: [bool; 3],
    /// Imports of the module, by their index, that the embedder answers itself.
    pub answered: Vec<u32>,
}

impl Grants {
    /// Those of a guest that was given none.
    pub fn none() -> Self {
        Self {
            args: Vec::new(),
            env: Vec::new(),
            dirs: Vec::new(),
            scratch: None,
            null: None,
            times: FileTimes::Fixed,
            quota: 0,
            max_open: 0,
            network: None,
            clocks: Clocks::None,
            random: Random::None,
            stdio: [false; 3],
            terminals: [false; 3],
            answered: Vec::new(),
        }
    }

    /// Whether two modules can share one guest's system: their command lines and what is answered for them are their own.
    pub(crate) fn same(&self, other: &Self) -> bool {
        let system = |grants: &Self| Self { args: Vec::new(), answered: Vec::new(), ..grants.clone() };
        system(self) == system(other)
    }

    /// How many directories the guest is given.
    pub(super) fn directories(&self) -> usize {
        self.dirs.len() + usize::from(self.scratch.is_some()) + usize::from(self.null.is_some())
    }
}
