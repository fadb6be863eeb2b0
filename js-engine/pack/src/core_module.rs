//! Splits a core module into its code and its memory.

use anyhow::{Context as _, bail, ensure};
use wasm_encoder::reencode::{Reencode as _, RoundtripReencoder};
use wasm_encoder::{
    ConstExpr, CoreTypeEncoder, DataSection, EntityType, ExportKind, ExportSection, ImportSection, MemorySection,
    Module, ModuleType, RawSection,
};
use wasmparser::{DataKind, ExternalKind, FuncType, MemoryType, Operator, Parser, Payload, TypeRef, Validator};

/// Where the engine imports its memory from.
pub const MEMORY_IMPORT: (&str, &str) = ("image", "memory");
/// The name of the memory among the exports of an image.
pub const MEMORY_EXPORT: &str = "memory";
/// Custom sections that describe the whole module to wit-component, and say nothing about the part that is left.
const DROPPED_SECTIONS: &[&str] = &["producers", "target_features"];
const COMPONENT_TYPE: &str = "component-type";

pub struct Parts {
    /// The module with its memory imported.
    pub engine: Vec<u8>,
    /// The module with only the memory.
    pub memory: Vec<u8>,
    pub module_type: EngineType,
}

/// The type of the engine's module, for the component that imports it.
pub struct EngineType {
    imports: Vec<(String, String, Entity)>,
    exports: Vec<(String, Entity)>,
    pub memory: MemoryType,
}

#[derive(Clone)]
enum Entity {
    Function(FuncType),
    Memory,
    Table(wasmparser::TableType),
    Global(wasmparser::GlobalType),
}

/// What was read of the module so far.
#[derive(Default)]
struct Contents {
    types: Vec<FuncType>,
    /// The type of each function.
    functions: Vec<u32>,
    tables: Vec<wasmparser::TableType>,
    globals: Vec<wasmparser::GlobalType>,
    memory: Option<MemoryType>,
    imports: Vec<(String, String, Entity)>,
    exports: Vec<(String, Entity)>,
    data: Vec<(u32, Vec<u8>)>,
}

/// Splits the module.
///
/// # Errors
/// If it has no memory of its own, or more than one; if it has data that is not placed when it is instantiated, or a start
/// function, because the image is loaded without either.
pub fn split(core: &[u8]) -> anyhow::Result<Parts> {
    Validator::new().validate_all(core).context("the module of the engine is not valid")?;
    let contents = read(core)?;
    let memory = contents.memory.context("the module has no memory")?;
    ensure!(!memory.memory64 && !memory.shared && memory.page_size_log2.is_none(), "the memory is of an unusual kind");
    let engine = without_memory(core, memory)?;
    Validator::new().validate_all(&engine).context("the module without its memory is not valid")?;
    let memory_module = memory_module(memory, &contents.data);
    Validator::new().validate_all(&memory_module).context("the module with the memory is not valid")?;
    let module_type = EngineType { imports: contents.imports, exports: contents.exports, memory };
    Ok(Parts { engine, memory: memory_module, module_type })
}

fn read(core: &[u8]) -> anyhow::Result<Contents> {
    let mut contents = Contents::default();
    for payload in Parser::new(0).parse_all(core) {
        contents.read(payload?)?;
    }
    Ok(contents)
}

impl Contents {
    fn read(&mut self, payload: Payload<'_>) -> anyhow::Result<()> {
        match payload {
            Payload::TypeSection(types) => {
                for ty in types.into_iter_err_on_gc_types() {
                    self.types.push(ty.context("a type of the module is no function")?);
                }
            }
            Payload::ImportSection(imports) => {
                for import in imports.into_imports() {
                    let import = import?;
                    let TypeRef::Func(ty) = import.ty else {
                        bail!("the module imports {} {}, which is no function", import.module, import.name);
                    };
                    self.functions.push(ty);
                    let entity = Entity::Function(self.types[ty as usize].clone());
                    self.imports.push((import.module.to_owned(), import.name.to_owned(), entity));
                }
            }
            Payload::FunctionSection(functions) => {
                for ty in functions {
                    self.functions.push(ty?);
                }
            }
            Payload::TableSection(tables) => {
                for table in tables {
                    self.tables.push(table?.ty);
                }
            }
            Payload::MemorySection(memories) => {
                for memory in memories {
                    ensure!(self.memory.replace(memory?).is_none(), "the module has several memories");
                }
            }
            Payload::GlobalSection(globals) => {
                for global in globals {
                    self.globals.push(global?.ty);
                }
            }
            Payload::ExportSection(exports) => {
                for export in exports {
                    let export = export?;
                    let entity = self.entity(export.kind, export.index)?;
                    self.exports.push((export.name.to_owned(), entity));
                }
            }
            Payload::StartSection { .. } => bail!("the module has a start function"),
            Payload::DataSection(segments) => {
                for segment in segments {
                    let segment = segment?;
                    self.data.push((offset(&segment.kind)?, segment.data.to_vec()));
                }
            }
            _ => {}
        }
        Ok(())
    }

