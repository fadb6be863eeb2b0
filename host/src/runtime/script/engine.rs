//! The engines: the interpreters of scripts, made at build time, compiled once and initialised once in each process.
//!
//! An engine has three files. `engine.wasm.zlib` is its code, a core module that imports its memory. `memory.wasm.zlib` is
//! that memory as it is before the engine is initialised. `component.wasm` imports both as core modules, instantiates the
//! memory and then the code with it, and exports the worlds of the contract.

use std::fs::File;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, anyhow, ensure};
use miniz_oxide::inflate::{TINFLStatus, decompress_to_vec_zlib_with_limit};
use tokio::sync::OnceCell;
use tracing::{debug, info};
use wasmtime::component::types::ComponentItem;
use wasmtime::component::{Component, InstancePre, Linker};
use wasmtime::{Engine, Module};

use super::language::Language;
use super::load::{Cancellation, EngineInstance};
use super::{hot_pages, make_image};
use crate::limits::{COMPONENT_BYTES_MAX, EVENT_HOST_BYTES, EVENT_MEMORY_BYTES};
use crate::memory::{EventMemory, SharedMemory};
use crate::runtime::structures::LoadedModule;
use crate::runtime::{HostState, Runtime, into_anyhow};

/// The names under which the component of an engine imports its two core modules.
const ENGINE_MODULE: &str = "jackfield:script/engine";
const IMAGE_MODULE: &str = "jackfield:script/image";

const ENGINE_FILE: &str = "engine.wasm.zlib";
const MEMORY_FILE: &str = "memory.wasm.zlib";
const COMPONENT_FILE: &str = "component.wasm";

/// The folder of the engines, with a folder for each language.
#[derive(Clone, Debug, Default)]
pub struct EngineFolder(Option<PathBuf>);

/// The engines that this process has loaded.
#[derive(Default)]
pub struct Engines {
    folder: EngineFolder,
    javascript: OnceCell<Arc<ScriptEngine>>,
    python: OnceCell<Arc<ScriptEngine>>,
}

/// An engine that is ready to load scripts.
pub struct ScriptEngine {
    /// The hash of its files.
    pub hash: blake3::Hash,
    module: Module,
    /// The memory of the initialised engine.
    base: Module,
    /// The pages that the engine should write to in each event that waits.
    pub hot_pages: Vec<u32>,
    pub component: Component,
    /// Has everything that the component imports, except for the image.
    linker: Linker<HostState>,
    /// Pool slots of one instance.
    pub slots: u32,
    /// Bytes of the structures of one instance.
    pub structure_bytes: usize,
    pub imports: Vec<String>,
    pub exports: Vec<String>,
}

/// The content of the files of an engine.
struct EngineFiles {
    /// These two are compressed. Their hashes are the keys of the code cache, so that they are decompressed only to
    /// compile them.
    engine: Vec<u8>,
    memory: Vec<u8>,
    component: Vec<u8>,
}

impl EngineFolder {
    /// `None`: the folder `engines` beside the binary.
    pub fn new(folder: Option<PathBuf>) -> Self {
        Self(folder)
    }

    /// Returns the folders in which the engines may be.
    fn candidates(&self) -> Vec<PathBuf> {
        if let Some(folder) = &self.0 {
            return vec![folder.clone()];
        }
        let Some(beside) = std::env::current_exe().ok().and_then(|binary| binary.parent().map(Path::to_owned)) else {
            return Vec::new();
        };
        let mut folders = vec![beside.join("engines")];
        // A binary that cargo has built is in a folder of its profile; the engines are for all profiles.
        if let (Some("debug" | "release"), Some(target)) =
            (beside.file_name().and_then(|name| name.to_str()), beside.parent())
        {
            folders.push(target.join("engines"));
        }
        folders
    }

    /// Reads the files of an engine. Blocks the thread.
    ///
    /// # Errors
    /// If a file is missing; the error says which command makes it.
    fn read(&self, language: Language) -> anyhow::Result<EngineFiles> {
        let candidates: Vec<_> = self.candidates().iter().map(|folder| folder.join(language.folder())).collect();
        let Some(folder) = candidates.iter().find(|folder| folder.join(COMPONENT_FILE).exists()) else {
            let looked: Vec<_> = candidates.iter().map(|folder| folder.display().to_string()).collect();
            return Err(anyhow!(
                "it is a script, but the {} engine is not installed: found no {COMPONENT_FILE} in {}; make it with \
                 cargo xtask engines, or name the folder of the engines with --engines",
                language.name(),
                looked.join(" or ")
            ));
        };
        let read = |name: &str| {
            let path = folder.join(name);
            let bytes = read_file(&path).with_context(|| format!("cannot read {}", path.display()));
            bytes.with_context(|| {
                format!("cannot load the {} engine; make it with cargo xtask engines", language.name())
            })
        };
        Ok(EngineFiles { engine: read(ENGINE_FILE)?, memory: read(MEMORY_FILE)?, component: read(COMPONENT_FILE)? })
    }
}

