//! One core module out of the modules that wit-component's dynamic linking has connected.
//!
//! Calls between modules become direct calls. Globals that no code writes become constants. The table is filled with
//! constant offsets, so that wasmtime fills it only as far as it is used. Whatever the input has that is not known
//! here is an error, never a guess.

use std::borrow::Cow;
use std::collections::HashSet;
use std::fmt::{Display, Formatter, Result as FmtResult};

use anyhow::{Context, Result, anyhow, bail, ensure};
use wasm_encoder as encoder;
use wasm_encoder::reencode::{self, Reencode, RoundtripReencoder};
use wasmparser::{ConstExpr, ElementItems, ElementKind, ExternalKind, FuncType, Operator, TypeRef, ValType};

use crate::component::{Component, Module};
use crate::links::{Defined, Function, Links};

/// The value of a global before any code has run.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Value {
    I32(i32),
    I64(i64),
}

/// A function that the packer adds.
pub struct Added {
    pub ty: FuncType,
    pub code: encoder::Function,
    /// The name under which the module exports it.
    pub export: Option<String>,
}

/// A function that the merged module imports.
#[derive(Clone)]
pub struct Imported {
    pub interface: String,
    pub name: String,
    pub ty: FuncType,
}

pub struct Merge<'a> {
    component: &'a Component<'a>,
    links: Links<'a>,
    modules: Vec<usize>,
    types: Types,
    pub imports: Vec<Imported>,
    /// The imports that the merged module defines itself.
    pub own: Vec<Imported>,
    /// The index of the first function that each module defines, and of the first function that is added.
    function_base: Vec<u32>,
    added_base: u32,
    global_base: Vec<u32>,
    globals_end: u32,
}

#[derive(Default)]
struct Types(Vec<FuncType>);

impl Types {
    fn index(&mut self, ty: &FuncType) -> u32 {
        let index = self.0.iter().position(|known| known == ty).unwrap_or_else(|| {
            self.0.push(ty.clone());
            self.0.len() - 1
        });
        index as u32
    }
}

impl<'a> Merge<'a> {
    /// `own` selects the interfaces that the merged module does not import, because it defines their functions.
    pub fn new(component: &'a Component<'a>, own: fn(&str) -> bool) -> Result<Self> {
        let links = Links::new(component)?;
        let modules: Vec<usize> = links.linked_modules().collect();
        let mut merge = Self {
            component,
            links,
            modules,
            types: Types::default(),
            imports: vec![],
            own: vec![],
            function_base: vec![0; component.modules.len()],
            added_base: 0,
            global_base: vec![0; component.modules.len()],
            globals_end: 0,
        };
        merge.collect_imports(own)?;
        let mut functions = merge.imports.len() as u32;
        let mut globals = 0;
        for &module in &merge.modules {
            merge.function_base[module] = functions;
            merge.global_base[module] = globals;
            functions += component.modules[module].functions.len() as u32;
            globals += component.modules[module].globals.len() as u32;
        }
        merge.added_base = functions;
        merge.globals_end = globals;
        Ok(merge)
    }

    fn collect_imports(&mut self, own: fn(&str) -> bool) -> Result<()> {
        for &module in &self.modules {
            for import in self.component.modules[module].imported(ExternalKind::Func) {
                let Function::Imported { interface, name } = self.links.imported_function(module, import)? else {
                    continue;
                };
                let TypeRef::Func(ty) = import.kind else { bail!("{name:?} has an exact type") };
                let ty = &self.component.modules[module].types[ty as usize];
                let imports = if own(&interface) { &mut self.own } else { &mut self.imports };
                match imports.iter().find(|known| known.interface == interface && known.name == name) {
                    Some(known) => ensure!(known.ty == *ty, "{interface} {name} is imported with two types"),
                    None => imports.push(Imported { interface, name, ty: ty.clone() }),
                }
            }
        }
        Ok(())
    }

    /// The index of an imported function.
    pub fn import(&self, interface: &str, name: &str) -> Option<u32> {
        let known = |import: &Imported| import.interface == interface && import.name == name;
        self.imports.iter().position(known).map(|index| index as u32)
    }

    /// The index that the n-th added function has.
    pub fn added(&self, n: usize) -> u32 {
        self.added_base + n as u32
    }

    /// The index that the n-th added global has.
    pub fn added_global(&self, n: usize) -> u32 {
        self.globals_end + n as u32
    }

    /// The index of a function that some module exports.
    pub fn exported(&self, module: usize, name: &str) -> Result<u32> {
        let function = self.links.exported_function(module, name)?;
        self.function(&function).with_context(|| format!("{name:?} is a function of the host"))
    }

