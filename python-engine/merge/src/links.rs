//! What each import of a module is, followed through instances, re-exports and the shim of wit-component.

use anyhow::{Context, Result, bail, ensure};
use wasmparser::{ElementItems, ElementKind, ExternalKind, Operator};

use crate::component::{Alias, Component, CoreFunction, CoreInstance, Import, Module};

/// A function that a module calls.
pub enum Function {
    /// The function with this index among those that the module defines.
    Defined { module: usize, index: usize },
    /// A function that the component imports, by interface and name.
    Imported { interface: String, name: String },
}

/// The item with this index among those that the module defines.
#[derive(Clone, Copy, PartialEq)]
pub struct Defined {
    pub module: usize,
    pub index: usize,
}

pub struct Links<'a> {
    component: &'a Component<'a>,
    /// The instance of each module.
    instances: Vec<usize>,
    /// The module of wit-component with one function for each slot of a table, and the one that fills the table. They
    /// exist only because the real functions need the memory of a module that imports them.
    shim: usize,
    fixup: usize,
}

const SHIM_TABLE: &str = "$imports";

impl<'a> Links<'a> {
    pub fn new(component: &'a Component<'a>) -> Result<Self> {
        let mut instances = vec![None; component.modules.len()];
        for (index, instance) in component.instances.iter().enumerate() {
            if let CoreInstance::Module { module, .. } = instance {
                ensure!(instances[*module].replace(index).is_none(), "module {module} is instantiated twice");
            }
        }
        let instances = instances
            .into_iter()
            .enumerate()
            .map(|(module, instance)| instance.with_context(|| format!("module {module} is not instantiated")))
            .collect::<Result<_>>()?;
        let one = |what: &str, is: &dyn Fn(&Module<'_>) -> bool| {
            let mut found = (0..component.modules.len()).filter(|&module| is(&component.modules[module]));
            let first = found.next().with_context(|| format!("the component has no {what}"))?;
            ensure!(found.next().is_none(), "the component has more than one {what}");
            Ok(first)
        };
        let shim = one("shim of wit-component", &|module| module.exports(SHIM_TABLE))?;
        let fixup = one("module that fills the table of the shim", &|module| {
            module.imports.iter().any(|import| import.name == SHIM_TABLE)
        })?;
        let links = Self { component, instances, shim, fixup };
        links.check_shim()?;
        Ok(links)
    }

    /// The modules that are neither the shim nor the one that fills its table.
    pub fn linked_modules(&self) -> impl Iterator<Item = usize> {
        (0..self.component.modules.len()).filter(|&module| module != self.shim && module != self.fixup)
    }

    /// Checks that function `n` of the shim calls slot `n`, and that slot `n` is filled with the import `n`.
    fn check_shim(&self) -> Result<()> {
        let shim = &self.component.modules[self.shim];
        ensure!(shim.imports.is_empty(), "the shim has imports");
        for export in shim.exports.iter().filter(|export| export.kind == ExternalKind::Func) {
            let slot: i32 =
                export.name.parse().with_context(|| format!("unknown export {:?} of the shim", export.name))?;
            let mut last = (None, None);
            for operator in shim.bodies[export.index].get_operators_reader()? {
                match operator? {
                    Operator::LocalGet { .. } | Operator::End => {}
                    Operator::I32Const { value } => last.0 = Some(value),
                    Operator::CallIndirect { table_index, .. } => last.1 = Some(table_index),
                    other => bail!("function {slot} of the shim has an unknown instruction: {other:?}"),
                }
            }
            ensure!(last == (Some(slot), Some(0)), "function {slot} of the shim calls another slot: {last:?}");
        }
        let fixup = &self.component.modules[self.fixup];
        let [element] = &fixup.elements[..] else { bail!("the table of the shim is filled by several segments") };
        let ElementKind::Active { offset_expr, .. } = &element.kind else {
            bail!("a segment of the shim is not active")
        };
        ensure!(
            matches!(offset_expr.get_operators_reader().read()?, Operator::I32Const { value: 0 }),
            "the table of the shim is not filled from slot 0 on"
        );
        let ElementItems::Functions(functions) = &element.items else { bail!("a segment of the shim has expressions") };
        let imports: Vec<&Import> = fixup.imported(ExternalKind::Func).collect();
        for (slot, function) in functions.clone().into_iter().enumerate() {
            let import = imports.get(function? as usize).context("the shim is filled with a function of its own")?;
            ensure!(import.name == slot.to_string(), "slot {slot} of the shim is filled with {:?}", import.name);
        }
        Ok(())
    }

