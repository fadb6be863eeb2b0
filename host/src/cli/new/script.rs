//! Projects in JavaScript, TypeScript and Python: a manifest and one file, which is served as it is.

use std::path::{Path, PathBuf};

use super::{check_name, create_project, next_steps};

/// A language whose handlers are scripts.
pub struct ScriptLanguage {
    /// The file of the handler.
    file: &'static str,
    /// The files of a project: path and template.
    files: &'static [(&'static str, &'static str)],
}

/// What to run in a project.
const COMMANDS: &str = "  jackfield dev                     # serves it; a change is live when it is saved\n";

const MANIFEST: (&str, &str) = ("jackfield.toml", include_str!("script/jackfield.toml.template"));
const README: (&str, &str) = ("README.md", include_str!("script/README.md.template"));
const GITIGNORE: (&str, &str) = (".gitignore", include_str!("script/gitignore.template"));

pub const JAVASCRIPT: ScriptLanguage = ScriptLanguage {
    file: "handler.js",
    files: &[("handler.js", include_str!("script/handler.js.template")), MANIFEST, README, GITIGNORE],
};

pub const TYPESCRIPT: ScriptLanguage = ScriptLanguage {
    file: "handler.ts",
    files: &[
        ("handler.ts", include_str!("script/handler.ts.template")),
        MANIFEST,
        README,
        GITIGNORE,
        // An editor reads these two. The host only takes the types off.
        ("tsconfig.json", include_str!("script/tsconfig.json.template")),
        ("types/jackfield.d.ts", include_str!("../../../../js-engine/js/types/index.d.ts")),
    ],
};

pub const PYTHON: ScriptLanguage = ScriptLanguage {
    file: "handler.py",
    files: &[("handler.py", include_str!("script/handler.py.template")), MANIFEST, README, GITIGNORE],
};

impl ScriptLanguage {
    /// Creates a project, and returns the text that explains how to continue.
    pub fn run(&self, name: &str, parent: &Path) -> anyhow::Result<String> {
        Ok(next_steps(&self.create(name, parent)?, COMMANDS, self.file))
    }

    /// Creates a project in a new folder `name` in `parent`, and returns that folder.
    ///
    /// # Errors
    /// If the name is not valid, if the folder exists, or if it cannot be written. No files are left behind then.
    fn create(&self, name: &str, parent: &Path) -> anyhow::Result<PathBuf> {
        check_name(name, "name", &[])?;
        let fill_in = |template: &str| template.replace("{{name}}", name).replace("{{file}}", self.file);
        create_project(&parent.join(name), self.files, fill_in)
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::config::Config;

    #[test]
    fn a_new_project_of_each_script_language_has_a_valid_manifest_and_no_placeholders() {
        let parent = tempfile::tempdir().unwrap();
        for (name, language) in [("my-js", &JAVASCRIPT), ("async", &TYPESCRIPT), ("a_py", &PYTHON)] {
            let folder = language.create(name, parent.path()).unwrap();
            let config = Config::load(&folder.join("jackfield.toml")).unwrap();
            assert_eq!(config.warnings, []);
            assert_eq!(config.components[name].component, folder.join(language.file));
            for (path, _) in language.files {
                let text = fs::read_to_string(folder.join(path)).unwrap();
                assert!(!text.contains("{{") && text.ends_with('\n'), "{path}: {text}");
            }
            let error = language.create(name, parent.path()).unwrap_err().to_string();
            assert!(error.ends_with("already exists; choose another name, or move it away"), "{error}");
        }
        let error = JAVASCRIPT.create("My Chat", parent.path()).unwrap_err().to_string();
        assert!(error.ends_with("; for example \"my-chat\""), "{error}");
    }
}
