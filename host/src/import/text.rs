//! A text of a template after its functions are resolved: a sequence of known and unknown parts.

use super::names;

/// Longest text that is resolved; API Gateway accepts no value of this length.
const TEXT_BYTES_MAX: usize = 64 * 1024;
/// Maximum number of parts of one text.
const PARTS_MAX: usize = 1000;

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Text(Vec<TextPart>);

#[derive(Clone, Debug, PartialEq, Eq)]
enum TextPart {
    Known(String),
    Unknown(Unknown),
}

/// A part of a text whose value the template does not contain.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unknown {
    /// A name for the part, such as that of a parameter or an export; it becomes a stage variable.
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
        Self(vec![TextPart::Unknown(Unknown { name: name.into(), reason: reason.into() })])
    }

    pub fn push(&mut self, text: &str) {
        if text.is_empty() || self.is_full(text.len()) {
            return;
        }
        match self.0.last_mut() {
            Some(TextPart::Known(last)) => last.push_str(text),
            _ => self.0.push(TextPart::Known(text.to_owned())),
        }
    }

    pub fn append(&mut self, other: &Self) {
        for part in &other.0 {
            match part {
                TextPart::Known(text) => self.push(text),
                TextPart::Unknown(_) if self.is_full(0) => {}
                TextPart::Unknown(unknown) => self.0.push(TextPart::Unknown(unknown.clone())),
            }
        }
    }

    /// Returns whether `more` bytes would exceed the limits. The text is then replaced by an unknown part,
    /// because nested functions can make a very long text from a short template.
    fn is_full(&mut self, more: usize) -> bool {
        let length: usize =
            self.0.iter().map(|part| if let TextPart::Known(text) = part { text.len() } else { 0 }).sum();
        let is_full = length + more > TEXT_BYTES_MAX || self.0.len() > PARTS_MAX;
        if is_full {
            *self = Self::unknown("text", format!("the text is longer than {TEXT_BYTES_MAX} bytes"));
        }
        is_full
    }

    /// Returns the complete text.
    ///
    /// # Errors
    /// The first unknown part, if there is one.
    pub fn whole(&self) -> Result<String, Unknown> {
        let mut whole = String::new();
        for part in &self.0 {
            match part {
                TextPart::Known(text) => whole.push_str(text),
                TextPart::Unknown(unknown) => return Err(unknown.clone()),
            }
        }
        Ok(whole)
    }

    pub fn first_unknown(&self) -> Option<&Unknown> {
        self.0.iter().find_map(|part| match part {
            TextPart::Unknown(unknown) => Some(unknown),
            TextPart::Known(_) => None,
        })
    }

    /// Returns the text with a stage variable in place of each unknown part, and these variables.
    pub fn with_stage_variables(&self) -> (String, Vec<(String, Unknown)>) {
        let (mut text, mut variables) = (String::new(), Vec::new());
        for part in &self.0 {
            match part {
                TextPart::Known(known) => text.push_str(known),
                TextPart::Unknown(unknown) => {
                    let name = names::sanitize_variable(&unknown.name);
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
    fn an_unknown_part_becomes_a_stage_variable() {
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
    fn a_text_beyond_the_limit_becomes_unknown() {
        let mut text = Text::known("x".repeat(TEXT_BYTES_MAX));
        assert!(text.whole().is_ok());
        text.push("y");
        assert_eq!(text.whole().unwrap_err().reason, "the text is longer than 65536 bytes");
        for _ in 0..100 {
            let twice = text.clone();
            text.append(&twice);
        }
        assert!(text.0.len() <= PARTS_MAX + 1);
    }
}
