//! What a component by componentize-py consists of: its core modules, and how they are instantiated.
//!
//! Knows sections and indices. Does not know what the modules are for.

use anyhow::{Context, Result, bail, ensure};
use wasmparser::{
    CanonicalFunction, ComponentAlias, ComponentExternalKind, Encoding, ExternalKind, FuncType, Instance, Parser,
    Payload, TypeRef,
};

/// The core part of a component: everything outside of nested components.
#[derive(Default)]
pub struct Component<'a> {
    pub modules: Vec<Module<'a>>,
    pub instances: Vec<CoreInstance>,
    pub functions: Vec<CoreFunction>,
    pub globals: Vec<Alias>,
    pub tables: Vec<Alias>,
    pub memories: Vec<Alias>,
}

pub enum CoreInstance {
    /// A module with the instances that are its arguments, by name.
    Module { module: usize, arguments: Vec<(String, usize)> },
    /// A list of exports: name, kind, index.
    Exports(Vec<(String, ExternalKind, usize)>),
}

pub enum CoreFunction {
    Alias(Alias),
    /// A function of the component model: an import, or the drop of a resource.
    Canonical,
}

/// An item that a core instance exports.
pub struct Alias {
    pub instance: usize,
    pub name: String,
}

/// One core module. Its vectors have the imported items first, as its index spaces do.
pub struct Module<'a> {
    pub types: Vec<FuncType>,
    pub imports: Vec<Import>,
    /// The type of each defined function.
    pub functions: Vec<u32>,
    pub exports: Vec<Export>,
    pub tables: Vec<wasmparser::TableType>,
    pub memories: Vec<wasmparser::MemoryType>,
    pub globals: Vec<wasmparser::Global<'a>>,
    pub elements: Vec<wasmparser::Element<'a>>,
    pub data: Vec<wasmparser::Data<'a>>,
    pub bodies: Vec<wasmparser::FunctionBody<'a>>,
}

pub struct Import {
    pub module: String,
    pub name: String,
    pub kind: TypeRef,
}

pub struct Export {
    pub name: String,
    pub kind: ExternalKind,
    pub index: usize,
}

impl<'a> Component<'a> {
    pub fn parse(bytes: &'a [u8]) -> Result<Self> {
        let mut component = Component::default();
        let mut depth = 0;
        for payload in Parser::new(0).parse_all(bytes) {
            match payload? {
                Payload::Version { encoding, .. } if depth == 0 => {
                    ensure!(encoding == Encoding::Component, "the file is not a component");
                }
                Payload::ModuleSection { unchecked_range, .. } => {
                    if depth == 0 {
                        component
                            .modules
                            .push(Module::parse(&bytes[unchecked_range.start as usize..unchecked_range.end as usize])?);
                    }
                    depth += 1;
                }
                Payload::ComponentSection { .. } => depth += 1,
                Payload::End(_) if depth > 0 => depth -= 1,
                _ if depth > 0 => {}
                Payload::InstanceSection(section) => {
                    for instance in section {
                        component.instances.push(core_instance(instance?));
                    }
                }
                Payload::ComponentAliasSection(section) => {
                    for alias in section {
                        component.add_alias(alias?)?;
                    }
                }
                Payload::ComponentImportSection(section) => {
                    for import in section {
                        let kind = import?.ty.kind();
                        ensure!(kind != ComponentExternalKind::Module, "the component imports a core module");
                    }
                }
                Payload::ComponentCanonicalSection(section) => {
                    for function in section {
                        match function? {
                            // A lifted function is one of the component, not a core function.
                            CanonicalFunction::Lift { .. } => {}
                            CanonicalFunction::Lower { .. } | CanonicalFunction::ResourceDrop { .. } => {
                                component.functions.push(CoreFunction::Canonical);
                            }
                            other => bail!("the component has a canonical function of an unknown kind: {other:?}"),
                        }
                    }
                }
                _ => {}
            }
        }
        Ok(component)
    }

