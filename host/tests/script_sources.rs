//! From the files of a script to one text: types, formats, errors, packages and watch lists. What comes out is run by
//! Node.js where its behaviour matters.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use jackfield::limits::CompilerLimits;
use jackfield::script_source::{Format, PrepareOptions, Prepared, SourceError, prepare};
use jackfield::worker::{Worker, WorkerOptions};
use tempfile::TempDir;

use crate::harness::{binary, bundler};
use crate::sdks::installed_path;

/// A folder with the files of a script.
struct Tree {
    folder: TempDir,
}

impl Tree {
    fn new(files: &[(&str, &str)]) -> Self {
        let tree = Self { folder: TempDir::new().unwrap() };
        for (path, content) in files {
            tree.write(path, content);
        }
        tree
    }

    /// A tree in which the packages of the tests are installed.
    fn with_packages(files: &[(&str, &str)]) -> Self {
        let tree = Self::new(files);
        std::os::unix::fs::symlink(installed_path("JACKFIELD_TEST_PACKAGES"), tree.path("node_modules")).unwrap();
        tree
    }

    fn path(&self, path: &str) -> PathBuf {
        // Real paths are reported, and the folder for temporary files may be a link.
        self.folder.path().canonicalize().unwrap().join(path)
    }

    fn write(&self, path: &str, content: &str) {
        let path = self.path(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, content).unwrap();
    }

    async fn prepare(&self, entry: &str) -> Result<Prepared, SourceError> {
        prepare_with(&self.path(entry), Some(&bundler())).await
    }

    #[track_caller]
    fn assert_modules(&self, script: &Prepared, expected: &[&str]) {
        let modules: Vec<_> = script
            .modules
            .iter()
            .filter(|path| !path.components().any(|c| c.as_os_str() == "node_modules"))
            .cloned()
            .collect();
        let expected: Vec<_> = expected.iter().map(|path| self.path(path)).collect();
        assert_eq!(modules, expected);
    }
}

async fn prepare_with(entry: &Path, bundler: Option<&Path>) -> Result<Prepared, SourceError> {
    prepare_within(CompilerLimits::default(), entry, bundler).await
}

async fn prepare_within(limits: CompilerLimits, entry: &Path, bundler: Option<&Path>) -> Result<Prepared, SourceError> {
    let worker = Worker::new(WorkerOptions { executable: Some(binary().into()), limits });
    prepare(entry, PrepareOptions { plugin: "chat", worker: &worker, bundler }).await
}

/// Runs a script with Node.js, and returns what it logs.
#[track_caller]
fn run(script: &Prepared) -> String {
    let folder = TempDir::new().unwrap();
    let extension = if script.format == Format::Module { "mjs" } else { "cjs" };
    let path = folder.path().join(format!("script.{extension}"));
    fs::write(&path, &script.code).unwrap();
    let output = Command::new("node").arg(&path).output().expect("node is installed");
    let text = |bytes| String::from_utf8(bytes).unwrap();
    let (stdout, stderr) = (text(output.stdout), text(output.stderr));
    assert!(output.status.success(), "{stdout}{stderr}\n{}", script.code);
    stdout.trim_end().to_owned()
}

// ---- one file ----------------------------------------------------------------------------------

#[tokio::test]
async fn a_single_file_needs_no_bundler_and_keeps_its_text() {
    let source = "import { randomUUID } from \"node:crypto\";\nexport const handler = () => randomUUID();\n";
    let tree = Tree::new(&[("chat.mjs", source)]);
    let missing = tree.path("no-bundler");
    let script = prepare_with(&tree.path("chat.mjs"), Some(&missing)).await.unwrap();
    assert_eq!((script.name.as_str(), script.format), ("chat.mjs", Format::Module));
    assert_eq!((script.code.as_str(), &script.source_map), (source, &None));
    tree.assert_modules(&script, &["chat.mjs"]);
    assert_eq!(script.absent, [tree.path("package.json")], "its `type` would decide how the file is read");
}

