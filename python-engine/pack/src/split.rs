//! The three files of an engine, out of a component with one core module of its own.
//!
//! The host compiles `engine.wasm` once. `memory.wasm` is the memory from which it starts, and a script is another
//! module of the same kind. `component.wasm` imports both as core modules.

use std::collections::BTreeSet;

use anyhow::{Context, Result, bail, ensure};
use wasm_encoder as encoder;
use wasm_encoder::reencode::component_utils;
use wasm_encoder::reencode::{Reencode, RoundtripReencoder};
use wasmparser::{ComponentAlias, ExternalKind, Instance, Parser, Payload, TypeRef};

use crate::component::{Alias, Component, CoreFunction, CoreInstance, Module};

const ENGINE: &str = "jackfield:script/engine";
const IMAGE: &str = "jackfield:script/image";
/// The name of the argument with which the engine is instantiated, and of the memory that it has.
const IMAGE_ARGUMENT: &str = "image";
const MEMORY: &str = "memory";

pub struct Engine {
    pub engine: Vec<u8>,
    pub memory: Vec<u8>,
    pub component: Vec<u8>,
}

pub fn split(bytes: &[u8]) -> Result<Engine> {
    let component = Component::parse(bytes)?;
    let mut owners = (0..component.modules.len()).filter(|&index| !component.modules[index].memories.is_empty());
    let main = owners.next().context("the component has no memory")?;
    ensure!(owners.next().is_none(), "several modules have a memory");
    let module = &component.modules[main];
    ensure!(module.memories.len() == 1, "the module has several memories");
    ensure!(module.imported(ExternalKind::Memory).next().is_none(), "the module imports a memory, too");
    Ok(Engine { engine: engine(module)?, memory: memory(module)?, component: universal(bytes, &component, main)? })
}

/// The module without its data, with an imported memory.
fn engine(module: &Module<'_>) -> Result<Vec<u8>> {
    let mut out = encoder::Module::new();
    let memory = RoundtripReencoder.memory_type(module.memories[0])?;
    let mut imports = false;
    let mut add_imports = |out: &mut encoder::Module| -> Result<()> {
        if std::mem::replace(&mut imports, true) {
            return Ok(());
        }
        let mut section = encoder::ImportSection::new();
        for import in &module.imports {
            section.import(&import.module, &import.name, RoundtripReencoder.entity_type(import.kind)?);
        }
        section.import(IMAGE_ARGUMENT, MEMORY, encoder::EntityType::Memory(memory));
        out.section(&section);
        Ok(())
    };
    for payload in Parser::new(0).parse_all(module.bytes) {
        let payload = payload?;
        match &payload {
            Payload::ImportSection(_) => add_imports(&mut out)?,
            Payload::FunctionSection(section) => {
                add_imports(&mut out)?;
                out.section(&encoder::RawSection {
                    id: encoder::SectionId::Function as u8,
                    data: &module.bytes[section.range()],
                });
            }
            Payload::MemorySection(_)
            | Payload::DataSection(_)
            | Payload::DataCountSection { .. }
            | Payload::CustomSection(_)
            | Payload::CodeSectionEntry(_) => {}
            payload => {
                if let Some((id, range)) = payload.as_section() {
                    out.section(&encoder::RawSection { id, data: &module.bytes[range] });
                }
            }
        }
    }
    Ok(out.finish())
}

fn memory(module: &Module<'_>) -> Result<Vec<u8>> {
    let mut out = encoder::Module::new();
    let mut memories = encoder::MemorySection::new();
    memories.memory(RoundtripReencoder.memory_type(module.memories[0])?);
    let mut exports = encoder::ExportSection::new();
    exports.export(MEMORY, encoder::ExportKind::Memory, 0);
    let mut data = encoder::DataSection::new();
    for segment in &module.data {
        RoundtripReencoder.parse_data(&mut data, segment.clone())?;
    }
    out.section(&memories).section(&exports).section(&data);
    Ok(out.finish())
}

