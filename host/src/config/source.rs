//! The keys `source` and `language`: a component that `jackfield build` and `jackfield dev` compile.

use std::path::{Path, PathBuf};

use toml::de::DeValue;

use super::section::Section;
use super::suggestion::nearest;
use super::value::{self, InvalidValue};
use crate::runtime::Language;
use crate::toolchain::SourceLanguage;

/// What the component of an integration or an authorizer is compiled from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Source {
    pub language: SourceLanguage,
    /// A folder, or one file.
    pub path: PathBuf,
}

/// Reads both keys, and reports other keys that contradict them. `component` is the value of the key `component`.
pub fn source(section: &mut Section<'_>, component: Option<&Path>, folder: &Path) -> Option<Source> {
    let language = section.read("language", language);
    let path = section.read("source", value::path(folder));
    let error = |key: &str, problem: &str, advice: &str| {
        let problem = format!("{}: {problem}", section.name_of(key));
        section.problems.error(section.span_of(key), problem, advice);
    };
    if !section.contains("language") {
        if section.contains("source") {
            let guess = path.as_deref().and_then(Path::extension).and_then(|end| parse(end.to_str()?));
            let guess = guess.unwrap_or(SourceLanguage::Rust).key();
            error("source", "found without language", &format!("add language = {guess:?}, or remove it"));
        }
        return None;
    }
    for key in ["build", "watch"] {
        if section.contains(key) {
            let advice = "remove it, because jackfield builds and watches the source; \
                          or remove language and source, to build with a command of your own";
            error(key, "found with language", advice);
        }
    }
    if component.is_some_and(|file| Language::of(file).is_some()) {
        let advice = "remove it: a script needs no build; or name the file to write, such as component = \
                      \"build/handler.wasm\"";
        error("language", "found with a component that is a script", advice);
        return None;
    }
    let path = path.unwrap_or_else(|| folder.to_owned());
    Some(Source { language: language?, path })
}

fn parse(text: &str) -> Option<SourceLanguage> {
    let synonym = match text {
        "rs" => "rust",
        "golang" => "go",
        other => other,
    };
    SourceLanguage::ALL.into_iter().find(|language| language.key() == synonym)
}

fn language(value: &DeValue<'_>) -> Result<SourceLanguage, InvalidValue> {
    let text = value::string(value)?;
    let names = SourceLanguage::ALL.map(SourceLanguage::key);
    if let Some(language) = SourceLanguage::ALL.into_iter().find(|language| language.key() == text) {
        return Ok(language);
    }
    let lower = text.to_ascii_lowercase();
    let advice = match &*lower {
        "js" | "javascript" | "ts" | "typescript" | "py" | "python" => {
            "remove it: a script needs no build, so component names its file".to_owned()
        }
        "c++" | "cpp" | "cxx" => "build it with a command of your own, in build and watch".to_owned(),
        _ => match parse(&lower).map(SourceLanguage::key).or_else(|| nearest(&lower, names.into_iter())) {
            Some(name) => format!("did you mean {name:?}?"),
            None => "for another language write build and watch".to_owned(),
        },
    };
    let names = names.map(|name| format!("{name:?}")).join(", ");
    Err(InvalidValue::new(format!("one of {names}"), advice))
}
