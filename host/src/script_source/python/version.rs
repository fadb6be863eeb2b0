//! Versions of Python packages and what a requirement says about them, as the Python packaging standard (PEP 440) defines
//! them.

use std::cmp::Ordering;

/// A version without its local part, which only differs between builds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Version {
    epoch: u64,
    release: Vec<u64>,
    /// `a`, `b` or `c`, and its number.
    pre: Option<(char, u64)>,
    post: Option<u64>,
    dev: Option<u64>,
}

impl Version {
    /// `None` if the text is no version.
    pub fn parse(text: &str) -> Option<Self> {
        let text = text.trim().to_lowercase();
        let text = text.strip_prefix('v').unwrap_or(&text);
        let text = text.split('+').next()?;
        let (epoch, text) = text.split_once('!').unwrap_or(("0", text));
        let mut rest = text;
        let mut release = Vec::new();
        loop {
            release.push(take_number(&mut rest)?);
            let next = rest.strip_prefix('.').filter(|next| next.starts_with(|c: char| c.is_ascii_digit()));
            let Some(next) = next else { break };
            rest = next;
        }
        let mut version = Self { epoch: epoch.parse().ok()?, release, pre: None, post: None, dev: None };
        while !rest.is_empty() {
            rest = rest.trim_start_matches(['.', '-', '_']);
            let end = rest.find(|c: char| !c.is_ascii_alphabetic()).unwrap_or(rest.len());
            let (word, number) = rest.split_at(end);
            rest = number.trim_start_matches(['.', '-', '_']);
            let number = take_number(&mut rest);
            if word.is_empty() && number.is_none() {
                return None;
            }
            let number = number.unwrap_or(0);
            match word {
                "a" | "alpha" => version.pre = Some(('a', number)),
                "b" | "beta" => version.pre = Some(('b', number)),
                "c" | "rc" | "pre" | "preview" => version.pre = Some(('c', number)),
                // `1.0-1` is `1.0.post1`.
                "" | "post" | "rev" | "r" => version.post = Some(number),
                "dev" => version.dev = Some(number),
                _ => return None,
            }
        }
        Some(version)
    }

    /// Whether the version is one that `specifiers` allow, such as `>=1.2,<2`. What cannot be read allows it.
    pub fn satisfies(&self, specifiers: &str) -> bool {
        specifiers.split(',').map(str::trim).filter(|one| !one.is_empty()).all(|one| self.satisfies_one(one))
    }

    fn satisfies_one(&self, specifier: &str) -> bool {
        let operators = ["===", "==", "~=", "!=", "<=", ">=", "<", ">"];
        let Some(operator) = operators.into_iter().find(|operator| specifier.starts_with(operator)) else {
            return true;
        };
        let text = specifier[operator.len()..].trim();
        if let Some(prefix) = text.strip_suffix(".*") {
            let Some(prefix) = Self::parse(prefix) else { return true };
            return self.has_prefix(&prefix.release) == (operator != "!=");
        }
        let Some(other) = Self::parse(text) else { return true };
        match operator {
            "===" | "==" => self.cmp(&other) == Ordering::Equal,
            "!=" => self.cmp(&other) != Ordering::Equal,
            "<=" => self.cmp(&other) != Ordering::Greater,
            ">=" => self.cmp(&other) != Ordering::Less,
            "<" => self.cmp(&other) == Ordering::Less,
            ">" => self.cmp(&other) == Ordering::Greater,
            _ => {
                let series = &other.release[..other.release.len().saturating_sub(1)];
                self.cmp(&other) != Ordering::Less && self.has_prefix(series)
            }
        }
    }

    fn has_prefix(&self, prefix: &[u64]) -> bool {
        prefix.iter().enumerate().all(|(index, part)| self.release.get(index).unwrap_or(&0) == part)
    }
}

impl Ord for Version {
    fn cmp(&self, other: &Self) -> Ordering {
        let length = self.release.len().max(other.release.len());
        let release = |version: &Self| {
            (0..length).map(|index| version.release.get(index).copied().unwrap_or(0)).collect::<Vec<_>>()
        };
        // A release is after what precedes it, and before what follows it. One that only has `dev` is the first.
        let pre = |version: &Self| match (version.pre, version.post, version.dev) {
            (Some(pre), ..) => (1, pre),
            (None, None, Some(_)) => (0, ('a', 0)),
            (None, ..) => (2, ('a', 0)),
        };
        let dev = |version: &Self| version.dev.map_or((1, 0), |dev| (0, dev));
        let post = |version: &Self| version.post.map_or((0, 0), |post| (1, post));
        self.epoch
            .cmp(&other.epoch)
            .then_with(|| release(self).cmp(&release(other)))
            .then_with(|| pre(self).cmp(&pre(other)))
            .then_with(|| post(self).cmp(&post(other)))
            .then_with(|| dev(self).cmp(&dev(other)))
    }
}

impl PartialOrd for Version {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

/// Takes the digits at the beginning of a text. `None` if there are none.
fn take_number(text: &mut &str) -> Option<u64> {
    let end = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (digits, rest) = text.split_at(end);
    *text = rest;
    digits.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn version(text: &str) -> Version {
        Version::parse(text).unwrap_or_else(|| panic!("{text}"))
    }

    #[test]
    fn versions_have_the_order_of_the_standard() {
        let ordered = [
            "1.0.dev1",
            "1.0a1.dev2",
            "1.0a1",
            "1.0a2",
            "1.0b1",
            "1.0rc1",
            "1.0",
            "1.0.post1.dev3",
            "1.0.post1",
            "1.0.1",
            "1.1",
            "1.10",
            "2026.10.19.post1",
            "1!0.1",
        ];
        for pair in ordered.windows(2) {
            assert!(version(pair[0]) < version(pair[1]), "{pair:?}");
        }
        for (one, other) in [("1.0", "1"), ("1.0-1", "1.0.post1"), ("v1.0", "1.0+local"), ("1.0.RC.1", "1.0c1")] {
            assert_eq!(version(one).cmp(&version(other)), Ordering::Equal, "{one} {other}");
        }
        for text in ["", "x", "1.0final1", "1.0 2"] {
            assert_eq!(Version::parse(text), None, "{text}");
        }
    }

    #[test]
    fn a_requirement_allows_what_its_operators_say() {
        for (found, specifiers, is_allowed) in [
            ("2.32.3", "", true),
            ("2.32.3", "==2.32.3", true),
            ("2.32.3", "==2.32.4", false),
            ("2.32.3", "== 2.32.*", true),
            ("2.32.3", "!=2.32.*", false),
            ("2.32.3", ">=2.0, <3", true),
            ("3.0", ">=2.0,<3", false),
            ("1.9", ">=2.0,<3", false),
            ("1.4.5", "~=1.4.2", true),
            ("1.5", "~=1.4.2", false),
            ("1.5", "~=1.4", true),
            ("2.0", "~=1.4", false),
            ("1.0", ">1.0", false),
            ("1.0", "<=1.0", true),
            ("1.0", "===1.0", true),
            ("1.0", "@ something", true),
        ] {
            assert_eq!(version(found).satisfies(specifiers), is_allowed, "{found} {specifiers}");
        }
    }
}
