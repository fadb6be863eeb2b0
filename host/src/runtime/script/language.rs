//! The languages of scripts, and the files that are recognised as scripts.

use std::path::Path;

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Language {
    /// JavaScript and TypeScript.
    JavaScript,
    Python,
}

/// The extensions of the files of scripts.
const EXTENSIONS: [(&str, Language); 7] = [
    ("js", Language::JavaScript),
    ("mjs", Language::JavaScript),
    ("cjs", Language::JavaScript),
    ("ts", Language::JavaScript),
    ("mts", Language::JavaScript),
    ("cts", Language::JavaScript),
    ("py", Language::Python),
];

impl Language {
    /// Returns the language of a script by the extension of its file; `None` if the file is not a script.
    pub fn of(file: &Path) -> Option<Self> {
        let extension = file.extension()?.to_str()?;
        EXTENSIONS.iter().find(|(known, _)| *known == extension).map(|(_, language)| *language)
    }

    /// Returns the name of the folder of its engine.
    pub fn folder(self) -> &'static str {
        match self {
            Self::JavaScript => "javascript",
            Self::Python => "python",
        }
    }

    pub fn name(self) -> &'static str {
        match self {
            Self::JavaScript => "JavaScript",
            Self::Python => "Python",
        }
    }

    /// Pool slots of one instance of its engine. wasmtime does not know the resources of a component that imports core
    /// modules, so this is a property of the engine's files: JavaScript has one memory and at most three tables.
    pub fn slots(self) -> u32 {
        match self {
            Self::JavaScript => 1,
            Self::Python => 2,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_extension_decides_about_the_language() {
        for name in ["chat.js", "chat.mjs", "chat.cjs", "chat.ts", "chat.mts", "chat.cts", "src/chat.d.ts"] {
            assert_eq!(Language::of(Path::new(name)), Some(Language::JavaScript), "{name}");
        }
        assert_eq!(Language::of(Path::new("app.py")), Some(Language::Python));
        for name in ["chat.wasm", "chat", "js", ".js", "chat.tsx", "chat.json", "chat.JS"] {
            assert_eq!(Language::of(Path::new(name)), None, "{name}");
        }
    }
}