fn read_file(path: &Path) -> anyhow::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    File::open(path)?.take(COMPONENT_BYTES_MAX + 1).read_to_end(&mut bytes)?;
    let length = bytes.len();
    ensure!(length as u64 <= COMPONENT_BYTES_MAX, io::Error::from(io::ErrorKind::FileTooLarge));
    Ok(bytes)
}

/// Decompresses the file of a core module, which has at most `bytes_max` bytes.
fn decompress(file: &[u8], bytes_max: u64) -> anyhow::Result<Vec<u8>> {
    let bytes_max = usize::try_from(bytes_max).unwrap_or(usize::MAX);
    decompress_to_vec_zlib_with_limit(file, bytes_max).map_err(|error| match error.status {
        TINFLStatus::HasMoreOutput => anyhow!("it has more than {bytes_max} bytes when it is decompressed"),
        status => anyhow!("it cannot be decompressed: {status:?}"),
    })
}

impl Engines {
    pub fn new(folder: EngineFolder) -> Self {
        Self { folder, ..Self::default() }
    }

    fn cell(&self, language: Language) -> &OnceCell<Arc<ScriptEngine>> {
        match language {
            Language::JavaScript => &self.javascript,
            Language::Python => &self.python,
        }
    }
}

impl EngineFiles {
    fn hash(&self) -> blake3::Hash {
        let mut hasher = blake3::Hasher::new();
        for bytes in [&self.engine, &self.memory, &self.component] {
            hasher.update(blake3::hash(bytes).as_bytes());
        }
        hasher.finalize()
    }
}

impl Runtime {
    /// Returns the engine of a language. The first call compiles and initialises it.
    ///
    /// # Errors
    /// If its files are missing, or were not made for this version of the host.
    /// # Cancel safety
    /// Dropping the future loses nothing; the next call starts again.
    pub(super) async fn script_engine(self: &Arc<Self>, language: Language) -> anyhow::Result<Arc<ScriptEngine>> {
        let engine = self.engines.cell(language).get_or_try_init(|| Box::pin(self.load_engine(language)));
        engine.await.map(Arc::clone)
    }

    async fn load_engine(self: &Arc<Self>, language: Language) -> anyhow::Result<Arc<ScriptEngine>> {
        let started = Instant::now();
        let files = self.blocking(move |runtime| runtime.engines.folder.read(language)).await??;
        let hash = files.hash();
        let EngineFiles { engine, memory, component } = files;
        // Each has a turn of its own in the worker. No plugin can have these names.
        let (module, memory, artifact) = tokio::try_join!(
            self.compile_engine(language, engine),
            self.compile_module("(memory)", memory),
            self.compile("(component)", component),
        )
        .with_context(|| outdated(language))?;
        let engine = self.on_script_thread(move |runtime| {
            let (base, hot_pages) = runtime.initialize_engine(&module.module, &memory.module)?;
            let component = artifact.component;
            let mut linker = runtime.linker.clone();
            linker.root().module(ENGINE_MODULE, &module.module).map_err(into_anyhow)?;
            let imports = import_names(&component, &runtime.engine);
            anyhow::Ok(ScriptEngine {
                hash,
                structure_bytes: artifact.structure_bytes + module.structure_bytes + memory.structure_bytes,
                module: module.module,
                base,
                hot_pages,
                component,
                linker,
                slots: language.slots(),
                imports,
                exports: artifact.exports,
            })
        });
        let engine = engine.await?.with_context(|| outdated(language))?;
        // An engine whose component cannot be linked would make every script fail for another reason.
        engine.instantiate_pre(&engine.base).map_err(into_anyhow).with_context(|| outdated(language))?;
        debug!(took = ?started.elapsed(), "the {} engine is ready", language.name());
        Ok(Arc::new(engine))
    }

    /// Initialises an engine in an instance of its own, and makes an image of the memory that this leaves behind. Then
    /// finds its hot pages in an instance of this image.
    fn initialize_engine(&self, module: &Module, memory: &Module) -> anyhow::Result<(Module, Vec<u32>)> {
        let mut instance = self.own_instance(module, memory)?;
        instance.initialize()?;
        let content = instance.memory_content()?;
        let used = content.len() - content.iter().rev().take_while(|&&byte| byte == 0).count();
        let base = make_image(&self.engine, content)?;
        let mut rehearsal = self.own_instance(module, &base)?;
        let has_rehearsed = rehearsal.rehearse()?;
        // Behind what the base uses, a script has its own objects.
        let hot_pages = if has_rehearsed { hot_pages::find(&rehearsal.memory_content()?[..used]) } else { Vec::new() };
        Ok((base, hot_pages))
    }