#[tokio::test]
async fn the_types_of_a_single_file_are_removed_without_a_bundler() {
    let source = "import { plugin, type Event } from \"jackfield\";\nimport type { Local } from \"./types\";\n\
                  enum Kind { One = 1 }\nexport default plugin({ message: (event: Event): Local => Kind.One as Local });\n";
    let tree = Tree::new(&[("chat.ts", source), ("package.json", "{\"type\": \"commonjs\"}")]);
    let script = prepare_with(&tree.path("chat.ts"), Some(&tree.path("no-bundler"))).await.unwrap();
    assert_eq!(script.format, Format::Module);
    assert!(script.code.contains("import { plugin } from \"jackfield\""), "{}", script.code);
    assert!(!script.code.contains("Event") && !script.code.contains("./types"), "{}", script.code);
    let map = String::from_utf8(script.source_map.clone().unwrap()).unwrap();
    assert!(map.contains("\"sources\":[\"chat.ts\"]"), "{map}");
    tree.assert_modules(&script, &["chat.ts", "package.json"]);
}

#[tokio::test]
async fn a_syntax_error_has_file_line_text_and_caret() {
    let tree = Tree::new(&[
        ("chat.ts", "const a = 1;\n\tconst b: number = ;\n"),
        ("lib.ts", "export const = 1;\n"),
        ("main.js", "import './lib';\n"),
    ]);
    let error = tree.prepare("chat.ts").await.unwrap_err();
    assert_eq!(error.text, "chat.ts:2:20: Unexpected token\n  2 |  const b: number = ;\n    |                    ^");
    assert_eq!(error.modules, [tree.path("chat.ts")]);
    assert!(!error.is_transient);
    let error = tree.prepare("main.js").await.unwrap_err();
    assert!(
        error.text.starts_with("lib.ts:1:14: ") && error.text.ends_with("1 | export const = 1;\n    |              ^"),
        "{}",
        error.text
    );
    assert!(error.modules.contains(&tree.path("lib.ts")), "{:?}", error.modules);
}

#[tokio::test]
async fn a_file_that_cannot_be_a_script_is_refused() {
    let tree = Tree::new(&[("chat.rb", ""), ("a/package.json", "{"), ("a/chat.js", ""), ("folder.js/chat.js", "")]);
    for (entry, words) in [
        ("chat.rb", "expected a file that ends with .js"),
        ("missing.js", "cannot read the file: No such file"),
        ("folder.js", "it is not a regular file"),
        ("a/chat.js", "a/package.json: EOF while parsing"),
    ] {
        let error = tree.prepare(entry).await.unwrap_err();
        assert!(error.text.contains(words), "{entry}: {}", error.text);
        assert!(error.modules.contains(&tree.path(entry)));
    }
}

#[tokio::test]
async fn a_script_is_accepted_up_to_its_largest_size() {
    use jackfield::limits::SCRIPT_BYTES_MAX;
    let tree = Tree::new(&[]);
    let length = usize::try_from(SCRIPT_BYTES_MAX).unwrap();
    let source = |length: usize| format!("exports.a = 1; //{}", " ".repeat(length - 17));
    tree.write("chat.cjs", &source(length));
    assert_eq!(tree.prepare("chat.cjs").await.unwrap().code.len(), length);
    tree.write("chat.cjs", &source(length + 1));
    let error = tree.prepare("chat.cjs").await.unwrap_err();
    assert!(error.text.contains("it is too large"), "{}", error.text);
}

