use super::*;

fn parsed(extension: Extension, package_type: Option<PackageType>, source: &str) -> ParsedScript {
    parse(&ScriptFile { name: "chat.ts".to_owned(), extension, package_type, source: source.to_owned() })
}

#[track_caller]
fn valid(extension: Extension, source: &str) -> ValidScript {
    match parsed(extension, None, source) {
        ParsedScript::Valid(script) => script,
        ParsedScript::Invalid(problems) => panic!("{source}: {problems:?}"),
    }
}

#[track_caller]
fn problems(extension: Extension, source: &str) -> Vec<Problem> {
    match parsed(extension, None, source) {
        ParsedScript::Invalid(problems) => problems,
        ParsedScript::Valid(script) => panic!("{source}: {script:?}"),
    }
}

fn specifiers(script: &ValidScript) -> Vec<&str> {
    script.imports.iter().map(|import| import.specifier.as_str()).collect()
}

#[test]
fn extension_syntax_and_package_decide_whether_a_file_is_a_module() {
    use Extension::{Cjs, Cts, Js, Mjs, Mts, Ts};
    let (module, commonjs) = (Some(PackageType::Module), Some(PackageType::Commonjs));
    let (esm, cjs, neither) = ("export const a = 1;", "exports.a = 1;", "console.log(1);");
    for (extension, package_type, source, expected) in [
        (Js, None, esm, true),
        (Js, None, cjs, false),
        (Js, None, neither, false),
        (Js, module, neither, true),
        (Js, commonjs, esm, true),
        (Js, commonjs, cjs, false),
        (Js, None, "await Promise.resolve(); console.log(1);", true),
        (Js, None, "const await = 1; with (exports) { a = await; }", false),
        (Js, None, "if (exports) return; exports.a = 1;", false),
        (Js, None, "console.log(import.meta);", true),
        (Mjs, commonjs, neither, true),
        (Cjs, module, cjs, false),
        (Ts, None, esm, true),
        (Ts, commonjs, "import type { A } from './a'; exports.a = 1 as A;", true),
        (Ts, None, "exports.a = 1 as number;", false),
        (Ts, None, "export = { a: 1 };", false),
        (Mts, None, neither, true),
        (Cts, module, "import a = require('node:util'); export = a.inspect;", false),
        (Cts, None, esm, true),
    ] {
        match parsed(extension, package_type, source) {
            ParsedScript::Valid(script) => assert_eq!(script.is_module, expected, "{extension:?}: {source}"),
            ParsedScript::Invalid(problems) => panic!("{extension:?}: {source}: {problems:?}"),
        }
    }
}

#[test]
fn types_are_removed_and_positions_are_mapped() {
    let source = "import type { A } from './types';\nenum E { One = 1 }\nexport const f = (a: A): E => E.One as E;\n";
    let script = valid(Extension::Ts, source);
    assert_eq!(specifiers(&script), [""; 0], "an import of types only is removed");
    let (code, map) = script.changed.unwrap();
    for words in [": A", "as E", "import", "enum"] {
        assert!(!code.contains(words), "{words}: {code}");
    }
    assert!(code.contains("export const f = (a) => "), "{code}");
    assert!(map.contains(r#""sources":["chat.ts"]"#) && map.contains(r#""mappings":""#), "{map}");
    assert!(!map.contains("enum"), "the source is not a part of the map: {map}");
    assert_eq!(valid(Extension::Js, "export const a = 1;\n").changed, None);
}

#[test]
fn every_kind_of_import_is_found_with_its_position() {
    let source = "import a from 'a';\nexport * from 'b';\nexport { c } from 'c';\nconst d = await import('d');\n  \
                  const e = () => require(`e`);\nimport 'f';\n";
    let script = valid(Extension::Mjs, source);
    assert_eq!(specifiers(&script), ["a", "b", "c", "d", "e", "f"]);
    let position = |line, column| Position { line, column };
    let positions: Vec<_> = script.imports.iter().map(|import| import.position).collect();
    let expected = [(1, 15), (2, 15), (3, 19), (4, 17), (5, 19), (6, 8)];
    assert_eq!(positions, expected.map(|(line, column)| position(line, column)));
    let typed =
        valid(Extension::Ts, "import { A, b } from 'a';\nimport { C } from 'c';\nexport const d = (c: C) => b(c);");
    assert_eq!(specifiers(&typed), ["a"], "an import whose names are only types is removed");
}

#[test]
fn only_a_require_of_the_module_itself_with_a_variable_is_reported() {
    let variable = |source| valid(Extension::Cjs, source).variable_requires;
    let lines = |source| variable(source).into_iter().map(|position| position.line).collect::<Vec<_>>();
    assert_eq!(lines("const a = 'x';\nrequire(a);\nrequire('x' + a);\nrequire();"), [2, 3, 4]);
    assert_eq!(lines("require('a'); const f = (require, a) => require(a); module.require(f);"), [0; 0]);
    assert_eq!(lines("require.resolve(x); typeof require;"), [0; 0]);
}

#[test]
fn a_syntax_error_has_its_position() {
    for (source, line, column) in [
        ("const a = 1;\nconst b = ;\n", 2, 11),
        ("let ä = 1; let ä = 2;", 1, 5),
        ("const a = {", 1, 12),
        ("function f() { await g(); }", 1, 16),
        ("/(/", 1, 2),
    ] {
        let found = problems(Extension::Mjs, source);
        let position = found[0].position.unwrap();
        assert_eq!((position.line, position.column), (line, column), "{source}: {found:?}");
        assert!(!found[0].message.is_empty());
    }
    let many = "let a;\n".repeat(100);
    assert_eq!(problems(Extension::Js, &many).len(), PROBLEMS_MAX);
    assert!(!problems(Extension::Js, "const a: number = 1;").is_empty(), "types are no JavaScript");
    assert!(!problems(Extension::Cjs, "export const a = 1;").is_empty());
}

#[test]
fn syntax_that_needs_helper_functions_needs_the_bundler() {
    assert!(valid(Extension::Js, "{ using a = open(); }").needs_bundler);
    assert!(valid(Extension::Ts, "@d class A {}\nexport { A };").needs_bundler);
    assert!(!valid(Extension::Ts, "class A<T> { b?: T; }\nexport { A };").needs_bundler);
}
