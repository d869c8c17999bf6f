//! `wasi:filesystem`: files and directories, within what the guest was granted and the bounds on them. `wasmtime-wasi` does the
//! work, where the step runs; what may keep a thread for long, opening and listing, is done apart from the guest.
//!
//! What a call needs and may is in `filesystem/asked.rs`. Streams over files are of the guest's system (`system/file_streams.rs`).

mod asked;
mod open;

use super::add;
use super::entry::{Work, count, enter, system, table};
use crate::error::Error;
use crate::store::StoreData;
use crate::system::{Descriptor as Kind, NEW_FILE, NULL, Position, System, Unlisted, growth};
use crate::wasi::posix;
use asked::{Asked, operation};
use open::{Opened, Opening, handle};
use wasmtime::component::{Linker, Resource};
use wasmtime_wasi::filesystem::{Descriptor, WasiFilesystemCtxView, WasiFilesystemView};
use wasmtime_wasi::p2::bindings::clocks::wall_clock::Datetime;
use wasmtime_wasi::p2::bindings::filesystem::preopens;
use wasmtime_wasi::p2::bindings::filesystem::types::{
    self, Advice, DescriptorFlags, DescriptorStat, DescriptorType, DirectoryEntry, DirectoryEntryStream, ErrorCode,
    Filesize, HostDescriptor, HostDirectoryEntryStream, MetadataHashValue, NewTimestamp, OpenFlags, PathFlags,
};
use wasmtime_wasi::p2::{DynInputStream, DynOutputStream, FsError, FsResult, IoError};

type Fd = Resource<Descriptor>;

pub(super) fn add_to_linker(linker: &mut Linker<StoreData>) -> wasmtime::Result<()> {
    add!(linker: preopens, types);
    Ok(())
}

/// What a directory's entries are handed out of: the listing is kept by the number of this.
struct Entries {
    next: u64,
}

impl StoreData {
    /// What `wasmtime-wasi` knows of the guest's files.
    fn files(&mut self) -> FsResult<WasiFilesystemCtxView<'_>> {
        Ok(self.own()?.ctx().map_err(FsError::trap)?.filesystem())
    }

    fn own(&mut self) -> FsResult<&mut System> {
        system(self).map_err(FsError::trap)
    }

    fn descriptor(&mut self, fd: &Fd) -> FsResult<Descriptor> {
        Ok(table(self).map_err(FsError::trap)?.get(fd)?.clone())
    }

    fn is_null(&mut self, fd: &Fd) -> FsResult<bool> {
        Ok(self.own()?.descriptors.get(fd.rep()) == Some(Kind::Null))
    }

    /// Whether this is the path of a null device.
    fn names_null(&mut self, fd: &Fd, path: &str) -> FsResult<bool> {
        Ok(path == NULL && self.own()?.descriptors.get(fd.rep()) == Some(Kind::NullFolder))
    }

    /// A file's size.
    fn size(&mut self, fd: &Fd) -> FsResult<u64> {
        Ok(handle(&self.descriptor(fd)?).metadata()?.len())
    }

    /// As the guest sees it.
    fn shown(&mut self, mut stat: DescriptorStat, null: bool) -> FsResult<DescriptorStat> {
        const SECOND: u64 = 1_000_000_000;
        let shown = self.own()?.times.shown();
        let shown = shown.map(|time| Datetime { seconds: time / SECOND, nanoseconds: (time % SECOND) as u32 });
        for time in
            [&mut stat.data_access_timestamp, &mut stat.data_modification_timestamp, &mut stat.status_change_timestamp]
        {
            *time = shown.or(*time);
        }
        if null {
            stat.type_ = DescriptorType::CharacterDevice;
        }
        Ok(stat)
    }
}

fn again(fd: &Fd) -> Fd {
    Resource::new_borrow(fd.rep())
}

impl preopens::Host for StoreData {
    fn get_directories(&mut self) -> wasmtime::Result<Vec<(Fd, String)>> {
        count(self)?;
        let given = preopens::Host::get_directories(&mut system(self)?.ctx()?.filesystem())?;
        let descriptors = &mut system(self)?.descriptors;
        given.iter().enumerate().for_each(|(index, (fd, _))| descriptors.give(fd.rep(), index));
        Ok(given)
    }
}