#[tokio::test]
async fn the_processes_that_parse_and_bundle_have_limits() {
    let deep = format!("export const a = {}1{};\n", "(".repeat(1_000_000), ")".repeat(1_000_000));
    let large = format!("export const a = [{}];\n", "[],".repeat(4_000_000));
    let tree = Tree::new(&[
        ("deep.mjs", &deep),
        ("large.mjs", &large),
        ("imports_deep.mjs", "import \"./deep.mjs\";\n"),
        ("imports_large.mjs", "import \"./large.mjs\";\n"),
    ]);
    let limits = CompilerLimits { memory_bytes: 128 * 1024 * 1024, ..CompilerLimits::default() };
    for (entry, words) in [
        ("deep.mjs", "crashed"),
        ("imports_deep.mjs", "crashed"),
        ("large.mjs", "takes more than 134217728 bytes of memory"),
        ("imports_large.mjs", "takes more than 134217728 bytes of memory"),
    ] {
        let error = prepare_within(limits.clone(), &tree.path(entry), Some(&bundler())).await.unwrap_err();
        assert!(error.text.contains(words), "{entry}: {}", error.text);
    }
}

#[tokio::test]
async fn built_in_modules_that_do_not_exist_are_refused_with_what_to_use_instead() {
    let source = "import { readFile } from \"node:fs/promises\";\nimport net from \"net\";\nreadFile(net);\n";
    let tree = Tree::new(&[("chat.mjs", source), ("lib.mjs", source), ("main.mjs", "import \"./lib.mjs\";\n")]);
    for (entry, file) in [("chat.mjs", "chat.mjs"), ("main.mjs", "lib.mjs")] {
        let text = tree.prepare(entry).await.unwrap_err().text;
        for words in [
            format!(
                "{file}:1:26: the built-in module \"node:fs/promises\" does not exist here: there is no file system"
            ),
            format!("{file}:2:17: the built-in module \"net\" does not exist here: there are no raw sockets"),
            "  2 | import net from \"net\";\n    |                 ^".to_owned(),
        ] {
            assert!(text.contains(&words), "{entry}: {text}");
        }
    }
    // An import that is used only as a type does not exist when the script runs.
    tree.write(
        "types.ts",
        "import { Socket } from \"net\";\nimport \"./empty\";\nexport const f = (s: Socket) => s;\n",
    );
    tree.write("empty.ts", "export {};\n");
    tree.prepare("types.ts").await.unwrap();
}

#[tokio::test]
async fn a_require_of_a_variable_is_refused_with_its_line() {
    let lib = "const name = \"./\" + \"a\";\nexports.a = require(name);\n";
    let tree = Tree::new(&[("chat.cjs", lib), ("lib.cjs", lib), ("main.cjs", "require(\"./lib.cjs\");\n")]);
    for (entry, file) in [("chat.cjs", "chat.cjs"), ("main.cjs", "lib.cjs")] {
        let text = tree.prepare(entry).await.unwrap_err().text;
        assert!(text.starts_with(&format!("{file}:2:13: require needs a string here")), "{text}");
        assert!(text.ends_with("  2 | exports.a = require(name);\n    |             ^"), "{text}");
    }
}

#[tokio::test]
async fn a_missing_bundler_is_named_with_the_command_that_builds_it() {
    let tree = Tree::new(&[("chat.mjs", "import \"./lib.mjs\";\n"), ("lib.mjs", "")]);
    let error = prepare_with(&tree.path("chat.mjs"), None).await.unwrap_err();
    let expected = "chat.mjs needs the bundler, because it imports \"./lib.mjs\", but jackfield-bundler is neither \
                    beside jackfield nor on PATH: `cargo xtask engines` builds it";
    assert_eq!(error.text, expected);
    let error = prepare_with(&tree.path("chat.mjs"), Some(&tree.path("no-bundler"))).await.unwrap_err();
    assert!(error.text.contains("cannot run the process that parses its files"), "{}", error.text);
}

// ---- several files -----------------------------------------------------------------------------