    fn entity(&self, kind: ExternalKind, index: u32) -> anyhow::Result<Entity> {
        let index = index as usize;
        Ok(match kind {
            ExternalKind::Func => Entity::Function(self.types[self.functions[index] as usize].clone()),
            ExternalKind::Memory => Entity::Memory,
            ExternalKind::Table => Entity::Table(self.tables[index]),
            ExternalKind::Global => Entity::Global(self.globals[index]),
            other => bail!("the module exports a {other:?}"),
        })
    }
}

/// Returns where an active segment is placed.
fn offset(kind: &DataKind<'_>) -> anyhow::Result<u32> {
    let DataKind::Active { memory_index: 0, offset_expr } = kind else {
        bail!("the module has a data segment that is not placed when it is instantiated");
    };
    let Operator::I32Const { value } = offset_expr.get_operators_reader().read()? else {
        bail!("the module has a data segment whose place is not a constant");
    };
    Ok(value.cast_unsigned())
}

/// Copies the module section by section. Nothing is renumbered: the imported memory is memory 0 as the own one was, and
/// is added behind the imported functions.
fn without_memory(core: &[u8], memory: MemoryType) -> anyhow::Result<Vec<u8>> {
    let mut module = Module::new();
    let mut has_imports = false;
    for payload in Parser::new(0).parse_all(core) {
        let payload = payload?;
        match &payload {
            Payload::MemorySection(_) | Payload::DataSection(_) | Payload::DataCountSection { .. } => continue,
            // Their bytes are copied with the section that they are in.
            Payload::CodeSectionEntry(_) => continue,
            Payload::CustomSection(section) if is_dropped(section.name()) => continue,
            Payload::ImportSection(imports) => {
                has_imports = true;
                let mut section = ImportSection::new();
                for import in imports.clone().into_imports() {
                    let import = import?;
                    section.import(import.module, import.name, RoundtripReencoder.entity_type(import.ty)?);
                }
                section.import(MEMORY_IMPORT.0, MEMORY_IMPORT.1, at_least(memory));
                module.section(&section);
                continue;
            }
            _ => {}
        }
        if let Some((id, range)) = payload.as_section() {
            module.section(&RawSection { id, data: &core[range.start as usize..range.end as usize] });
        }
    }
    ensure!(has_imports, "the module imports nothing");
    Ok(module.finish())
}

fn is_dropped(name: &str) -> bool {
    DROPPED_SECTIONS.contains(&name) || name.starts_with(COMPONENT_TYPE)
}

fn at_least(memory: MemoryType) -> wasm_encoder::MemoryType {
    wasm_encoder::MemoryType {
        minimum: memory.initial,
        maximum: None,
        memory64: false,
        shared: false,
        page_size_log2: None,
    }
}

fn memory_module(memory: MemoryType, data: &[(u32, Vec<u8>)]) -> Vec<u8> {
    let mut memories = MemorySection::new();
    memories.memory(at_least(memory));
    let mut exports = ExportSection::new();
    exports.export(MEMORY_EXPORT, ExportKind::Memory, 0);
    let mut segments = DataSection::new();
    for (offset, bytes) in data {
        segments.active(0, &ConstExpr::i32_const(offset.cast_signed()), bytes.iter().copied());
    }
    let mut module = Module::new();
    module.section(&memories).section(&exports).section(&segments);
    module.finish()
}

impl EngineType {
    /// Returns the names of what the module imports and exports, in order.
    pub fn names(&self) -> (Vec<(&str, &str)>, Vec<&str>) {
        let imports = self.imports.iter().map(|(module, name, _)| (&**module, &**name)).collect();
        (imports, self.exports.iter().map(|(name, _)| &**name).collect())
    }

    /// Returns the type of the module without its memory.
    pub fn encode(&self) -> anyhow::Result<ModuleType> {
        let mut ty = ModuleType::new();
        for (module, name, entity) in &self.imports {
            let entity = self.encode_entity(&mut ty, entity)?;
            ty.import(module, name, entity);
        }
        ty.import(MEMORY_IMPORT.0, MEMORY_IMPORT.1, at_least(self.memory).into());
        for (name, entity) in &self.exports {
            let entity = self.encode_entity(&mut ty, entity)?;
            ty.export(name, entity);
        }
        Ok(ty)
    }

    fn encode_entity(&self, ty: &mut ModuleType, entity: &Entity) -> anyhow::Result<EntityType> {
        let mut same = RoundtripReencoder;
        Ok(match entity {
            Entity::Function(function) => {
                let index = ty.type_count();
                let encoder: CoreTypeEncoder<'_> = ty.ty();
                encoder.func_type(&same.func_type(function.clone())?);
                EntityType::Function(index)
            }
            Entity::Memory => at_least(self.memory).into(),
            Entity::Table(table) => EntityType::Table(same.table_type(*table)?),
            Entity::Global(global) => EntityType::Global(same.global_type(*global)?),
        })
    }
}

/// Returns the type of a module with only a memory.
pub fn image_type(memory: MemoryType) -> ModuleType {
    let mut ty = ModuleType::new();
    ty.export(MEMORY_EXPORT, at_least(memory).into());
    ty
}
