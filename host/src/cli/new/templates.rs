//! The projects that `new` can create: one entry for each language.

use crate::toolchain::sdk::Sdk;

/// A project in one language. In the paths and texts of its files, `{{name}}` stands for its name, `{{crate}}` for the
/// same with `_` in place of `-`, `{{file}}` for the file of the handler, and `{{sdk}}` for the path of the SDK.
pub struct Template {
    /// The language on the command line.
    pub key: &'static str,
    /// Other names of the language that the command line accepts.
    pub aliases: &'static [&'static str],
    /// One line of the help.
    pub help: &'static str,
    /// The path of each file, and its content.
    pub files: &'static [(&'static str, &'static str)],
    /// The file of the handler, which `new` names at the end.
    pub handler: &'static str,
    /// The SDK that is copied into the folder `sdk` of the project.
    pub sdk: Option<Sdk>,
    /// What to run in the project, as `new` prints it.
    pub commands: &'static str,
    /// What the name also names, for errors.
    pub name_kind: &'static str,
    /// Names that the language does not accept; with `_` in place of `-`.
    pub reserved_names: &'static [&'static str],
}

pub const TEMPLATES: &[Template] = &[
    Template {
        key: "js",
        aliases: &["javascript"],
        help: "A handler in JavaScript, which needs no build, with a test",
        files: &[
            ("handler.js", include_str!("script/handler.js.template")),
            ("handler.test.js", include_str!("script/handler.test.js.template")),
            SCRIPT_MANIFEST,
            JAVASCRIPT_PACKAGE,
            JAVASCRIPT_README,
            SCRIPT_GITIGNORE,
        ],
        handler: "handler.js",
        sdk: Some(Sdk::JavaScript),
        commands: JAVASCRIPT_COMMANDS,
        name_kind: "name",
        reserved_names: JAVASCRIPT_NAMES,
    },
    Template {
        key: "ts",
        aliases: &["typescript"],
        help: "A handler in TypeScript, which needs no build, with a test",
        files: &[
            ("handler.ts", include_str!("script/handler.ts.template")),
            ("handler.test.js", include_str!("script/handler.ts.test.js.template")),
            SCRIPT_MANIFEST,
            JAVASCRIPT_PACKAGE,
            JAVASCRIPT_README,
            SCRIPT_GITIGNORE,
            // An editor reads it. The host only takes the types off.
            ("tsconfig.json", include_str!("script/tsconfig.json.template")),
        ],
        handler: "handler.ts",
        sdk: Some(Sdk::JavaScript),
        commands: JAVASCRIPT_COMMANDS,
        name_kind: "name",
        reserved_names: JAVASCRIPT_NAMES,
    },
    Template {
        key: "python",
        aliases: &["py"],
        help: "A handler in Python, which needs no build, with a test",
        files: &[
            ("handler.py", include_str!("python/handler.py.template")),
            ("tests/__init__.py", include_str!("python/tests_init.py.template")),
            ("tests/test_handler.py", include_str!("python/test_handler.py.template")),
            SCRIPT_MANIFEST,
            ("README.md", include_str!("python/README.md.template")),
            (".gitignore", include_str!("python/gitignore.template")),
            // Editors and tools read it.
            ("pyproject.toml", include_str!("python/pyproject.toml.template")),
        ],
        handler: "handler.py",
        sdk: Some(Sdk::Python),
        commands: "  jackfield dev                     # serves it; a change is live when it is saved\n  \
                   python3 -m unittest               # runs its test, without a server\n",
        name_kind: "name",
        reserved_names: &[],
    },
    Template {
        key: "go",
        aliases: &["golang"],
        help: "A handler in Go, with a test",
        files: &[
            ("go.mod", include_str!("go/go.mod.template")),
            ("main.go", include_str!("go/main.go.template")),
            ("main_test.go", include_str!("go/main_test.go.template")),
            ("jackfield.toml", include_str!("go/jackfield.toml.template")),
            ("README.md", include_str!("go/README.md.template")),
            (".gitignore", include_str!("go/gitignore.template")),
        ],
        handler: "main.go",
        sdk: Some(Sdk::Go),
        commands: "  jackfield dev                     # builds and serves it, again after every change\n  \
                   go test .                         # runs its test, without a server\n",
        name_kind: "name",
        reserved_names: &[],
    },
    Template {
        key: "c",
        aliases: &[],
        help: "A handler in C, with a test",
        files: &[
            ("handler.c", include_str!("c/handler.c.template")),
            ("test/test.c", include_str!("c/test.c.template")),
            ("Makefile", include_str!("c/Makefile.template")),
            ("compile_flags.txt", include_str!("c/compile_flags.txt.template")),
            ("jackfield.toml", include_str!("c/jackfield.toml.template")),
            ("README.md", include_str!("c/README.md.template")),
            (".gitignore", include_str!("c/gitignore.template")),
        ],
        handler: "handler.c",
        sdk: Some(Sdk::C),
        commands: "  jackfield dev                     # builds and serves it, again after every change\n  \
                   make test                         # runs its test, without a server\n",
        name_kind: "name",
        reserved_names: &[],
    },
    Template {
        key: "zig",
        aliases: &[],
        help: "A handler in Zig, with a test",
        files: &[
            ("handler.zig", include_str!("zig/handler.zig.template")),
            ("test.zig", include_str!("zig/test.zig.template")),
            ("build.zig", include_str!("zig/build.zig.template")),
            ("build.zig.zon", include_str!("zig/build.zig.zon.template")),
            ("jackfield.toml", include_str!("zig/jackfield.toml.template")),
            ("README.md", include_str!("zig/README.md.template")),
            (".gitignore", include_str!("zig/gitignore.template")),
        ],
        handler: "handler.zig",
        sdk: Some(Sdk::C),
        commands: "  jackfield dev                     # builds and serves it, again after every change\n  \
                   zig build test                    # runs its test; or python3 -m ziglang build test\n",
        name_kind: "name",
        reserved_names: &[],
    },
    Template {
        key: "rust",
        aliases: &["rs"],
        help: "A handler in Rust, with a test",
        files: &[
            ("Cargo.toml", include_str!("rust/Cargo.toml.template")),
            (".cargo/config.toml", include_str!("rust/cargo-config.toml.template")),
            ("src/lib.rs", include_str!("rust/lib.rs.template")),
            ("tests/handler.rs", include_str!("rust/handler.rs.template")),
            ("jackfield.toml", include_str!("rust/jackfield.toml.template")),
            ("README.md", include_str!("rust/README.md.template")),
            (".gitignore", include_str!("rust/gitignore.template")),
        ],
        handler: "src/lib.rs",
        sdk: Some(Sdk::Rust),
        commands: "  rustup target add wasm32-wasip2   # once\n  \
                   jackfield dev                     # builds and serves it, again after every change\n  \
                   cargo test                        # runs its test, without a server\n",
        name_kind: "crate name",
        reserved_names: RUST_NAMES,
    },
];