impl types::Host for StoreData {
    fn convert_error_code(&mut self, error: FsError) -> wasmtime::Result<ErrorCode> {
        error.downcast()
    }

    fn filesystem_error_code(&mut self, error: Resource<IoError>) -> wasmtime::Result<Option<ErrorCode>> {
        count(self)?;
        let failed = table(self)?.get(&error)?.downcast_ref::<std::io::Error>().map(std::io::Error::kind);
        match failed {
            Some(std::io::ErrorKind::StorageFull) => Ok(Some(ErrorCode::Quota)),
            _ => types::Host::filesystem_error_code(&mut system(self)?.ctx()?.filesystem(), error),
        }
    }
}

/// Functions that `wasmtime-wasi` does alone, once they have been asked for: on a descriptor, or a path beneath it.
macro_rules! done {
    ($data:ident, $asked:expr, $name:ident($($arg:expr),*)) => {{
        let mut asked = $asked;
        asked.begin($data).await?;
        let done = HostDescriptor::$name(&mut $data.files()?, $($arg),*).await;
        asked.end($data, done).await
    }};
}

impl HostDescriptor for StoreData {
    async fn advise(&mut self, fd: Fd, offset: Filesize, length: Filesize, advice: Advice) -> FsResult<()> {
        done!(self, Asked::to_look(operation!("advise"), &fd), advise(fd, offset, length, advice))
    }

    async fn sync_data(&mut self, fd: Fd) -> FsResult<()> {
        done!(self, Asked::to_look(operation!("sync-data"), &fd), sync_data(fd))
    }

    async fn get_flags(&mut self, fd: Fd) -> FsResult<DescriptorFlags> {
        let null = self.is_null(&fd)?;
        let flags = done!(self, Asked::to_look(operation!("get-flags"), &fd), get_flags(fd))?;
        Ok(if null { flags | DescriptorFlags::WRITE } else { flags })
    }

    async fn get_type(&mut self, fd: Fd) -> FsResult<DescriptorType> {
        let null = self.is_null(&fd)?;
        let kind = done!(self, Asked::to_look(operation!("get-type"), &fd), get_type(fd))?;
        Ok(if null { DescriptorType::CharacterDevice } else { kind })
    }

    /// A file that grows is written to, whatever with.
    async fn set_size(&mut self, fd: Fd, size: Filesize) -> FsResult<()> {
        let mut asked = Asked::to_change(operation!("set-size"), &fd);
        asked.begin(self).await?;
        let more = size.saturating_sub(self.size(&fd)?);
        asked.charge(self, more)?;
        let done = self.files()?.set_size(fd, size).await;
        asked.end(self, done).await
    }

    async fn set_times(&mut self, fd: Fd, access: NewTimestamp, modification: NewTimestamp) -> FsResult<()> {
        done!(self, Asked::to_change(operation!("set-times"), &fd), set_times(fd, access, modification))
    }

    async fn read(&mut self, fd: Fd, length: Filesize, offset: Filesize) -> FsResult<(Vec<u8>, bool)> {
        if self.is_null(&fd)? {
            count(self).map_err(FsError::trap)?;
            return Ok((Vec::new(), true));
        }
        done!(self, Asked::to_look(operation!("read"), &fd), read(fd, length, offset))
    }

    async fn write(&mut self, fd: Fd, bytes: Vec<u8>, offset: Filesize) -> FsResult<Filesize> {
        let length = bytes.len() as u64;
        if self.is_null(&fd)? {
            count(self).map_err(FsError::trap)?;
            return Ok(length);
        }
        let mut asked = Asked::to_change(operation!("write"), &fd);
        asked.begin(self).await?;
        let size = self.size(&fd)?;
        asked.charge(self, growth(size, offset, length))?;
        let done = self.files()?.write(fd, bytes, offset).await;
        let written = asked.end(self, done).await?;
        asked.keep(self, growth(size, offset, written))?;
        Ok(written)
    }

