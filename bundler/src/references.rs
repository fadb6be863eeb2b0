//! Finds what the author's own files refer to, with positions, so that a refusal can show the line.

use oxc::ast::ast::{
    Argument, BindingIdentifier, CallExpression, ExportAllDeclaration, ExportFromDeclaration, Expression,
    ImportDeclaration, ImportExpression, Program, TSExternalModuleReference,
};
use oxc::ast_visit::{Visit, walk};

/// References to modules, each with its offset in the source.
#[derive(Debug, Default)]
pub struct References {
    pub modules: Vec<(String, u32)>,
    /// Calls of `require` whose argument is not a string.
    pub variable_requires: Vec<u32>,
}

pub fn find(program: &Program) -> References {
    let mut finder = Finder::default();
    finder.visit_program(program);
    // A file that declares a variable `require` somewhere may call that one.
    if finder.declares_require {
        finder.found.variable_requires.clear();
    }
    finder.found
}

#[derive(Default)]
struct Finder {
    found: References,
    declares_require: bool,
}

impl Finder {
    fn add(&mut self, specifier: &str, offset: u32) {
        self.found.modules.push((specifier.to_owned(), offset));
    }
}

impl<'a> Visit<'a> for Finder {
    fn visit_binding_identifier(&mut self, name: &BindingIdentifier<'a>) {
        self.declares_require |= name.name == "require";
    }

    fn visit_import_declaration(&mut self, import: &ImportDeclaration<'a>) {
        self.add(&import.source.value, import.source.span.start);
    }

    fn visit_export_all_declaration(&mut self, export: &ExportAllDeclaration<'a>) {
        self.add(&export.source.value, export.source.span.start);
    }

    fn visit_export_from_declaration(&mut self, export: &ExportFromDeclaration<'a>) {
        self.add(&export.source.value, export.source.span.start);
    }

    fn visit_ts_external_module_reference(&mut self, reference: &TSExternalModuleReference<'a>) {
        self.add(&reference.expression.value, reference.expression.span.start);
    }

    fn visit_import_expression(&mut self, import: &ImportExpression<'a>) {
        match constant(&import.source) {
            Some(specifier) => self.add(specifier, import.span.start),
            None => walk::walk_import_expression(self, import),
        }
    }

    fn visit_call_expression(&mut self, call: &CallExpression<'a>) {
        if let Expression::Identifier(name) = &call.callee
            && name.name == "require"
        {
            match call.arguments.first().and_then(Argument::as_expression).and_then(constant) {
                Some(specifier) => self.add(specifier, call.span.start),
                None => self.found.variable_requires.push(call.span.start),
            }
        }
        walk::walk_call_expression(self, call);
    }
}

/// Returns the text of a string, or of a template without expressions.
fn constant<'e>(expression: &'e Expression) -> Option<&'e str> {
    match expression {
        Expression::StringLiteral(text) => Some(text.value.as_str()),
        Expression::TemplateLiteral(template) if template.expressions.is_empty() => {
            template.quasis.first()?.value.cooked.as_ref().map(|text| text.as_str())
        }
        _ => None,
    }
}
