//! What an operator should read. It is kept until somebody asks.

use parking_lot::Mutex;

/// Something that an operator should read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Notice {
    /// Modules are compiled in this process although that was not asked for.
    InProcess(String),
    /// A module is compiled again at every load unless somebody holds it: the cache is smaller than the module.
    TooLarge {
        /// The module's digest.
        digest: [u8; 32],
        /// Bytes of code and source.
        size: u64,
        /// Bytes that the cache may hold.
        allowed: u64,
    },
    /// Compiled code is not kept on disk although that was asked for.
    NoArtifacts(String),
    /// A file of compiled code was not taken, and its module compiled anew.
    ArtifactRefused {
        /// The module's digest.
        digest: [u8; 32],
        /// What is wrong with the file.
        detail: String,
    },
    /// So many files of compiled code are there, and all are of another build of the library, or of another machine.
    ArtifactsStale(u64),
    /// Compiled code could not be written to the disk.
    ArtifactUnwritten(String),
    /// A compiling process panicked or died.
    Failed {
        /// The digest of the module that it had.
        digest: [u8; 32],
        /// What is known of it.
        detail: String,
    },
}

/// Notices that are kept until somebody reads them.
const MOST: usize = 100;

/// What nobody has read yet.
#[derive(Default)]
pub(crate) struct Notices(Mutex<Vec<Notice>>);

impl Notices {
    pub(crate) fn add(&self, notice: Notice) {
        let mut notices = self.0.lock();
        if notices.len() < MOST {
            notices.push(notice);
        }
    }

    /// Each is given once.
    pub(crate) fn take(&self) -> Vec<Notice> {
        std::mem::take(&mut *self.0.lock())
    }
}