    async fn read_directory(&mut self, fd: Fd) -> FsResult<Resource<DirectoryEntryStream>> {
        Asked::to_look(operation!("read-directory"), &fd).begin(self).await?;
        let Descriptor::Dir(directory) = self.descriptor(&fd)? else { return Err(ErrorCode::NotDirectory.into()) };
        let mut listing = self.own()?.descriptors.new_listing();
        let taken = self.own()?.elsewhere(move || listing.take(&*directory.dir).map(|()| listing)).await;
        let listing = taken.map_err(FsError::trap)?.map_err(|why| match why {
            Unlisted::TooLarge => ErrorCode::InsufficientMemory.into(),
            Unlisted::Refused(errno) => std::io::Error::from(errno).into(),
            Unlisted::Full(error) => FsError::trap(Error::from(error)),
        })?;
        let entries = table(self).map_err(FsError::trap)?.push(Entries { next: 0 })?;
        self.own()?.descriptors.keep_listing(entries.rep(), listing);
        Ok(Resource::new_own(entries.rep()))
    }

    async fn sync(&mut self, fd: Fd) -> FsResult<()> {
        done!(self, Asked::to_look(operation!("sync"), &fd), sync(fd))
    }

    async fn create_directory_at(&mut self, fd: Fd, path: String) -> FsResult<()> {
        let mut asked = Asked::to_change(operation!("create-directory-at"), &fd).at(&fd, &path, PathFlags::empty());
        asked.begin(self).await?;
        asked.charge(self, NEW_FILE)?;
        let done = self.files()?.create_directory_at(fd, path).await;
        asked.end(self, done).await
    }

    async fn stat(&mut self, fd: Fd) -> FsResult<DescriptorStat> {
        let null = self.is_null(&fd)?;
        let stat = done!(self, Asked::to_look(operation!("stat"), &fd), stat(fd))?;
        self.shown(stat, null)
    }

    async fn stat_at(&mut self, fd: Fd, flags: PathFlags, path: String) -> FsResult<DescriptorStat> {
        let null = self.names_null(&fd, &path)?;
        let flags = follow(flags, &path);
        let asked = Asked::to_look(operation!("stat-at"), &fd).at(&fd, &path, flags);
        let stat = done!(self, asked, stat_at(fd, flags, path))?;
        self.shown(stat, null)
    }

    async fn set_times_at(
        &mut self,
        fd: Fd,
        flags: PathFlags,
        path: String,
        access: NewTimestamp,
        modification: NewTimestamp,
    ) -> FsResult<()> {
        let asked = Asked::to_change(operation!("set-times-at"), &fd).at(&fd, &path, flags);
        done!(self, asked, set_times_at(fd, flags, path, access, modification))
    }

    async fn link_at(&mut self, fd: Fd, flags: PathFlags, old: String, to: Fd, new: String) -> FsResult<()> {
        let asked = Asked::to_change(operation!("link-at"), &fd).at(&fd, &old, flags);
        let mut asked = asked.at(&to, &new, PathFlags::empty());
        asked.begin(self).await?;
        asked.charge(self, NEW_FILE)?;
        let done = self.files()?.link_at(fd, flags, old, to, new).await;
        asked.end(self, done).await
    }

    async fn open_at(
        &mut self,
        fd: Fd,
        path_flags: PathFlags,
        path: String,
        open_flags: OpenFlags,
        flags: DescriptorFlags,
    ) -> FsResult<Fd> {
        let mut asked = to_open(&fd, (&path, path_flags), (open_flags, flags));
        asked.begin(self).await?;
        let directory @ Descriptor::Dir(_) = self.descriptor(&fd)? else { return Err(ErrorCode::NotDirectory.into()) };
        asked.reserve(self)?;
        let null = self.names_null(&fd, &path)?;
        let creates = !null && open_flags.contains(OpenFlags::CREATE);
        let may_create = creates && asked.may_charge(self, NEW_FILE)?;
        // The null device is opened to be read, whatever for.
        let (open_flags, flags) =
            if null { (open_flags & OpenFlags::DIRECTORY, DescriptorFlags::READ) } else { (open_flags, flags) };
        let look_flags = follow(path_flags, &path);
        let opening = Opening { path, look_flags, path_flags, open_flags, flags, may_create };
        let opened = self.own()?.elsewhere(move || opening.open(directory)).await.map_err(FsError::trap)?;
        let (descriptor, made) = match asked.end(self, opened).await? {
            Opened::Refused(code) => {
                asked.undo(self)?;
                return Err(asked.refused(self, code));
            }
            Opened::Is { descriptor, made } => (descriptor, made),
        };
        asked.keep(self, if made && may_create { NEW_FILE } else { 0 })?;
        let opened = table(self).map_err(FsError::trap)?.push(descriptor)?;
        let kind = if null { Kind::Null } else { Kind::Opened };
        self.own()?.descriptors.open(opened.rep(), kind, fd.rep());
        Ok(opened)
    }

