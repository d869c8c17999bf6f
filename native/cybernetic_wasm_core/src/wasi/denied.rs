//! Whose a `perm` is: the grants', which is a denial, or the operating system's own, which a program would meet anywhere.
//!
//! `wasmtime-wasi` has one errno for both. The grants refuse what changes something in a directory that may only be read, and
//! paths that lead out of a directory.

use super::call::Call;
use super::function::{Function, Kind};
use super::posix::{Place, filestat};
use crate::system::System;
use wasmtime_wasi::p1::types::{Errno, Lookupflags, Oflags, Rights};
use wiggle::GuestMemory;

impl Call<'_> {
    /// Whether the grants refuse it.
    pub(super) async fn is_denied(&self, system: &mut System, memory: &mut [u8]) -> bool {
        // What the operating system refuses a write to an open file is not the grants' doing.
        if self.function().kind() != Kind::Files || self.function() == Function::fd_pwrite {
            return false;
        }
        let places = self.places();
        let mut descriptors: Vec<u32> = places.iter().flatten().map(|(fd, _)| *fd).collect();
        if descriptors.is_empty() {
            descriptors.push(self.arg(0));
        }
        if self.changes() && !descriptors.into_iter().all(|fd| system.descriptors.is_writable(fd)) {
            return true;
        }
        self.is_absolute_link(memory) || self.leads_out(system, memory, places).await
    }

    /// Whether it is to change something.
    fn changes(&self) -> bool {
        use Function::{
            fd_advise, fd_datasync, fd_pread, fd_prestat_dir_name, fd_prestat_get, fd_readdir, fd_sync,
            path_filestat_get, path_open, path_readlink,
        };
        match self.function() {
            path_open => {
                let making = Oflags::CREAT | Oflags::TRUNC;
                self.arg(4) & u32::from(making.bits()) != 0 || self.wide_arg(5) as u64 & Rights::FD_WRITE.bits() != 0
            }
            fd_advise | fd_datasync | fd_pread | fd_prestat_dir_name | fd_prestat_get | fd_readdir | fd_sync
            | path_filestat_get | path_readlink => false,
            _ => true,
        }
    }

    /// No link is made that leads to the root.
    fn is_absolute_link(&self, memory: &[u8]) -> bool {
        self.function() == Function::path_symlink && self.arg(1) > 0 && memory.get(self.arg(0) as usize) == Some(&b'/')
    }

    async fn leads_out(&self, system: &mut System, memory: &mut [u8], places: [Option<Place>; 2]) -> bool {
        let flags = match self.function() {
            Function::path_open | Function::path_filestat_set_times | Function::path_filestat_get => {
                self.arg(1) & Lookupflags::SYMLINK_FOLLOW.bits()
            }
            _ => 0,
        };
        for place in places.into_iter().flatten() {
            let Ok(ctx) = system.ctx() else { return false };
            let found = filestat(ctx, &mut GuestMemory::Unshared(&mut *memory), place, flags).await;
            if matches!(found, Ok(Err(Errno::Perm))) {
                return true;
            }
        }
        false
    }
}