#[tokio::test]
async fn files_of_both_formats_json_and_texts_become_one_script() {
    let tree = Tree::new(&[
        (
            "chat.ts",
            "import { twice } from \"./lib/twice\";\nimport old from \"./old.cjs\";\nimport data from \"./data.json\" with { type: \"json\" };\n\
                     import text from \"./greeting.txt\";\nconst { late } = await import(\"./late.js\");\n\
                     console.log(twice(data.number as number), old.name, text.trim(), late);\nexport const handler = () => {};\n",
        ),
        ("lib/twice.ts", "export const twice = (n: number): number => 2 * n;\n"),
        ("old.cjs", "const { sep } = require(\"path\");\nmodule.exports = { name: \"old\" + sep };\n"),
        ("data.json", "{\"number\": 21}"),
        ("greeting.txt", "hello\n"),
        ("late.js", "export const late = \"late\";\n"),
        ("package.json", "{\"type\": \"module\"}"),
    ]);
    let script = tree.prepare("chat.ts").await.unwrap();
    assert_eq!((script.format, run(&script).as_str()), (Format::Module, "42 old/ hello late"));
    assert_eq!(script.warnings, [""; 0]);
    assert!(!script.code.contains("import("), "dynamic imports are a part of the script: {}", script.code);
    tree.assert_modules(
        &script,
        &["chat.ts", "data.json", "greeting.txt", "late.js", "lib/twice.ts", "old.cjs", "package.json"],
    );
}

#[tokio::test]
async fn a_commonjs_entry_stays_commonjs() {
    let tree = Tree::new(&[
        (
            "chat.js",
            "const { createHash } = require(\"node:crypto\");\nconst { twice } = require(\"./twice.mjs\");\n\
                     console.log(twice(21), typeof createHash);\nexports.handler = async () => ({ statusCode: 200 });\n\
                     console.log(Object.keys(module.exports));\n",
        ),
        ("twice.mjs", "export const twice = (n) => 2 * n;\n"),
    ]);
    let script = tree.prepare("chat.js").await.unwrap();
    assert_eq!(script.format, Format::Commonjs);
    assert!(run(&script).starts_with("42 function"));
    // The exports of the entry are those of the script.
    let mut asked = script.clone();
    asked.code.push_str("\nconsole.log(\"exports:\", Object.keys(module.exports));\n");
    assert!(run(&asked).contains("exports: [ 'handler' ]"), "{}", run(&asked));
}

#[tokio::test]
async fn tsconfig_paths_and_extends_apply_and_are_watched() {
    let tree = Tree::new(&[
        (
            "tsconfig.base.json",
            "{ \"compilerOptions\": { \"paths\": { \"@lib/*\": [\"./src/lib/*\"] } } } // a comment",
        ),
        ("tsconfig.json", "{ \"extends\": \"./tsconfig.base.json\" }"),
        ("src/chat.ts", "import { a } from \"@lib/a\";\nconsole.log(a);\n"),
        ("src/lib/a.ts", "export const a: string = \"aliased\";\n"),
    ]);
    let script = tree.prepare("src/chat.ts").await.unwrap();
    assert_eq!(run(&script), "aliased");
    tree.assert_modules(&script, &["src/chat.ts", "src/lib/a.ts", "tsconfig.base.json", "tsconfig.json"]);
}

#[tokio::test]
async fn a_package_of_a_workspace_is_resolved_by_its_real_path() {
    let tree = Tree::new(&[
        ("apps/chat/chat.ts", "import { a } from \"@me/shared\";\nconsole.log(a);\n"),
        ("apps/chat/package.json", "{}"),
        ("packages/shared/package.json", "{ \"name\": \"@me/shared\", \"exports\": \"./index.ts\" }"),
        ("packages/shared/index.ts", "export const a: string = \"shared\";\n"),
        ("node_modules/.keep", ""),
    ]);
    fs::create_dir(tree.path("node_modules/@me")).unwrap();
    std::os::unix::fs::symlink(tree.path("packages/shared"), tree.path("node_modules/@me/shared")).unwrap();
    let script = tree.prepare("apps/chat/chat.ts").await.unwrap();
    assert_eq!(run(&script), "shared");
    assert!(script.modules.contains(&tree.path("packages/shared/index.ts")), "{:?}", script.modules);
    // A missing built-in module in it is refused, as in the author's other files.
    tree.write("packages/shared/index.ts", "import \"net\";\n");
    let text = tree.prepare("apps/chat/chat.ts").await.unwrap_err().text;
    assert!(text.starts_with("../../packages/shared/index.ts:1:8: the built-in module \"net\""), "{text}");
}