    fn drop(&mut self, fd: Fd) -> wasmtime::Result<()> {
        system(self)?.descriptors.close(fd.rep());
        table(self)?.delete(fd)?;
        Ok(())
    }

    async fn readlink_at(&mut self, fd: Fd, path: String) -> FsResult<String> {
        let asked = Asked::to_look(operation!("readlink-at"), &fd).at(&fd, &path, PathFlags::empty());
        done!(self, asked, readlink_at(fd, path))
    }

    /// A directory is removed by its name.
    async fn remove_directory_at(&mut self, fd: Fd, mut path: String) -> FsResult<()> {
        let asked = Asked::to_change(operation!("remove-directory-at"), &fd).at(&fd, &path, PathFlags::empty());
        if let Some(length) = posix::name(path.as_bytes()) {
            path.truncate(length);
        }
        done!(self, asked, remove_directory_at(fd, path))
    }

    async fn rename_at(&mut self, fd: Fd, old: String, to: Fd, new: String) -> FsResult<()> {
        let asked = Asked::to_change(operation!("rename-at"), &fd).at(&fd, &old, PathFlags::empty()).at(
            &to,
            &new,
            PathFlags::empty(),
        );
        done!(self, asked, rename_at(fd, old, to, new))
    }

    async fn symlink_at(&mut self, fd: Fd, target: String, path: String) -> FsResult<()> {
        let asked = Asked::to_change(operation!("symlink-at"), &fd).at(&fd, &path, PathFlags::empty());
        let mut asked = asked.to(&target);
        asked.begin(self).await?;
        asked.charge(self, NEW_FILE)?;
        let done = self.files()?.symlink_at(fd, target, path).await;
        asked.end(self, done).await
    }

    async fn unlink_file_at(&mut self, fd: Fd, path: String) -> FsResult<()> {
        let asked = Asked::to_change(operation!("unlink-file-at"), &fd).at(&fd, &path, PathFlags::empty());
        done!(self, asked, unlink_file_at(fd, path))
    }

    fn read_via_stream(&mut self, fd: Fd, offset: Filesize) -> FsResult<Resource<DynInputStream>> {
        count(self).map_err(FsError::trap)?;
        let number = fd.rep();
        let stream = self.files()?.read_via_stream(fd, offset)?;
        let stream = table(self).map_err(FsError::trap)?.delete(stream)?;
        let stream = self.own()?.read_by(number, stream);
        Ok(table(self).map_err(FsError::trap)?.push(stream)?)
    }

    fn write_via_stream(&mut self, fd: Fd, offset: Filesize) -> FsResult<Resource<DynOutputStream>> {
        written_by(self, fd, operation!("write-via-stream"), Position::At(offset))
    }

    fn append_via_stream(&mut self, fd: Fd) -> FsResult<Resource<DynOutputStream>> {
        written_by(self, fd, operation!("append-via-stream"), Position::End)
    }

    async fn is_same_object(&mut self, one: Fd, other: Fd) -> wasmtime::Result<bool> {
        enter(self, Work::Files).await?;
        system(self)?.ctx()?.filesystem().is_same_object(one, other).await
    }

    async fn metadata_hash(&mut self, fd: Fd) -> FsResult<MetadataHashValue> {
        done!(self, Asked::to_look(operation!("metadata-hash"), &fd), metadata_hash(fd))
    }

    async fn metadata_hash_at(&mut self, fd: Fd, flags: PathFlags, path: String) -> FsResult<MetadataHashValue> {
        let asked = Asked::to_look(operation!("metadata-hash-at"), &fd).at(&fd, &path, flags);
        done!(self, asked, metadata_hash_at(fd, flags, path))
    }
}

