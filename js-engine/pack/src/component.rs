//! The component around the engine, with engine and memory as imports.
//!
//! wit-component makes a component in which the engine is the first core module. That module becomes an import, at the
//! same place and with the same number. A second import follows it, and the first core instance becomes one of that
//! import, so the numbers of all other core modules and core instances are one higher.

use anyhow::{Context as _, ensure};
use wasm_encoder::reencode::{Error, Reencode, ReencodeComponent, component_utils};
use wasm_encoder::{
    Component, ComponentImportSection, ComponentTypeRef, CoreTypeSection, InstanceSection, ModuleArg, ModuleType,
};
use wasmparser::{Instance, InstantiationArgKind, Parser, Payload, Validator};
use wit_component::ComponentEncoder;

use crate::core_module::{self, EngineType, MEMORY_IMPORT};

/// The names of the two imports.
const ENGINE_IMPORT: &str = "jackfield:script/engine";
const IMAGE_IMPORT: &str = "jackfield:script/image";
/// The number of the engine among the core modules.
const ENGINE: u32 = 0;
/// The number of the image's instance among the core instances.
const IMAGE_INSTANCE: u32 = 0;
/// The interfaces that the component has to export.
const EXPORTS: [&str; 2] = ["jackfield:gateway/handler@", "jackfield:gateway/authorizer@"];

/// Returns the component.
///
/// # Errors
/// If what wit-component wrote is not what this module relies on.
pub fn around(core: &[u8], engine: &EngineType) -> anyhow::Result<Vec<u8>> {
    let whole = encode(core).context("wit-component cannot make a component")?;
    check(&whole, engine)
        .context("wit-component writes something else than this packer relies on; its version changed")?;
    let mut rewriter = Rewriter {
        depth: 0,
        modules: 0,
        instantiated: 0,
        engine_type: engine.encode()?,
        image_type: core_module::image_type(engine.memory),
    };
    let mut component = Component::new();
    rewriter
        .parse_component(&mut component, Parser::new(0), &whole)
        .map_err(|error| anyhow::anyhow!("cannot write the component: {error}"))?;
    ensure!(rewriter.instantiated == 1, "the engine is instantiated {} times, expected once", rewriter.instantiated);
    let component = component.finish();
    Validator::new().validate_all(&component).context("the component with the imports is not valid")?;
    Ok(component)
}

fn encode(core: &[u8]) -> anyhow::Result<Vec<u8>> {
    let mut encoder = ComponentEncoder::default();
    encoder.validate(true).module(core)?.encode()
}

/// Checks that the first core module is the engine, that no core type was defined and no core instance made before it, and
/// that both worlds are exported.
fn check(whole: &[u8], engine: &EngineType) -> anyhow::Result<()> {
    let mut depth = 0;
    let mut first_module = None;
    let mut exports = Vec::new();
    for payload in Parser::new(0).parse_all(whole) {
        match payload? {
            Payload::ModuleSection { unchecked_range, .. } => {
                if depth == 0 && first_module.is_none() {
                    first_module = Some(&whole[unchecked_range.start as usize..unchecked_range.end as usize]);
                }
                depth += 1;
            }
            Payload::ComponentSection { .. } => depth += 1,
            Payload::End(_) if depth > 0 => depth -= 1,
            Payload::CoreTypeSection(_) if depth == 0 => anyhow::bail!("the component has core types"),
            Payload::InstanceSection(_) if depth == 0 => {
                ensure!(first_module.is_some(), "a core instance comes before the first core module");
            }
            Payload::ComponentExportSection(section) if depth == 0 => {
                for export in section {
                    exports.push(export?.name.name.to_owned());
                }
            }
            _ => {}
        }
    }
    check_is_engine(first_module.context("the component has no core module")?, engine)?;
    for name in EXPORTS {
        ensure!(exports.iter().any(|export| export.starts_with(name)), "the component does not export {name}");
    }
    Ok(())
}

fn check_is_engine(module: &[u8], engine: &EngineType) -> anyhow::Result<()> {
    let (mut imports, mut exports) = (Vec::new(), Vec::new());
    for payload in Parser::new(0).parse_all(module) {
        match payload? {
            Payload::ImportSection(section) => {
                for import in section.into_imports() {
                    let import = import?;
                    imports.push((import.module.to_owned(), import.name.to_owned()));
                }
            }
            Payload::ExportSection(section) => {
                for export in section {
                    exports.push(export?.name.to_owned());
                }
            }
            _ => {}
        }
    }
    let (engine_imports, engine_exports) = engine.names();
    ensure!(
        imports.iter().map(|(module, name)| (&**module, &**name)).eq(engine_imports)
            && exports.iter().eq(engine_exports),
        "the first core module is not the engine"
    );
    Ok(())
}

struct Rewriter {
    /// How many modules and components are around what is being read. Only the outermost component is changed.
    depth: u32,
    /// How many core modules of the outermost component were read.
    modules: u32,
    /// How many instances of the engine were made.
    instantiated: u32,
    engine_type: ModuleType,
    image_type: ModuleType,
}

impl Rewriter {
    /// Writes the two imports and the instance of the image.
    fn import_modules(&self, component: &mut Component) {
        let mut types = CoreTypeSection::new();
        types.ty().module(&self.engine_type);
        types.ty().module(&self.image_type);
        let mut imports = ComponentImportSection::new();
        imports.import(ENGINE_IMPORT, ComponentTypeRef::Module(0));
        imports.import(IMAGE_IMPORT, ComponentTypeRef::Module(1));
        let mut instances = InstanceSection::new();
        instances.instantiate::<_, &str>(ENGINE + 1, []);
        component.section(&types).section(&imports).section(&instances);
    }
}

impl Reencode for Rewriter {
    type Error = std::convert::Infallible;
}

impl ReencodeComponent for Rewriter {
    fn push_depth(&mut self) {
        self.depth += 1;
    }

    fn pop_depth(&mut self) {
        self.depth -= 1;
    }

    fn module_index(&mut self, index: u32) -> u32 {
        if self.depth == 0 && index != ENGINE { index + 1 } else { index }
    }

    fn instance_index(&mut self, index: u32) -> u32 {
        if self.depth == 0 { index + 1 } else { index }
    }

    fn parse_component_submodule(
        &mut self,
        component: &mut Component,
        parser: Parser,
        module: &[u8],
    ) -> Result<(), Error<Self::Error>> {
        if self.depth == 0 {
            self.modules += 1;
            if self.modules == ENGINE + 1 {
                self.import_modules(component);
                return Ok(());
            }
        }
        component_utils::parse_component_submodule(self, component, parser, module)
    }

    fn parse_instance(
        &mut self,
        instances: &mut InstanceSection,
        instance: Instance<'_>,
    ) -> Result<(), Error<Self::Error>> {
        match instance {
            Instance::Instantiate { module_index: ENGINE, args } if self.depth == 0 => {
                self.instantiated += 1;
                let others = args.iter().map(|argument| match argument.kind {
                    InstantiationArgKind::Instance => (argument.name, ModuleArg::Instance(argument.index + 1)),
                });
                let image = (MEMORY_IMPORT.0, ModuleArg::Instance(IMAGE_INSTANCE));
                let arguments: Vec<_> = others.chain([image]).collect();
                instances.instantiate(ENGINE, arguments);
                Ok(())
            }
            instance => component_utils::parse_instance(self, instances, instance),
        }
    }
}