    /// The module that exports all these names; exactly one does.
    pub fn exporter(&self, names: &[&str]) -> Result<usize> {
        let mut found = self
            .modules
            .iter()
            .filter(|&&module| names.iter().all(|name| self.component.modules[module].exports(name)));
        let first = *found.next().with_context(|| format!("no module exports {names:?}"))?;
        ensure!(found.next().is_none(), "several modules export {names:?}");
        Ok(first)
    }

    fn function(&self, function: &Function) -> Option<u32> {
        match function {
            Function::Defined { module, index } => Some(self.function_base[*module] + *index as u32),
            Function::Imported { .. } => None,
        }
    }

    /// The merged module, with added functions and globals, and with these functions as exports.
    ///
    /// `replaced` gives the function that is called instead of an import; it must do so for each of `own`.
    pub fn finish(
        mut self,
        replaced: &dyn Fn(&str, &str) -> Option<u32>,
        added: Vec<Added>,
        added_globals: &[ValType],
        exports: &[(String, u32)],
    ) -> Result<Vec<u8>> {
        let memory = self.the_only(ExternalKind::Memory, |module| module.memories.len())?;
        let table = self.the_only(ExternalKind::Table, |module| module.tables.len())?;
        ensure!(memory == table, "memory and table are in two modules");
        let maps = self.modules.iter().map(|&module| self.maps(module, replaced)).collect::<Result<Vec<_>>>()?;
        let written = self.written_globals(&maps)?;
        let values = self.global_values(&maps)?;

        let type_maps: Vec<Vec<u32>> = self
            .modules
            .iter()
            .map(|&module| self.component.modules[module].types.iter().map(|ty| self.types.index(ty)).collect())
            .collect();
        let mut imports = encoder::ImportSection::new();
        for import in &self.imports {
            let ty = self.types.index(&import.ty);
            imports.import(&import.interface, &import.name, encoder::EntityType::Function(ty));
        }
        let mut functions = encoder::FunctionSection::new();
        let mut code = encoder::CodeSection::new();
        for ((&module, map), types) in self.modules.iter().zip(&maps).zip(&type_maps) {
            let module = &self.component.modules[module];
            let mut code_map =
                CodeMap { functions: &map.functions, globals: &map.globals, types, written: &written, values: &values };
            for (ty, body) in module.functions.iter().zip(&module.bodies) {
                functions.function(types[*ty as usize]);
                if module.exports.is_empty() {
                    // What initialised the modules ran when the component was built.
                    code.function(&unreachable());
                } else {
                    code_map.parse_function_body(&mut code, body.clone()).map_err(error)?;
                }
            }
        }
        let mut export_section = encoder::ExportSection::new();
        for (n, added) in added.iter().enumerate() {
            let ty = self.types.index(&added.ty);
            functions.function(ty);
            code.function(&added.code);
            if let Some(name) = &added.export {
                export_section.export(name, encoder::ExportKind::Func, self.added(n));
            }
        }
        for (name, function) in exports {
            export_section.export(name, encoder::ExportKind::Func, *function);
        }
        export_section.export("memory", encoder::ExportKind::Memory, 0);

        let mut globals = encoder::GlobalSection::new();
        for (index, value) in values.iter().enumerate() {
            globals.global(global_type(*value, written.contains(&(index as u32))), &constant(*value));
        }
        for ty in added_globals {
            let value = match ty {
                ValType::I32 => Value::I32(0),
                ValType::I64 => Value::I64(0),
                other => bail!("a global cannot be a {other}"),
            };
            globals.global(global_type(value, true), &constant(value));
        }
        let elements = self.elements(&maps, &values)?;
        let main = &self.component.modules[memory];
        let mut tables = encoder::TableSection::new();
        tables.table(RoundtripReencoder.table_type(main.tables[0]).map_err(error)?);
        let mut memories = encoder::MemorySection::new();
        memories.memory(RoundtripReencoder.memory_type(main.memories[0]).map_err(error)?);
        let mut data = encoder::DataSection::new();
        for segment in &main.data {
            let wasmparser::DataKind::Active { memory_index: 0, offset_expr } = &segment.kind else {
                bail!("a data segment is not active");
            };
            let Value::I32(offset) = evaluate(offset_expr, &|_| bail!("a data segment begins at a global"))? else {
                bail!("a data segment begins at a 64-bit offset");
            };
            data.active(0, &encoder::ConstExpr::i32_const(offset), segment.data.iter().copied());
        }
        let mut types = encoder::TypeSection::new();
        for ty in &self.types.0 {
            types.ty().func_type(&RoundtripReencoder.func_type(ty.clone()).map_err(error)?);
        }
        let mut module = encoder::Module::new();
        module.section(&types).section(&imports).section(&functions).section(&tables).section(&memories);
        module.section(&globals).section(&export_section).section(&elements).section(&code).section(&data);
        Ok(module.finish())
    }