impl HostDirectoryEntryStream for StoreData {
    async fn read_directory_entry(
        &mut self,
        stream: Resource<DirectoryEntryStream>,
    ) -> FsResult<Option<DirectoryEntry>> {
        enter(self, Work::Short).await.map_err(FsError::trap)?;
        let number = stream.rep();
        let mut next = table(self).map_err(FsError::trap)?.get(&entries(&stream))?.next;
        let found = self.own()?.descriptors.listing(number).and_then(|listing| {
            std::iter::from_fn(|| {
                let (after, kind, name) = listing.entry(next)?;
                next = after;
                Some((kind, name))
            })
            .find(|(_, name)| ![".", ".."].contains(name))
            .map(|(kind, name)| DirectoryEntry { type_: kind_of(kind), name: name.to_owned() })
        });
        table(self).map_err(FsError::trap)?.get_mut(&entries(&stream))?.next = next;
        Ok(found)
    }

    fn drop(&mut self, stream: Resource<DirectoryEntryStream>) -> wasmtime::Result<()> {
        system(self)?.descriptors.forget_listing(stream.rep());
        table(self)?.delete(Resource::<Entries>::new_own(stream.rep()))?;
        Ok(())
    }
}

/// What we keep of it.
fn entries(stream: &Resource<DirectoryEntryStream>) -> Resource<Entries> {
    Resource::new_borrow(stream.rep())
}

/// A path itself may say that a directory is meant: then a link at its end is followed.
fn follow(flags: PathFlags, path: &str) -> PathFlags {
    if posix::is_inside(path.as_bytes()) { flags | PathFlags::SYMLINK_FOLLOW } else { flags }
}

/// What opening a path asks for.
fn to_open(fd: &Fd, (path, path_flags): (&str, PathFlags), (open, flags): (OpenFlags, DescriptorFlags)) -> Asked {
    let name = operation!("open-at");
    let changes = open.intersects(OpenFlags::CREATE | OpenFlags::TRUNCATE) || flags.contains(DescriptorFlags::WRITE);
    let asked = if changes { Asked::to_change(name, fd) } else { Asked::to_look(name, fd) };
    asked.at(fd, path, path_flags)
}

/// A stream that writes to a file.
fn written_by(
    data: &mut StoreData,
    fd: Fd,
    name: &'static str,
    position: Position,
) -> FsResult<Resource<DynOutputStream>> {
    count(data).map_err(FsError::trap)?;
    let number = fd.rep();
    if data.is_null(&fd)? {
        return Ok(table(data).map_err(FsError::trap)?.push(System::write_nowhere())?);
    }
    let file = handle(&data.descriptor(&fd)?).clone();
    let mut files = data.files()?;
    let stream = match position {
        Position::At(offset) => files.write_via_stream(again(&fd), offset),
        Position::End => files.append_via_stream(again(&fd)),
    };
    let stream = stream.map_err(|error| match error.downcast_ref() {
        // It is open to be read: of a directory that may only be read, that is the grant's doing.
        Some(ErrorCode::NotPermitted) => Asked::to_change(name, &fd).refused(data, ErrorCode::NotPermitted),
        _ => error,
    })?;
    let stream = table(data).map_err(FsError::trap)?.delete(stream)?;
    let stream = data.own()?.write_by(number, (file, position), stream);
    Ok(table(data).map_err(FsError::trap)?.push(stream)?)
}

/// What an entry of a listing is, by its type in preview 1.
fn kind_of(filetype: u8) -> DescriptorType {
    use wasmtime_wasi::p1::types::Filetype;
    match Filetype::try_from(filetype) {
        Ok(Filetype::RegularFile) => DescriptorType::RegularFile,
        Ok(Filetype::Directory) => DescriptorType::Directory,
        Ok(Filetype::SymbolicLink) => DescriptorType::SymbolicLink,
        Ok(Filetype::CharacterDevice) => DescriptorType::CharacterDevice,
        Ok(Filetype::BlockDevice) => DescriptorType::BlockDevice,
        _ => DescriptorType::Unknown,
    }
}