/// The component with two imports in place of its module: the engine and an image.
fn universal(bytes: &[u8], component: &Component<'_>, main: usize) -> Result<Vec<u8>> {
    let main_instance = component
        .instances
        .iter()
        .position(|instance| matches!(instance, CoreInstance::Module { module, .. } if *module == main))
        .context("the module is not instantiated")?;
    // The engine and the image are the first core modules, and the instance of the image is the first instance.
    let module_index = |module: u32| match (module as usize).cmp(&main) {
        std::cmp::Ordering::Equal => 0,
        std::cmp::Ordering::Less => module + 2,
        std::cmp::Ordering::Greater => module + 1,
    };
    let mut out = encoder::Component::new();
    let mut types = encoder::CoreTypeSection::new();
    types.ty().module(&engine_type(component, main, main_instance)?);
    let memory = RoundtripReencoder.memory_type(component.modules[main].memories[0])?;
    let mut image = encoder::ModuleType::new();
    image.export(MEMORY, encoder::EntityType::Memory(memory));
    types.ty().module(&image);
    out.section(&types);
    let mut imports = encoder::ComponentImportSection::new();
    imports.import(ENGINE, encoder::ComponentTypeRef::Module(0));
    imports.import(IMAGE, encoder::ComponentTypeRef::Module(1));
    out.section(&imports);
    let mut instances = encoder::InstanceSection::new();
    instances.instantiate::<[(&str, encoder::ModuleArg); 0], &str>(1, []);
    out.section(&instances);

    let mut depth = 0;
    let mut modules = 0;
    for payload in Parser::new(0).parse_all(bytes) {
        let payload = payload?;
        match &payload {
            Payload::ModuleSection { unchecked_range, .. } => {
                if depth == 0 {
                    if modules != main {
                        let data = &bytes[unchecked_range.clone()];
                        out.section(&encoder::RawSection { id: encoder::ComponentSectionId::CoreModule as u8, data });
                    }
                    modules += 1;
                }
                depth += 1;
            }
            Payload::ComponentSection { unchecked_range, .. } => {
                if depth == 0 {
                    let data = &bytes[unchecked_range.clone()];
                    out.section(&encoder::RawSection { id: encoder::ComponentSectionId::Component as u8, data });
                }
                depth += 1;
            }
            Payload::End(_) if depth > 0 => depth -= 1,
            _ if depth > 0 => {}
            Payload::CoreTypeSection(_) => bail!("the component has core types"),
            Payload::InstanceSection(section) => {
                let mut instances = encoder::InstanceSection::new();
                for instance in section.clone() {
                    match instance? {
                        Instance::Instantiate { module_index: module, args } => {
                            let mut arguments: Vec<(&str, encoder::ModuleArg)> = args
                                .iter()
                                .map(|argument| (argument.name, encoder::ModuleArg::Instance(argument.index + 1)))
                                .collect();
                            if module as usize == main {
                                arguments.push((IMAGE_ARGUMENT, encoder::ModuleArg::Instance(0)));
                            }
                            instances.instantiate(module_index(module), arguments);
                        }
                        Instance::FromExports(exports) => {
                            let exports = exports
                                .iter()
                                .map(|export| {
                                    let kind = RoundtripReencoder.export_kind(export.kind)?;
                                    Ok((export.name, kind, export.index))
                                })
                                .collect::<Result<Vec<_>>>()?;
                            instances.export_items(exports);
                        }
                    }
                }
                out.section(&instances);
            }
            Payload::ComponentAliasSection(section) => {
                let mut aliases = encoder::ComponentAliasSection::new();
                for alias in section.clone() {
                    aliases.alias(match alias? {
                        ComponentAlias::CoreInstanceExport { kind, instance_index, name } => {
                            encoder::Alias::CoreInstanceExport {
                                instance: instance_index + 1,
                                kind: RoundtripReencoder.export_kind(kind)?,
                                name,
                            }
                        }
                        other => component_utils::component_alias(&mut RoundtripReencoder, other)?,
                    });
                }
                out.section(&aliases);
            }
            // The names of indices, which are other ones now.
            Payload::CustomSection(_) => {}
            payload => {
                if let Some((id, range)) = payload.as_section() {
                    out.section(&encoder::RawSection { id, data: &bytes[range] });
                }
            }
        }
    }
    Ok(out.finish())
}

/// The imports of the engine, and of its exports those that the component uses.
fn engine_type(component: &Component<'_>, main: usize, instance: usize) -> Result<encoder::ModuleType> {
    let module = &component.modules[main];
    let mut ty = encoder::ModuleType::new();
    let mut function_type = |ty: &mut encoder::ModuleType, index: u32| -> Result<encoder::EntityType> {
        let function = &module.types[index as usize];
        let values = |types: &[wasmparser::ValType]| {
            types.iter().map(|ty| Ok(RoundtripReencoder.val_type(*ty)?)).collect::<Result<Vec<_>>>()
        };
        let at = ty.type_count();
        ty.ty().function(values(function.params())?, values(function.results())?);
        Ok(encoder::EntityType::Function(at))
    };
    for import in &module.imports {
        let TypeRef::Func(index) = import.kind else {
            bail!("the module imports {:?}, which is no function", import.name)
        };
        let item = function_type(&mut ty, index)?;
        ty.import(&import.module, &import.name, item);
    }
    let memory = RoundtripReencoder.memory_type(module.memories[0])?;
    ty.import(IMAGE_ARGUMENT, MEMORY, encoder::EntityType::Memory(memory));
    let imported = module.imported(ExternalKind::Func).count();
    let mut names = BTreeSet::new();
    let functions = component.functions.iter().filter_map(|function| match function {
        CoreFunction::Alias(alias) => Some(alias),
        CoreFunction::Canonical => None,
    });
    let of_engine = |alias: &&Alias| alias.instance == instance;
    ensure!(!component.globals.iter().any(|alias| alias.instance == instance), "the component uses a global");
    ensure!(!component.tables.iter().any(|alias| alias.instance == instance), "the component uses a table");
    for alias in functions.filter(of_engine) {
        if names.insert(&alias.name) {
            let index = module.export(&alias.name, ExternalKind::Func)?;
            let index = index.checked_sub(imported).context("the module exports an import")?;
            let item = function_type(&mut ty, module.functions[index])?;
            ty.export(&alias.name, item);
        }
    }
    for alias in component.memories.iter().filter(of_engine) {
        if names.insert(&alias.name) {
            ensure!(alias.name == MEMORY, "the memory is exported as {:?}", alias.name);
            ty.export(MEMORY, encoder::EntityType::Memory(memory));
        }
    }
    Ok(ty)
}