    /// The module that defines the only memory or table, and that all other modules import.
    fn the_only(&self, kind: ExternalKind, count: fn(&Module<'_>) -> usize) -> Result<usize> {
        let owners: Vec<usize> =
            self.modules.iter().copied().filter(|&module| count(&self.component.modules[module]) > 0).collect();
        let [owner] = owners[..] else { bail!("{} modules define a {kind:?}", owners.len()) };
        ensure!(count(&self.component.modules[owner]) == 1, "a module defines more than one {kind:?}");
        for &module in &self.modules {
            ensure!(module == owner || self.component.modules[module].data.is_empty(), "module {module} has data");
            for import in self.component.modules[module].imported(kind) {
                let item = self.links.imported_item(module, import, kind)?;
                ensure!(item == Defined { module: owner, index: 0 }, "module {module} has another {kind:?}");
            }
        }
        Ok(owner)
    }

    fn maps(&self, module: usize, replaced: &dyn Fn(&str, &str) -> Option<u32>) -> Result<Maps> {
        let content = &self.component.modules[module];
        let mut maps = Maps::default();
        for import in content.imported(ExternalKind::Func) {
            let function = self.links.imported_function(module, import)?;
            maps.functions.push(match &function {
                Function::Imported { interface, name } => replaced(interface, name)
                    .unwrap_or_else(|| self.import(interface, name).expect("all imports were collected")),
                Function::Defined { module, index } => self.function_base[*module] + *index as u32,
            });
        }
        maps.functions.extend((0..content.functions.len() as u32).map(|index| self.function_base[module] + index));
        for import in content.imported(ExternalKind::Global) {
            let item = self.links.imported_item(module, import, ExternalKind::Global)?;
            maps.globals.push(self.global_base[item.module] + item.index as u32);
        }
        maps.globals.extend((0..content.globals.len() as u32).map(|index| self.global_base[module] + index));
        Ok(maps)
    }

    fn written_globals(&self, maps: &[Maps]) -> Result<HashSet<u32>> {
        let mut written = HashSet::new();
        for (&module, map) in self.modules.iter().zip(maps) {
            if self.component.modules[module].exports.is_empty() {
                continue;
            }
            for body in &self.component.modules[module].bodies {
                for operator in body.get_operators_reader()? {
                    if let Operator::GlobalSet { global_index } = operator? {
                        written.insert(map.globals[global_index as usize]);
                    }
                }
            }
        }
        Ok(written)
    }

    fn global_values(&self, maps: &[Maps]) -> Result<Vec<Value>> {
        let mut values: Vec<Option<Value>> = vec![None; self.globals_end as usize];
        for (&module, map) in self.modules.iter().zip(maps) {
            for (index, global) in self.component.modules[module].globals.iter().enumerate() {
                let value = evaluate(&global.init_expr, &|global| {
                    values[map.globals[global as usize] as usize].context("a global depends on a later one")
                })?;
                values[self.global_base[module] as usize + index] = Some(value);
            }
        }
        values.into_iter().map(|value| value.context("a global has no value")).collect()
    }

    fn elements(&self, maps: &[Maps], values: &[Value]) -> Result<encoder::ElementSection> {
        let mut elements = encoder::ElementSection::new();
        for (&module, map) in self.modules.iter().zip(maps) {
            let content = &self.component.modules[module];
            let defined = self.function_base[module]..self.function_base[module] + content.functions.len() as u32;
            for element in &content.elements {
                let offset_expr = match &element.kind {
                    ElementKind::Active { table_index: None | Some(0), offset_expr } => offset_expr,
                    ElementKind::Declared => continue,
                    _ => bail!("module {module} has an element segment that is not active"),
                };
                let offset = evaluate(offset_expr, &|global| Ok(values[map.globals[global as usize] as usize]))?;
                let Value::I32(offset) = offset else { bail!("an element segment begins at a 64-bit offset") };
                let ElementItems::Functions(items) = &element.items else {
                    bail!("module {module} has an element segment of expressions");
                };
                let items = items
                    .clone()
                    .into_iter()
                    .map(|item| Ok(map.functions[item? as usize]))
                    .collect::<Result<Vec<u32>>>()?;
                if content.exports.is_empty() {
                    ensure!(
                        !items.iter().any(|item| defined.contains(item)),
                        "code that has run is still in the table"
                    );
                }
                elements.active(
                    None,
                    &encoder::ConstExpr::i32_const(offset),
                    encoder::Elements::Functions(Cow::Owned(items)),
                );
            }
        }
        Ok(elements)
    }
}

/// The index in the merged module of each function and global of one module.
#[derive(Default)]
struct Maps {
    functions: Vec<u32>,
    globals: Vec<u32>,
}

struct CodeMap<'m> {
    functions: &'m [u32],
    globals: &'m [u32],
    types: &'m [u32],
    written: &'m HashSet<u32>,
    values: &'m [Value],
}