    /// Creates an instance of an engine that is part of no plugin, so that no account is charged.
    fn own_instance(&self, module: &Module, memory: &Module) -> anyhow::Result<EngineInstance> {
        let charge = SharedMemory::new(Some(usize::MAX)).plugin().try_charge(EVENT_HOST_BYTES);
        let charge = charge.context("there is no memory")?;
        let limited = EventMemory::new(charge, EVENT_HOST_BYTES, EVENT_MEMORY_BYTES);
        EngineInstance::new(&self.engine, module, memory, limited, Cancellation::default())
    }

    /// Compiles the code of an engine unless it is cached, and reports that, because it takes seconds.
    async fn compile_engine(self: &Arc<Self>, language: Language, file: Vec<u8>) -> anyhow::Result<LoadedModule> {
        let key = module_key(&file);
        if let Some(module) = self.blocking(move |runtime| runtime.cached_module(&key)).await? {
            return Ok(module);
        }
        let (name, started) = (language.name(), Instant::now());
        let kept = if self.cache.is_some() { "; later starts use the compiled code" } else { "" };
        info!("compiling the {name} engine, which takes several seconds{kept}");
        let module = self.compile_module("(engine)", file).await?;
        let took = Duration::from_millis(started.elapsed().as_millis().try_into().unwrap_or(u64::MAX));
        info!(?took, "compiled the {name} engine");
        Ok(module)
    }

    /// As `compile`, for a core module of an engine.
    async fn compile_module(self: &Arc<Self>, name: &str, file: Vec<u8>) -> anyhow::Result<LoadedModule> {
        let key = module_key(&file);
        if let Some(module) = self.blocking(move |runtime| runtime.cached_module(&key)).await? {
            return Ok(module);
        }
        let bytes = self.blocking(move |_| decompress(&file, COMPONENT_BYTES_MAX)).await??;
        let code = self.worker.compile(name, crate::worker::CodeKind::Module, &bytes).await?.code;
        self.blocking(move |runtime| runtime.load_module_code(&key, &code)).await?
    }
}

/// Returns the key of a module in the cache. Components are cached under the hash of their content, and the file of a module
/// may also be named as a component.
fn module_key(bytes: &[u8]) -> blake3::Hash {
    blake3::Hasher::new_derive_key("jackfield core module").update(bytes).finalize()
}

impl ScriptEngine {
    /// Creates an instance that can load one script.
    pub fn instantiate(
        &self,
        engine: &Engine,
        memory: EventMemory,
        cancellation: Cancellation,
    ) -> anyhow::Result<EngineInstance> {
        EngineInstance::new(engine, &self.module, &self.base, memory, cancellation)
    }

    /// Links an image into the component.
    pub fn instantiate_pre(&self, image: &Module) -> wasmtime::Result<InstancePre<HostState>> {
        let mut linker = self.linker.clone();
        linker.root().module(IMAGE_MODULE, image)?;
        linker.instantiate_pre(&self.component)
    }
}

/// Returns the interfaces that a component imports; its core modules are parts of the engine.
fn import_names(component: &Component, engine: &Engine) -> Vec<String> {
    let ty = component.component_type();
    let interfaces = ty.imports(engine).filter(|(_, import)| !matches!(import.ty, ComponentItem::Module(_)));
    interfaces.map(|(name, _)| name.to_owned()).collect()
}

fn outdated(language: Language) -> String {
    format!("cannot use the {} engine: make it again with cargo xtask engines", language.name())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_engine_that_is_missing_is_an_error_with_the_command_that_makes_it() {
        let folder = tempfile::tempdir().unwrap();
        let engines = EngineFolder::new(Some(folder.path().to_owned()));
        let error = engines.read(Language::JavaScript).err().unwrap().to_string();
        let path = folder.path().join("javascript");
        assert_eq!(
            error,
            format!(
                "it is a script, but the JavaScript engine is not installed: found no component.wasm in {}; make it with \
                 cargo xtask engines, or name the folder of the engines with --engines",
                path.display()
            )
        );
        std::fs::create_dir(&path).unwrap();
        std::fs::write(path.join(COMPONENT_FILE), "").unwrap();
        let error = format!("{:#}", engines.read(Language::JavaScript).err().unwrap());
        assert!(error.contains("engine.wasm.zlib") && error.contains("cargo xtask engines"), "{error}");
    }
    #[test]
    fn a_file_is_decompressed_up_to_a_limit_and_a_damaged_one_is_an_error() {
        let content = b"module ".repeat(1000);
        let file = miniz_oxide::deflate::compress_to_vec_zlib(&content, 9);
        assert!(file.len() < 100);
        let length = content.len() as u64;
        assert_eq!(decompress(&file, length).unwrap(), content);
        let error = decompress(&file, length - 1).unwrap_err().to_string();
        assert_eq!(error, "it has more than 6999 bytes when it is decompressed");
        let mut damaged = file.clone();
        *damaged.last_mut().unwrap() ^= 1;
        for file in [&file[..file.len() - 1], &damaged, b"\0asm", b""] {
            let error = decompress(file, length).unwrap_err().to_string();
            assert!(error.starts_with("it cannot be decompressed: "), "{error}");
        }
    }
}