const JAVASCRIPT_COMMANDS: &str = "  jackfield dev                     # serves it; a change is live when it is saved\n  \
                                   node --test                       # runs its test, without a server\n";
const JAVASCRIPT_PACKAGE: (&str, &str) = ("package.json", include_str!("script/package.json.template"));
const JAVASCRIPT_README: (&str, &str) = ("README.md", include_str!("script/README.js.md.template"));
/// The name of the SDK's package: a project of that name could not import it.
const JAVASCRIPT_NAMES: &[&str] = &["jackfield"];
const SCRIPT_MANIFEST: (&str, &str) = ("jackfield.toml", include_str!("script/jackfield.toml.template"));
const SCRIPT_GITIGNORE: (&str, &str) = (".gitignore", include_str!("script/gitignore.template"));

/// Rust's keywords, crates that are always in scope, and the SDK; with `_` in place of `-`.
pub const RUST_NAMES: &[&str] = &[
    "abstract",
    "alloc",
    "as",
    "async",
    "await",
    "become",
    "box",
    "break",
    "const",
    "continue",
    "core",
    "crate",
    "do",
    "dyn",
    "else",
    "enum",
    "extern",
    "false",
    "final",
    "fn",
    "for",
    "gen",
    "if",
    "impl",
    "in",
    "jackfield_sdk",
    "let",
    "loop",
    "macro",
    "match",
    "mod",
    "move",
    "mut",
    "override",
    "priv",
    "proc_macro",
    "pub",
    "ref",
    "return",
    "self",
    "static",
    "std",
    "struct",
    "super",
    "test",
    "trait",
    "true",
    "try",
    "type",
    "typeof",
    "unsafe",
    "unsized",
    "use",
    "virtual",
    "where",
    "while",
    "yield",
];