#[tokio::test]
async fn conditions_of_exports_are_worker_browser_and_the_kind_of_the_import() {
    let exports =
        |conditions: &str| format!("{{ \"exports\": {{ \".\": {{ {conditions}, \"default\": \"./default.js\" }} }} }}");
    let tree = Tree::new(&[
        (
            "chat.mjs",
            "import a from \"a\";\nimport b from \"b\";\nimport c from \"c\";\nimport { c as d } from \"./c.cjs\";\nconsole.log(a, b, c, d);\n",
        ),
        ("c.cjs", "exports.c = require(\"c\");\n"),
        (
            "node_modules/a/package.json",
            &exports("\"node\": \"./node.js\", \"worker\": \"./worker.js\", \"browser\": \"./browser.js\""),
        ),
        (
            "node_modules/b/package.json",
            &exports("\"node\": \"./node.js\", \"browser\": \"./browser.js\", \"import\": \"./import.mjs\""),
        ),
        ("node_modules/c/package.json", &exports("\"import\": \"./import.mjs\", \"require\": \"./require.js\"")),
    ]);
    for package in ["a", "b", "c"] {
        for file in ["node", "worker", "browser", "require", "default"] {
            tree.write(&format!("node_modules/{package}/{file}.js"), &format!("module.exports = \"{file}\";\n"));
        }
        tree.write(&format!("node_modules/{package}/import.mjs"), "export default \"import\";\n");
    }
    assert_eq!(run(&tree.prepare("chat.mjs").await.unwrap()), "worker browser import require");
}

#[tokio::test]
async fn in_a_package_a_missing_module_throws_by_name_at_its_first_use() {
    let tree = Tree::new(&[
        (
            "chat.mjs",
            "import { safe, unsafe, named, optional } from \"sockets\";\nconsole.log(safe(), optional);\n\
                      for (const f of [unsafe, named]) try { f(); } catch (error) { console.log(error.message); }\n",
        ),
        ("node_modules/sockets/package.json", "{ \"exports\": \"./index.mjs\" }"),
        (
            "node_modules/sockets/index.mjs",
            "import inner from \"./inner.cjs\";\nimport { connect } from \"node:tls\";\nimport \"not-installed\";\n\
                                            export const { safe, unsafe, optional } = inner;\nexport const named = () => connect(1);\n",
        ),
        (
            "node_modules/sockets/inner.cjs",
            "const { Socket } = require(\"net\");\nlet optional = \"none\";\ntry { optional = require(\"also-not-installed\"); } catch {}\n\
                                            module.exports = { optional, safe: () => \"safe\", unsafe: () => new Socket() };\n",
        ),
    ]);
    let script = tree.prepare("chat.mjs").await.unwrap();
    let lines: Vec<String> = run(&script).lines().map(str::to_owned).collect();
    assert_eq!(lines[0], "safe none");
    assert!(
        lines[1].starts_with("net.Socket was used, but does not exist here: there are no raw sockets"),
        "{lines:?}"
    );
    assert!(lines[2].starts_with("node:tls.connect was used, but does not exist here"), "{lines:?}");
    let net = script.warnings.iter().find(|warning| warning.starts_with("\"net\"")).unwrap();
    assert!(net.contains("throws at its first use") && net.ends_with("imported by sockets"), "{net}");
}