impl Reencode for CodeMap<'_> {
    type Error = Unmergeable;

    fn function_index(&mut self, function: u32) -> Result<u32, reencode::Error<Unmergeable>> {
        Ok(self.functions[function as usize])
    }

    fn global_index(&mut self, global: u32) -> Result<u32, reencode::Error<Unmergeable>> {
        Ok(self.globals[global as usize])
    }

    fn type_index(&mut self, ty: u32) -> Result<u32, reencode::Error<Unmergeable>> {
        Ok(self.types[ty as usize])
    }

    // Segments are numbered differently in the merged module. No module uses them in code.
    fn data_index(&mut self, _: u32) -> Result<u32, reencode::Error<Unmergeable>> {
        Err(reencode::Error::UserError(Unmergeable))
    }

    fn element_index(&mut self, _: u32) -> Result<u32, reencode::Error<Unmergeable>> {
        Err(reencode::Error::UserError(Unmergeable))
    }

    fn instruction<'a>(
        &mut self,
        operator: Operator<'a>,
    ) -> Result<encoder::Instruction<'a>, reencode::Error<Unmergeable>> {
        if let Operator::GlobalGet { global_index } = operator {
            let global = self.globals[global_index as usize];
            if !self.written.contains(&global) {
                return Ok(match self.values[global as usize] {
                    Value::I32(value) => encoder::Instruction::I32Const(value),
                    Value::I64(value) => encoder::Instruction::I64Const(value),
                });
            }
        }
        reencode::utils::instruction(self, operator)
    }
}

fn evaluate(expression: &ConstExpr<'_>, global: &dyn Fn(u32) -> Result<Value>) -> Result<Value> {
    let mut stack = vec![];
    for operator in expression.get_operators_reader() {
        match operator? {
            Operator::I32Const { value } => stack.push(Value::I32(value)),
            Operator::I64Const { value } => stack.push(Value::I64(value)),
            Operator::GlobalGet { global_index } => stack.push(global(global_index)?),
            Operator::I32Add => match (stack.pop(), stack.pop()) {
                (Some(Value::I32(a)), Some(Value::I32(b))) => stack.push(Value::I32(a.wrapping_add(b))),
                other => bail!("an addition has the operands {other:?}"),
            },
            Operator::End => {}
            other => bail!("an initial value has an unknown instruction: {other:?}"),
        }
    }
    let [value] = stack[..] else { bail!("an initial value has {} results", stack.len()) };
    Ok(value)
}

fn constant(value: Value) -> encoder::ConstExpr {
    match value {
        Value::I32(value) => encoder::ConstExpr::i32_const(value),
        Value::I64(value) => encoder::ConstExpr::i64_const(value),
    }
}

fn global_type(value: Value, mutable: bool) -> encoder::GlobalType {
    let val_type = match value {
        Value::I32(_) => encoder::ValType::I32,
        Value::I64(_) => encoder::ValType::I64,
    };
    encoder::GlobalType { val_type, mutable, shared: false }
}

pub fn unreachable() -> encoder::Function {
    let mut function = encoder::Function::new([]);
    function.instruction(&encoder::Instruction::Unreachable).instruction(&encoder::Instruction::End);
    function
}

/// Code names a segment.
#[derive(Debug)]
struct Unmergeable;

impl Display for Unmergeable {
    fn fmt(&self, formatter: &mut Formatter<'_>) -> FmtResult {
        formatter.write_str("an instruction that names a segment")
    }
}

impl std::error::Error for Unmergeable {}

fn error(error: reencode::Error<impl Display>) -> anyhow::Error {
    anyhow!("a module has something that cannot be merged: {error}")
}
