//! Opening a file or directory, apart from the guest: it is the one operation that can wait for ever (`wasi/apart.rs`).

use crate::system::now;
use std::sync::Arc;
use wasmtime::component::{Resource, ResourceTable};
use wasmtime_wasi::filesystem::{Descriptor, Dir, File, WasiFilesystemCtx, WasiFilesystemCtxView};
use wasmtime_wasi::p2::bindings::filesystem::types::{
    DescriptorFlags, DescriptorType, ErrorCode, HostDescriptor, OpenFlags, PathFlags,
};
use wasmtime_wasi::p2::{FsError, FsResult};

/// What is to be opened, in a directory.
pub(super) struct Opening {
    pub(super) path: String,
    /// How it is looked at before.
    pub(super) look_flags: PathFlags,
    pub(super) path_flags: PathFlags,
    pub(super) open_flags: OpenFlags,
    pub(super) flags: DescriptorFlags,
    pub(super) may_create: bool,
}

pub(super) enum Opened {
    /// By the bounds.
    Refused(ErrorCode),
    Is {
        descriptor: Descriptor,
        /// It was not there before.
        made: bool,
    },
}

impl Opening {
    /// Only regular files and directories are opened, whatever the name stands for by then.
    pub(super) fn open(self, directory: Descriptor) -> FsResult<Opened> {
        let (mut table, mut ctx) = (ResourceTable::new(), WasiFilesystemCtx::default());
        let directory = table.push(directory)?;
        let fd = || Resource::new_borrow(directory.rep());
        let mut files = WasiFilesystemCtxView { ctx: &mut ctx, table: &mut table };
        let there = now(files.stat_at(fd(), self.look_flags, self.path.clone())).map_err(FsError::trap)?;
        // Whatever is wrong with the path, opening it will say so.
        let there = there.ok().map(|stat| stat.type_);
        match there {
            Some(kind) if !is_plain(kind) => return Ok(Opened::Refused(ErrorCode::NotPermitted)),
            None if self.open_flags.contains(OpenFlags::CREATE) && !self.may_create => {
                return Ok(Opened::Refused(ErrorCode::Quota));
            }
            _ => {}
        }
        let opened = files.open_at(fd(), self.path_flags, self.path, self.open_flags, self.flags);
        let opened = now(opened).map_err(FsError::trap)??;
        let descriptor = here(table.delete(opened)?)?;
        let kind = handle(&descriptor).metadata()?.file_type();
        match kind.is_file() || kind.is_dir() {
            true => Ok(Opened::Is { descriptor, made: there.is_none() }),
            false => Ok(Opened::Refused(ErrorCode::NotPermitted)),
        }
    }
}

fn is_plain(kind: DescriptorType) -> bool {
    matches!(kind, DescriptorType::RegularFile | DescriptorType::Directory | DescriptorType::SymbolicLink)
}

/// The operating system's handle.
pub(super) fn handle(descriptor: &Descriptor) -> &Arc<std::fs::File> {
    match descriptor {
        Descriptor::File(file) => &file.file,
        Descriptor::Dir(dir) => &dir.dir,
    }
}

/// The same descriptor, whose work is done where the step runs.
fn here(descriptor: Descriptor) -> FsResult<Descriptor> {
    let shared = || FsError::trap(wasmtime::format_err!("an opened file is in use already"));
    let own = |file: Arc<std::fs::File>| Arc::into_inner(file).ok_or_else(shared);
    Ok(match descriptor {
        Descriptor::File(File { file, perms, open_mode, .. }) => {
            Descriptor::File(File::new(own(file)?, perms, open_mode, true))
        }
        Descriptor::Dir(Dir { dir, perms, open_mode, .. }) => {
            Descriptor::Dir(Dir::new(own(dir)?, perms, open_mode, true))
        }
    })
}
