//! A text of a template, once its functions are resolved: what is known of it, and what is not.

use super::names;

/// Longer than any value that API Gateway takes.
const TEXT_BYTES_MAX: usize = 64 * 1024;
const PARTS_MAX: usize = 1000;

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Text(Vec<Part>);

#[derive(Clone, Debug, PartialEq, Eq)]
enum Part {
    Known(String),
    Unknown(Unknown),
}

/// What cannot be known from a template.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unknown {
    /// What it may be called: a parameter, the last part of an export.
    pub name: String,
    pub reason: String,
}

impl Text {
    pub fn known(text: impl Into<String>) -> Self {
        let mut whole = Self::default();
        whole.push(&text.into());
        whole
    }

    pub fn unknown(name: impl Into<String>, reason: impl Into<String>) -> Self {
        Self(vec![Part::Unknown(Unknown { name: name.into(), reason: reason.into() })])
    }

    pub fn push(&mut self, text: &str) {
        if text.is_empty() || self.is_full(text.len()) {
            return;
        }
        match self.0.last_mut() {
            Some(Part::Known(last)) => last.push_str(text),
            _ => self.0.push(Part::Known(text.to_owned())),
        }
    }

    pub fn append(&mut self, other: &Self) {
        for part in &other.0 {
            match part {
                Part::Known(text) => self.push(text),
                Part::Unknown(_) if self.is_full(0) => {}
                Part::Unknown(unknown) => self.0.push(Part::Unknown(unknown.clone())),
            }
        }
    }

    /// Whether it grows no more; it is then unknown, as functions can make very much of very little.
    fn is_full(&mut self, more: usize) -> bool {
        let length: usize = self.0.iter().map(|part| if let Part::Known(text) = part { text.len() } else { 0 }).sum();
        let full = length + more > TEXT_BYTES_MAX || self.0.len() > PARTS_MAX;
        if full {
            *self = Self::unknown("text", format!("it is longer than {TEXT_BYTES_MAX} bytes"));
        }
        full
    }

    /// The whole text.
    ///
    /// # Errors
    /// The first that is not known of it.
    pub fn whole(&self) -> Result<String, Unknown> {
        let mut whole = String::new();
        for part in &self.0 {
            match part {
                Part::Known(text) => whole.push_str(text),
                Part::Unknown(unknown) => return Err(unknown.clone()),
            }
        }
        Ok(whole)
    }

    pub fn first_unknown(&self) -> Option<&Unknown> {
        self.0.iter().find_map(|part| match part {
            Part::Unknown(unknown) => Some(unknown),
            Part::Known(_) => None,
        })
    }

    /// The text with a stage variable for each that is not known, and what these are.
    pub fn with_stage_variables(&self) -> (String, Vec<(String, Unknown)>) {
        let (mut text, mut variables) = (String::new(), Vec::new());
        for part in &self.0 {
            match part {
                Part::Known(known) => text.push_str(known),
                Part::Unknown(unknown) => {
                    let name = names::variable(&unknown.name);
                    text.push_str(&format!("${{stageVariables.{name}}}"));
                    if !variables.iter().any(|(other, _)| *other == name) {
                        variables.push((name, unknown.clone()));
                    }
                }
            }
        }
        (text, variables)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_known_becomes_a_stage_variable() {
        let mut text = Text::known("https://");
        text.append(&Text::unknown("Other-Stack:Host", "an export"));
        text.push("/chat");
        assert_eq!(text.whole().unwrap_err().reason, "an export");
        let (written, variables) = text.with_stage_variables();
        assert_eq!(written, "https://${stageVariables.Other_Stack_Host}/chat");
        assert_eq!(variables[0].0, "Other_Stack_Host");
        assert_eq!(Text::known("a").whole().unwrap(), "a");
    }

    #[test]
    fn a_text_that_grows_without_end_is_not_known() {
        let mut text = Text::known("x".repeat(TEXT_BYTES_MAX));
        assert!(text.whole().is_ok());
        text.push("y");
        assert_eq!(text.whole().unwrap_err().reason, "it is longer than 65536 bytes");
        for _ in 0..100 {
            let twice = text.clone();
            text.append(&twice);
        }
        assert!(text.0.len() <= PARTS_MAX + 1);
    }
}
