//! `wasi:filesystem`: which files a guest may open, how many, and on which threads they are read and written.
//!
//! wasmtime's implementation does the work: it keeps a guest within its folders. Here, each of its calls runs on the
//! threads of the plugin, and what is opened is checked and counted.

use std::fs::File as StdFile;
use std::io;
use std::path::Path;
use std::sync::Arc;

use rustix::fs::{Mode, OFlags};
use tracing::warn;
use wasmtime::component::{HasData, Linker, Resource};
use wasmtime_wasi::filesystem::{Descriptor, Dir, WasiFilesystemCtx, WasiFilesystemCtxView};
use wasmtime_wasi::p2::bindings::filesystem::types::{self, ErrorCode, HostDescriptor, HostDirectoryEntryStream};
use wasmtime_wasi::p2::{DynInputStream, DynOutputStream, FsError, FsResult, ReaddirIterator};
use wasmtime_wasi::{FsPerms, OpenMode};

use super::PluginScope;
use super::descriptors::{DescriptorCharge, OpenDescriptors};
use crate::blocking_threads::BlockingThreads;

mod stream;

use stream::{GuestInput, GuestOutput};

/// The interface whose only function returns the granted folders, with the version of wasmtime's bindings.
const PREOPENS: &str = "wasi:filesystem/preopens@0.2.12";

/// The files of one event.
#[derive(Default)]
pub struct EventFiles {
    wasi: WasiFilesystemCtx,
    /// The granted folders, opened when the guest first asks for them: few events read files.
    folders: Option<Vec<Folder>>,
}

#[derive(Clone)]
struct Folder {
    dir: Dir,
    guest: String,
    charge: Arc<DescriptorCharge>,
}

/// The host side of `wasi:filesystem` during one call.
pub struct GuestFiles<'a> {
    scope: &'a PluginScope,
    descriptors: &'a mut OpenDescriptors,
    folders: &'a mut Option<Vec<Folder>>,
    wasi: WasiFilesystemCtxView<'a>,
}

impl EventFiles {
    pub(super) fn view<'a>(
        &'a mut self,
        scope: &'a PluginScope,
        descriptors: &'a mut OpenDescriptors,
        table: &'a mut wasmtime::component::ResourceTable,
    ) -> GuestFiles<'a> {
        let Self { wasi, folders } = self;
        GuestFiles { scope, descriptors, folders, wasi: WasiFilesystemCtxView { ctx: wasi, table } }
    }
}

struct HasFiles;

impl HasData for HasFiles {
    type Data<'a> = GuestFiles<'a>;
}

/// Replaces wasmtime's `wasi:filesystem` in a linker that allows it.
pub fn add_to_linker<T: Send + 'static>(
    linker: &mut Linker<T>,
    files: fn(&mut T) -> GuestFiles<'_>,
) -> wasmtime::Result<()> {
    types::add_to_linker::<T, HasFiles>(linker, files)?;
    // In wasmtime's own bindings, this function cannot wait.
    linker.instance(PREOPENS)?.func_wrap_async("get-directories", move |mut store, (): ()| {
        Box::new(async move { Ok((files(store.data_mut()).get_directories().await?,)) })
    })
}