    fn add_alias(&mut self, alias: ComponentAlias<'_>) -> Result<()> {
        match alias {
            ComponentAlias::CoreInstanceExport { kind, instance_index, name } => {
                let alias = Alias { instance: instance_index as usize, name: name.to_owned() };
                match kind {
                    ExternalKind::Func | ExternalKind::FuncExact => self.functions.push(CoreFunction::Alias(alias)),
                    ExternalKind::Global => self.globals.push(alias),
                    ExternalKind::Table => self.tables.push(alias),
                    ExternalKind::Memory => self.memories.push(alias),
                    ExternalKind::Tag => bail!("the component has an alias of a tag"),
                }
            }
            ComponentAlias::InstanceExport { kind: ComponentExternalKind::Module, .. } => {
                bail!("the component has an alias of a core module");
            }
            _ => {}
        }
        Ok(())
    }
}

fn core_instance(instance: Instance<'_>) -> CoreInstance {
    match instance {
        Instance::Instantiate { module_index, args } => CoreInstance::Module {
            module: module_index as usize,
            arguments: args.iter().map(|argument| (argument.name.to_owned(), argument.index as usize)).collect(),
        },
        Instance::FromExports(exports) => CoreInstance::Exports(
            exports.iter().map(|export| (export.name.to_owned(), export.kind, export.index as usize)).collect(),
        ),
    }
}

impl<'a> Module<'a> {
    fn parse(bytes: &'a [u8]) -> Result<Self> {
        let mut module = Module {
            types: vec![],
            imports: vec![],
            functions: vec![],
            exports: vec![],
            tables: vec![],
            memories: vec![],
            globals: vec![],
            elements: vec![],
            data: vec![],
            bodies: vec![],
        };
        for payload in Parser::new(0).parse_all(bytes) {
            match payload? {
                Payload::TypeSection(section) => {
                    for group in section {
                        for ty in group?.into_types() {
                            match ty.composite_type.inner {
                                wasmparser::CompositeInnerType::Func(ty) => module.types.push(ty),
                                other => bail!("a module has a type that is not of a function: {other:?}"),
                            }
                        }
                    }
                }
                Payload::ImportSection(section) => {
                    for import in section.into_imports() {
                        let import = import?;
                        module.imports.push(Import {
                            module: import.module.to_owned(),
                            name: import.name.to_owned(),
                            kind: import.ty,
                        });
                    }
                }
                Payload::FunctionSection(section) => {
                    module.functions = section.into_iter().collect::<Result<_, _>>()?
                }
                Payload::TableSection(section) => {
                    for table in section {
                        module.tables.push(table?.ty);
                    }
                }
                Payload::MemorySection(section) => module.memories = section.into_iter().collect::<Result<_, _>>()?,
                Payload::GlobalSection(section) => module.globals = section.into_iter().collect::<Result<_, _>>()?,
                Payload::ExportSection(section) => {
                    for export in section {
                        let export = export?;
                        module.exports.push(Export {
                            name: export.name.to_owned(),
                            kind: export.kind,
                            index: export.index as usize,
                        });
                    }
                }
                Payload::ElementSection(section) => module.elements = section.into_iter().collect::<Result<_, _>>()?,
                Payload::DataSection(section) => module.data = section.into_iter().collect::<Result<_, _>>()?,
                Payload::CodeSectionEntry(body) => module.bodies.push(body),
                Payload::StartSection { .. } => bail!("a module has a start function"),
                Payload::TagSection(_) => bail!("a module has tags"),
                _ => {}
            }
        }
        Ok(module)
    }

    pub fn export(&self, name: &str, kind: ExternalKind) -> Result<usize> {
        self.exports
            .iter()
            .find(|export| export.name == name && export.kind == kind)
            .map(|export| export.index)
            .with_context(|| format!("a module does not export the {kind:?} {name:?}"))
    }

    pub fn exports(&self, name: &str) -> bool {
        self.exports.iter().any(|export| export.name == name)
    }

    /// The imports of one kind, in the order of their index space.
    pub fn imported(&self, kind: ExternalKind) -> impl Iterator<Item = &Import> {
        self.imports.iter().filter(move |import| match import.kind {
            TypeRef::Func(_) | TypeRef::FuncExact(_) => kind == ExternalKind::Func,
            TypeRef::Global(_) => kind == ExternalKind::Global,
            TypeRef::Table(_) => kind == ExternalKind::Table,
            TypeRef::Memory(_) => kind == ExternalKind::Memory,
            TypeRef::Tag(_) => kind == ExternalKind::Tag,
        })
    }
}
