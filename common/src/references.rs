//! Finds the modules that a parsed file refers to.

use oxc_ast::ast::{
    Argument, CallExpression, Decorator, ExportAllDeclaration, ExportFromDeclaration, Expression, IdentifierReference,
    ImportDeclaration, ImportExpression, Program, TSExternalModuleReference, VariableDeclaration,
    VariableDeclarationKind,
};
use oxc_ast_visit::{Visit, walk};
use oxc_semantic::{Scoping, SemanticBuilder};

/// Why a call of `require` with a variable is refused.
pub const VARIABLE_REQUIRE: &str = "require needs a string here, because files are found before the script runs: \
    require each file by its name, and select one of them";

/// References to modules, each with its offset in the source.
#[derive(Debug, Default)]
pub struct References {
    pub imports: Vec<(String, u32)>,
    /// Calls of `require` whose argument is not a string.
    pub variable_requires: Vec<u32>,
}

/// Finds the imports of a file, and its calls of `require`.
pub fn find<'a>(program: &'a Program<'a>) -> References {
    find_with(program, SemanticBuilder::new().build(program).semantic.scoping())
}

/// As `find`, for a file whose names are resolved already.
pub fn find_with(program: &Program, scoping: &Scoping) -> References {
    let mut finder = Finder { scoping, found: References::default() };
    finder.visit_program(program);
    finder.found
}

/// Whether the file has syntax that needs helper functions, which only the bundler adds: decorators, and declarations
/// with `using`.
pub fn needs_bundler(program: &Program) -> bool {
    let mut finder = HelperFinder { needs_helpers: false };
    finder.visit_program(program);
    finder.needs_helpers
}

struct Finder<'s> {
    scoping: &'s Scoping,
    found: References,
}

impl Finder<'_> {
    fn add(&mut self, specifier: &str, offset: u32) {
        self.found.imports.push((specifier.to_owned(), offset));
    }

    /// Whether a name is the function `require` of the module, and not a variable of the same name.
    fn is_require(&self, name: &IdentifierReference) -> bool {
        let is_variable =
            || name.reference_id.get().is_some_and(|id| self.scoping.get_reference(id).symbol_id().is_some());
        name.name == "require" && !is_variable()
    }
}

impl<'a> Visit<'a> for Finder<'_> {
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
            && self.is_require(name)
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

struct HelperFinder {
    needs_helpers: bool,
}

impl<'a> Visit<'a> for HelperFinder {
    fn visit_decorator(&mut self, _: &Decorator<'a>) {
        self.needs_helpers = true;
    }

    fn visit_variable_declaration(&mut self, declaration: &VariableDeclaration<'a>) {
        self.needs_helpers |=
            matches!(declaration.kind, VariableDeclarationKind::Using | VariableDeclarationKind::AwaitUsing);
        walk::walk_variable_declaration(self, declaration);
    }
}