impl GuestFiles<'_> {
    fn threads(&self) -> &Arc<BlockingThreads> {
        &self.scope.file_threads
    }

    /// Counts one descriptor.
    ///
    /// # Errors
    /// `insufficient-memory` if the event or all events have too many: WASI has no code for that.
    fn charge(&mut self) -> Result<Arc<DescriptorCharge>, ErrorCode> {
        let limits = self.descriptors.limits(&self.scope.services.descriptors);
        limits.try_charge().map(Arc::new).ok_or(ErrorCode::InsufficientMemory)
    }

    /// Returns a handle of each granted folder. A folder that cannot be opened is missing, and is logged.
    async fn get_directories(&mut self) -> wasmtime::Result<Vec<(Resource<Descriptor>, String)>> {
        if self.folders.is_none() {
            let folders = self.open_folders().await;
            *self.folders = Some(folders);
        }
        let mut handles = Vec::new();
        for Folder { dir, guest, charge } in self.folders.iter().flatten() {
            let handle = self.wasi.table.push(Descriptor::Dir(dir.clone()))?;
            self.descriptors.insert(handle.rep(), Arc::clone(charge));
            handles.push((handle, guest.clone()));
        }
        Ok(handles)
    }

    async fn open_folders(&mut self) -> Vec<Folder> {
        let scope = self.scope;
        let mut folders = Vec::new();
        for grant in &scope.grants.files {
            let opened = match self.charge() {
                Ok(charge) => {
                    let path = grant.host.clone();
                    self.threads().run(move || open_folder(&path)).await.flatten().map(|folder| (folder, charge))
                }
                Err(_) => Err(io::Error::other("the events have too many open files")),
            };
            let (permissions, mode) = if grant.write {
                (FsPerms::ReadWrite, OpenMode::READ | OpenMode::WRITE)
            } else {
                (FsPerms::ReadOnly, OpenMode::READ)
            };
            match opened {
                Ok((folder, charge)) => {
                    let dir = Dir::new(folder, permissions, mode, false);
                    folders.push(Folder { dir, guest: grant.guest.clone(), charge });
                }
                // Loading the plugin checked that the folder exists. If it was deleted since, the guest does not see it.
                Err(error) => {
                    let (plugin, folder) = (&scope.name, grant.host.display());
                    scope.folder_log.log(|suppressed| {
                        warn!(%plugin, %folder, suppressed, "cannot open folder: {error}");
                    });
                }
            }
        }
        folders
    }

    /// Rejects what is neither a file nor a folder: opening a FIFO without a writer blocks a thread for ever, and
    /// reading a device may too.
    ///
    /// A file that another process or event replaces at this moment can still be opened. It then blocks a thread of
    /// this plugin, and no other one.
    async fn check_type(
        &mut self,
        folder: &Resource<Descriptor>,
        flags: types::PathFlags,
        path: &str,
    ) -> Result<(), ErrorCode> {
        let folder = Resource::new_borrow(folder.rep());
        match self.stat_at(folder, flags, path.to_owned()).await.map(|stat| stat.type_) {
            // What is wrong with a path that does not lead anywhere is reported when it is opened.
            Err(_) => Ok(()),
            Ok(types::DescriptorType::RegularFile | types::DescriptorType::Directory) => Ok(()),
            // Where links are not followed, opening one is an error.
            Ok(types::DescriptorType::SymbolicLink) => Ok(()),
            Ok(_) => Err(ErrorCode::NotPermitted),
        }
    }
}

/// Opens a granted folder. Blocks on the file system.
fn open_folder(path: &Path) -> io::Result<StdFile> {
    let opened = rustix::fs::open(path, OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty());
    Ok(StdFile::from(opened?))
}

impl types::Host for GuestFiles<'_> {
    fn convert_error_code(&mut self, error: FsError) -> wasmtime::Result<ErrorCode> {
        self.wasi.convert_error_code(error)
    }

    fn filesystem_error_code(&mut self, error: Resource<wasmtime::Error>) -> wasmtime::Result<Option<ErrorCode>> {
        self.wasi.filesystem_error_code(error)
    }
}

/// Defines methods that wasmtime implements, and runs them on the threads of the plugin.
macro_rules! on_threads {
    ($(fn $name:ident(file $(, $argument:ident: $type:ty)*) -> $result:ty;)*) => {
        $(
            async fn $name(&mut self, file: Resource<Descriptor>, $($argument: $type),*) -> $result {
                let threads = &self.scope.file_threads;
                threads.run_within(HostDescriptor::$name(&mut self.wasi, file, $($argument),*)).await
            }
        )*
    };
}