#[tokio::test]
async fn an_import_that_is_not_found_names_its_line_and_what_to_do() {
    let tree = Tree::new(&[
        ("package.json", "{}"),
        ("src/chat.ts", "import \"./lib\";\nimport { v4 } from \"uuid\";\nconsole.log(v4);\n"),
    ]);
    let error = tree.prepare("src/chat.ts").await.unwrap_err();
    assert!(error.text.contains("chat.ts:1:8: cannot find \"./lib\"\n  1 | import \"./lib\";"), "{}", error.text);
    for path in ["src/lib", "src/lib.ts", "src/lib.js"] {
        assert!(error.absent.contains(&tree.path(path)), "{path}: {:?}", error.absent);
    }
    tree.write("src/lib.ts", "");
    let error = tree.prepare("src/chat.ts").await.unwrap_err();
    let words = "chat.ts:2:20: cannot find the package \"uuid\": install it with `npm install uuid`";
    assert!(error.text.contains(words), "{}", error.text);
    assert!(error.absent.contains(&tree.path("node_modules")), "{:?}", error.absent);
    let above = error.absent.iter().find(|path| !path.starts_with(tree.path("")));
    assert_eq!(above, None, "nothing outside of the project is watched");
}

#[tokio::test]
async fn json_that_cannot_be_read_is_reported_in_its_own_file() {
    let entry =
        "import data from \"./data.json\";\nimport one from \"one\";\nexport const handler = () => [data, one];\n";
    let package = ("node_modules/one/package.json", "{ \"name\": \"one\", \"main\": \"index.js\" }");
    let good = [("chat.ts", entry), ("data.json", "{}"), package, ("node_modules/one/index.js", "module.exports = 1;")];
    for (file, text, expected) in [
        (
            "data.json",
            "{\n  \"a\": 1,,\n}",
            "data.json:2:10: key must be a string\n  2 |   \"a\": 1,,\n    |          ^",
        ),
        ("tsconfig.json", "{\n  \"files\": nope\n}", "tsconfig.json:2:13: expected ident\n  2 |   \"files\": nope\n"),
        ("tsconfig.json", "{ \"extends\": \"./base.json\" }", "base.json: Tsconfig not found"),
        (package.0, "{ \"name\": ", "node_modules/one/package.json:1:10: EOF while parsing a value"),
    ] {
        let files = good.into_iter().filter(|(name, _)| *name != file).chain([(file, text)]);
        let error = Tree::new(&files.collect::<Vec<_>>()).prepare("chat.ts").await.unwrap_err().to_string();
        assert!(error.starts_with(expected), "{error}");
    }
}

#[tokio::test]
async fn positions_of_a_bundle_lead_to_the_files() {
    let tree = Tree::new(&[
        ("src/chat.ts", "import { fail } from \"../lib/fail\";\n\nexport const handler = (): void => fail();\n"),
        (
            "lib/fail.ts",
            "type A = string;\n\nexport function fail(): never {\n  throw new Error(\"failed\" as A);\n}\n",
        ),
        ("package.json", "{}"),
    ]);
    let script = tree.prepare("src/chat.ts").await.unwrap();
    let map: serde_json::Value = serde_json::from_slice(script.source_map.as_ref().unwrap()).unwrap();
    assert_eq!(map["sources"], serde_json::json!(["../lib/fail.ts", "chat.ts"]));
    assert!(map["mappings"].as_str().is_some_and(|mappings| mappings.len() > 20));
    let contents = map["sourcesContent"].as_array();
    assert!(contents.is_none_or(|contents| contents.iter().all(serde_json::Value::is_null)), "{map}");
}

// ---- packages ----------------------------------------------------------------------------------

#[tokio::test]
async fn popular_packages_are_bundled_and_work() {
    for (name, source, expected) in [
        ("uuid", "import { v4, validate } from \"uuid\";\nconsole.log(validate(v4()));", "true"),
        ("nanoid", "import { nanoid } from \"nanoid\";\nconsole.log(nanoid().length);", "21"),
        ("zod", "import { z } from \"zod\";\nconsole.log(z.object({ a: z.number() }).parse({ a: 1 }).a);", "1"),
        (
            "dayjs",
            "import dayjs from \"dayjs\";\nimport utc from \"dayjs/plugin/utc.js\";\ndayjs.extend(utc);\nconsole.log(dayjs.utc(0).format(\"YYYY-MM-DD\"));",
            "1970-01-01",
        ),
        (
            "jose",
            "import { SignJWT, jwtVerify } from \"jose\";\nconst key = new Uint8Array(32);\nconst token = await new SignJWT({ a: 1 }).setProtectedHeader({ alg: \"HS256\" }).sign(key);\nconsole.log((await jwtVerify(token, key)).payload.a);",
            "1",
        ),
        (
            "jsonwebtoken",
            "import jwt from \"jsonwebtoken\";\nconsole.log(jwt.verify(jwt.sign({ a: 1 }, \"secret\"), \"secret\").a);",
            "1",
        ),
        (
            "axios",
            "import axios from \"axios\";\nconsole.log(typeof axios.get, axios.isAxiosError({}));",
            "function false",
        ),
    ] {
        let tree = Tree::with_packages(&[("chat.mjs", source)]);
        let script = tree.prepare("chat.mjs").await.unwrap_or_else(|error| panic!("{name}: {}", error.text));
        assert_eq!(run(&script), expected, "{name}");
        assert_eq!(script.warnings, [""; 0], "{name}");
    }
}