    pub fn imported_function(&self, module: usize, import: &Import) -> Result<Function> {
        let instance = self.argument(module, &import.module)?;
        self.function_of_instance(instance, &import.name, import)
    }

    pub fn exported_function(&self, module: usize, name: &str) -> Result<Function> {
        let index = self.component.modules[module].export(name, ExternalKind::Func)?;
        let imports: Vec<&Import> = self.component.modules[module].imported(ExternalKind::Func).collect();
        match imports.get(index) {
            Some(import) => self.imported_function(module, import),
            None => Ok(Function::Defined { module, index: index - imports.len() }),
        }
    }

    fn function_of_instance(&self, instance: usize, name: &str, import: &Import) -> Result<Function> {
        match &self.component.instances[instance] {
            CoreInstance::Module { module, .. } if *module == self.shim => {
                let filled = self.argument(self.fixup, "")?;
                self.function_of_instance(filled, name, import)
            }
            CoreInstance::Module { module, .. } => self.exported_function(*module, name),
            CoreInstance::Exports(exports) => {
                let index = find(exports, name, ExternalKind::Func)?;
                match &self.component.functions[index] {
                    CoreFunction::Alias(Alias { instance, name }) => self.function_of_instance(*instance, name, import),
                    CoreFunction::Canonical => {
                        ensure!(import.module.contains(':'), "{:?} is not the name of an interface", import.module);
                        Ok(Function::Imported { interface: import.module.clone(), name: import.name.clone() })
                    }
                }
            }
        }
    }

    /// What an imported global, table or memory is.
    pub fn imported_item(&self, module: usize, import: &Import, kind: ExternalKind) -> Result<Defined> {
        let instance = self.argument(module, &import.module)?;
        let (instance, name) = match &self.component.instances[instance] {
            CoreInstance::Module { .. } => (instance, &import.name),
            CoreInstance::Exports(exports) => {
                let aliases = match kind {
                    ExternalKind::Global => &self.component.globals,
                    ExternalKind::Table => &self.component.tables,
                    ExternalKind::Memory => &self.component.memories,
                    _ => bail!("{kind:?} is no item that is looked up here"),
                };
                let alias = &aliases[find(exports, &import.name, kind)?];
                (alias.instance, &alias.name)
            }
        };
        let CoreInstance::Module { module, .. } = &self.component.instances[instance] else {
            bail!("{name:?} is exported by a list of exports");
        };
        let index = self.component.modules[*module].export(name, kind)?;
        let imports: Vec<&Import> = self.component.modules[*module].imported(kind).collect();
        match imports.get(index) {
            Some(import) => self.imported_item(*module, import, kind),
            None => Ok(Defined { module: *module, index: index - imports.len() }),
        }
    }

    fn argument(&self, module: usize, name: &str) -> Result<usize> {
        let CoreInstance::Module { arguments, .. } = &self.component.instances[self.instances[module]] else {
            bail!("module {module} has no instance");
        };
        arguments
            .iter()
            .find(|argument| argument.0 == name)
            .map(|argument| argument.1)
            .with_context(|| format!("module {module} is instantiated without {name:?}"))
    }
}

fn find(exports: &[(String, ExternalKind, usize)], name: &str, kind: ExternalKind) -> Result<usize> {
    exports
        .iter()
        .find(|export| export.0 == name && export.1 == kind)
        .map(|export| export.2)
        .with_context(|| format!("an instance does not export the {kind:?} {name:?}"))
}