impl HostDescriptor for GuestFiles<'_> {
    on_threads! {
        fn advise(file, offset: u64, length: u64, advice: types::Advice) -> FsResult<()>;
        fn sync_data(file) -> FsResult<()>;
        fn get_flags(file) -> FsResult<types::DescriptorFlags>;
        fn get_type(file) -> FsResult<types::DescriptorType>;
        fn set_size(file, size: u64) -> FsResult<()>;
        fn set_times(file, accessed: types::NewTimestamp, modified: types::NewTimestamp) -> FsResult<()>;
        fn read(file, length: u64, offset: u64) -> FsResult<(Vec<u8>, bool)>;
        fn write(file, bytes: Vec<u8>, offset: u64) -> FsResult<u64>;
        fn read_directory(file) -> FsResult<Resource<ReaddirIterator>>;
        fn sync(file) -> FsResult<()>;
        fn create_directory_at(file, path: String) -> FsResult<()>;
        fn stat(file) -> FsResult<types::DescriptorStat>;
        fn stat_at(file, flags: types::PathFlags, path: String) -> FsResult<types::DescriptorStat>;
        fn set_times_at(
            file,
            flags: types::PathFlags,
            path: String,
            accessed: types::NewTimestamp,
            modified: types::NewTimestamp
        ) -> FsResult<()>;
        fn link_at(
            file,
            flags: types::PathFlags,
            old: String,
            folder: Resource<Descriptor>,
            new: String
        ) -> FsResult<()>;
        fn readlink_at(file, path: String) -> FsResult<String>;
        fn remove_directory_at(file, path: String) -> FsResult<()>;
        fn rename_at(file, old: String, folder: Resource<Descriptor>, new: String) -> FsResult<()>;
        fn symlink_at(file, target: String, path: String) -> FsResult<()>;
        fn unlink_file_at(file, path: String) -> FsResult<()>;
        fn is_same_object(file, other: Resource<Descriptor>) -> wasmtime::Result<bool>;
        fn metadata_hash(file) -> FsResult<types::MetadataHashValue>;
        fn metadata_hash_at(file, flags: types::PathFlags, path: String) -> FsResult<types::MetadataHashValue>;
    }

    async fn open_at(
        &mut self,
        folder: Resource<Descriptor>,
        path_flags: types::PathFlags,
        path: String,
        open_flags: types::OpenFlags,
        flags: types::DescriptorFlags,
    ) -> FsResult<Resource<Descriptor>> {
        let charge = self.charge()?;
        self.check_type(&folder, path_flags, &path).await?;
        let open = self.wasi.open_at(folder, path_flags, path, open_flags, flags);
        let opened = self.scope.file_threads.run_within(open).await?;
        self.descriptors.insert(opened.rep(), charge);
        Ok(opened)
    }

    fn drop(&mut self, file: Resource<Descriptor>) -> wasmtime::Result<()> {
        self.descriptors.remove(file.rep());
        HostDescriptor::drop(&mut self.wasi, file)
    }

    fn read_via_stream(&mut self, file: Resource<Descriptor>, offset: u64) -> FsResult<Resource<DynInputStream>> {
        let charge = self.descriptors.get(file.rep());
        let handle = self.wasi.read_via_stream(file, offset)?;
        let stream = self.wasi.table.delete(handle)?;
        let stream: DynInputStream = Box::new(GuestInput::new(stream, Arc::clone(self.threads()), charge));
        Ok(self.wasi.table.push(stream)?)
    }

    fn write_via_stream(&mut self, file: Resource<Descriptor>, offset: u64) -> FsResult<Resource<DynOutputStream>> {
        let charge = self.descriptors.get(file.rep());
        let handle = self.wasi.write_via_stream(file, offset)?;
        self.wrap_output(handle, charge)
    }

    fn append_via_stream(&mut self, file: Resource<Descriptor>) -> FsResult<Resource<DynOutputStream>> {
        let charge = self.descriptors.get(file.rep());
        let handle = self.wasi.append_via_stream(file)?;
        self.wrap_output(handle, charge)
    }
}

impl GuestFiles<'_> {
    fn wrap_output(
        &mut self,
        handle: Resource<DynOutputStream>,
        charge: Option<Arc<DescriptorCharge>>,
    ) -> FsResult<Resource<DynOutputStream>> {
        let stream = self.wasi.table.delete(handle)?;
        let stream: DynOutputStream = Box::new(GuestOutput::new(stream, Arc::clone(self.threads()), charge));
        Ok(self.wasi.table.push(stream)?)
    }
}

impl HostDirectoryEntryStream for GuestFiles<'_> {
    async fn read_directory_entry(
        &mut self,
        stream: Resource<ReaddirIterator>,
    ) -> FsResult<Option<types::DirectoryEntry>> {
        // All entries were read when the stream was created.
        self.wasi.read_directory_entry(stream).await
    }

    fn drop(&mut self, stream: Resource<ReaddirIterator>) -> wasmtime::Result<()> {
        HostDirectoryEntryStream::drop(&mut self.wasi, stream)
    }
}