#[tokio::test]
async fn the_client_of_dynamodb_is_bundled_in_both_formats() {
    // The engine runs it, because the bundle imports what only the engine has: region and keys from the manifest's `env`.
    let body = "const client = DynamoDBDocumentClient.from(new DynamoDBClient({ endpoint: \"http://127.0.0.1:1\" }));\n\
                const made = `${typeof client.send} ${new PutCommand({}).constructor.name}`;\n\
                if (made !== \"function PutCommand\") throw new Error(made);\n";
    let module = format!(
        "import {{ DynamoDBClient }} from \"@aws-sdk/client-dynamodb\";\nimport {{ DynamoDBDocumentClient, PutCommand }} from \"@aws-sdk/lib-dynamodb\";\n{body}\
         export const handler = async () => ({{ statusCode: 200, body: await client.config.region() }});\n"
    );
    let commonjs = format!(
        "const {{ DynamoDBClient }} = require(\"@aws-sdk/client-dynamodb\");\nconst {{ DynamoDBDocumentClient, PutCommand }} = require(\"@aws-sdk/lib-dynamodb\");\n{body}\
         exports.handler = async () => ({{ statusCode: 200, body: await client.config.region() }});\n"
    );
    let tree = Tree::with_packages(&[("chat.mjs", &module), ("chat.cjs", &commonjs)]);
    for entry in ["chat.mjs", "chat.cjs"] {
        let script = tree.prepare(entry).await.unwrap_or_else(|error| panic!("{entry}: {}", error.text));
        assert_eq!(script.warnings, [""; 0], "{entry}: no module of Node.js is missing");
        assert!(script.code.len() < 2_000_000, "{entry}: {} bytes", script.code.len());
        tree.write(
            "jackfield.toml",
            &format!(
                "[integrations.chat]\ncomponent = \"{entry}\"\nenv = {{ AWS_REGION = \"eu-west-1\" }}\n\n\
                 [routes]\n\"$default\" = {{ integration = \"chat\", route_response = true }}\n"
            ),
        );
        let invoke = ["invoke", "$default", "--body", "a"];
        let output = Command::new(binary()).args(invoke).current_dir(tree.path("")).output().unwrap();
        let (stdout, stderr) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        assert!(output.status.success() && stdout.contains("eu-west-1"), "{entry}: {stdout}\n{stderr}");
    }
}

#[tokio::test]
async fn a_package_that_needs_sockets_is_reported_by_name() {
    let tree = Tree::new(&[
        ("chat.mjs", "import pg from \"pg\";\nconsole.log(typeof pg);\n"),
        ("node_modules/pg/package.json", "{ \"main\": \"index.js\" }"),
        (
            "node_modules/pg/index.js",
            "const net = require(\"net\");\nmodule.exports = class Client { connect() { return net.connect(5432); } };\n",
        ),
    ]);
    let script = tree.prepare("chat.mjs").await.unwrap();
    assert!(
        script
            .warnings
            .iter()
            .any(|warning| warning.starts_with("the package \"pg\" cannot work here: it needs raw sockets")),
        "{:?}",
        script.warnings
    );
}
