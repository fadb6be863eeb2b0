//! Who is admitted: the part of the manifest that is read on its own, whatever is wrong with the rest.
//!
//! Reads `[access_keys]`, `[api_keys]`, `[management]`, the source of API keys in `[api]` and the origins in
//! `[connection]`. A key whose section is invalid is not admitted.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use toml::de::DeTable;

use super::management::{self, AccessKey, Management};
use super::problem::Problems;
use super::section::Section;
use super::{ApiKey, Config, ConfigError, api_key, connection, syntax_errors};
use crate::address::OriginPattern;
use crate::gateway::{ApiKeySource, Signatures};

#[derive(Clone, Debug, Default, PartialEq)]
pub struct AccessConfig {
    pub management: Management,
    pub api_key_source: ApiKeySource,
    /// API keys by their names.
    pub api_keys: BTreeMap<String, ApiKey>,
    /// The origins of web pages that may connect; `None`: all.
    pub origins: Option<BTreeSet<OriginPattern>>,
}

/// A part of the access settings that can be restricted on its own.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum AccessPart {
    /// The access key with this id.
    AccessKey(String),
    /// The API key with this name.
    ApiKey(String),
    /// What is no key.
    Management,
}

impl From<&Config> for AccessConfig {
    fn from(config: &Config) -> Self {
        Self {
            management: config.management.clone(),
            api_key_source: config.api.api_key_source,
            api_keys: config.api_keys.clone(),
            origins: config.origins.clone(),
        }
    }
}

impl AccessConfig {
    /// Parses `text` as the manifest at `path`. Settings that are invalid, and are not a key, stay those of `before`.
    ///
    /// # Errors
    /// If the text is not TOML.
    pub fn parse(text: &str, path: &Path, before: &Self) -> Result<Self, Vec<ConfigError>> {
        let problems = Problems::new(path, text);
        let (table, errors) = DeTable::parse_recoverable(text);
        if !errors.is_empty() {
            return Err(syntax_errors(text, problems, &errors));
        }
        let mut root = Section::root(&problems, table.get_ref());

        let errors_before = problems.error_count();
        let source = root.section("api").read("api_key_selection_expression", api_key::source);
        let is_source_valid = problems.error_count() == errors_before;

        let errors_before = problems.error_count();
        let origins = connection::origins(&mut root.section("connection"));
        let are_origins_valid = problems.error_count() == errors_before;

        let access_keys = root.section("access_keys");
        let errors_before = problems.error_count();
        let (signatures, throttle) = management::settings(root.section("management"));
        let are_settings_valid = problems.error_count() == errors_before;
        let mut management = management::management_of(signatures, throttle, &access_keys);
        // A section that is not a table exists all the same.
        management.has_access_keys |= root.contains("access_keys");
        if !are_settings_valid {
            (management.signatures, management.throttle) = (before.management.signatures, before.management.throttle);
        }

        Ok(Self {
            management,
            api_key_source: if is_source_valid { source.unwrap_or_default() } else { before.api_key_source },
            api_keys: api_key::api_keys(&root.section("api_keys")),
            origins: if are_origins_valid { origins } else { before.origins.clone() },
        })
    }

    /// Returns what both settings admit. It never admits more than `self`, so it can be applied although `next` may be
    /// only a part of a manifest that is being written.
    pub fn restricted_by(&self, next: &Self) -> Self {
        let (now, then) = (&self.management, &next.management);
        let access_key = |(id, key): (&String, &AccessKey)| {
            let then = then.access_keys.get(id).filter(|then| then.secret == key.secret)?;
            let may_manage = key.may_manage && then.may_manage;
            let may_invoke = key.may_invoke && then.may_invoke;
            Some((id.clone(), AccessKey { may_manage, may_invoke, ..key.clone() }))
        };
        let api_key = |(name, key): (&String, &ApiKey)| {
            let then = next.api_keys.values().find(|then| then.hash == key.hash)?;
            let stages = intersection(key.stages.as_ref(), then.stages.as_ref());
            let throttle = key.throttle.or(then.throttle);
            let quota = key.quota.or(then.quota);
            Some((name.clone(), ApiKey { hash: key.hash, throttle, quota, stages }))
        };
        Self {
            management: Management {
                signatures: stricter(now.signatures, then.signatures),
                throttle: now.throttle.or(then.throttle),
                has_access_keys: now.has_access_keys || then.has_access_keys,
                access_keys: now.access_keys.iter().filter_map(access_key).collect(),
            },
            api_key_source: self.api_key_source,
            api_keys: self.api_keys.iter().filter_map(api_key).collect(),
            origins: intersection(self.origins.as_ref(), next.origins.as_ref()),
        }
    }
}

impl AccessConfig {
    /// Returns the parts of these settings that `restricted` does not have, or has with other settings.
    pub fn different_parts(&self, restricted: &Self) -> BTreeSet<AccessPart> {
        let access_keys = different_keys(&self.management.access_keys, &restricted.management.access_keys);
        let api_keys = different_keys(&self.api_keys, &restricted.api_keys);
        let parts = access_keys.map(AccessPart::AccessKey).chain(api_keys.map(AccessPart::ApiKey));
        let mut parts: BTreeSet<AccessPart> = parts.collect();
        let settings = |access: &Self| {
            let Management { signatures, throttle, has_access_keys, access_keys: _ } = access.management;
            (signatures, throttle, has_access_keys, access.api_key_source, access.origins.clone())
        };
        if settings(self) != settings(restricted) {
            parts.insert(AccessPart::Management);
        }
        parts
    }

    /// Returns these settings with some parts as they are in `restricted`.
    pub fn with_parts<'a>(&self, restricted: &Self, parts: impl Iterator<Item = &'a AccessPart>) -> Self {
        let mut settings = self.clone();
        let (management, source) = (&mut settings.management, &restricted.management);
        for part in parts {
            match part {
                AccessPart::AccessKey(id) => replace(&mut management.access_keys, &source.access_keys, id),
                AccessPart::ApiKey(name) => replace(&mut settings.api_keys, &restricted.api_keys, name),
                AccessPart::Management => {
                    let access_keys = std::mem::take(&mut management.access_keys);
                    *management = Management { access_keys, ..source.clone() };
                    settings.api_key_source = restricted.api_key_source;
                    settings.origins.clone_from(&restricted.origins);
                }
            }
        }
        settings
    }
}

/// Returns the names of the keys that `others` does not have, or has with other settings.
fn different_keys<K: PartialEq>(
    keys: &BTreeMap<String, K>,
    others: &BTreeMap<String, K>,
) -> impl Iterator<Item = String> {
    keys.iter().filter(|(name, key)| others.get(*name) != Some(key)).map(|(name, _)| name.clone())
}

/// Sets the key to what it is in `source`, or removes it.
fn replace<K: Clone>(keys: &mut BTreeMap<String, K>, source: &BTreeMap<String, K>, name: &str) {
    match source.get(name) {
        Some(key) => keys.insert(name.to_owned(), key.clone()),
        None => keys.remove(name),
    };
}

/// Returns what is in both; `None`: everything.
fn intersection<T: Clone + Ord>(one: Option<&BTreeSet<T>>, other: Option<&BTreeSet<T>>) -> Option<BTreeSet<T>> {
    match (one, other) {
        (Some(one), Some(other)) => Some(one & other),
        (items, None) | (None, items) => items.cloned(),
    }
}

fn stricter(one: Signatures, other: Signatures) -> Signatures {
    let is_either = |signatures| one == signatures || other == signatures;
    [Signatures::Required, Signatures::Auto].into_iter().find(|strict| is_either(*strict)).unwrap_or(Signatures::Off)
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: &str = "[access_keys.AKID]\nsecret = \"0123456789012345678901234567890123456789\"\n";
    const API_KEY: &str = "[api_keys.team]\nhash = \"sha256:\
        e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855\"\n";

    fn parse_after(text: &str, before: &AccessConfig) -> Result<AccessConfig, String> {
        AccessConfig::parse(text, Path::new("jackfield.toml"), before).map_err(|errors| errors[0].to_string())
    }

    fn parse(text: &str) -> AccessConfig {
        parse_after(text, &AccessConfig::default()).unwrap()
    }

    /// The ids of the access keys and the names of the API keys.
    fn names(access: &AccessConfig) -> Vec<&str> {
        access.management.access_keys.keys().chain(access.api_keys.keys()).map(String::as_str).collect()
    }

    #[test]
    fn a_valid_manifest_has_the_access_settings_of_its_config() {
        let text = format!(
            "[api]\napi_key_selection_expression = \"$context.authorizer.usageIdentifierKey\"\n\
             [management]\nsignatures = \"required\"\nthrottle = {{ rate = 1, burst = 2 }}\n\
             {KEY}user = \"alice\"\n{API_KEY}stages = [\"dev\"]\n"
        );
        let config = Config::parse(&text, Path::new("jackfield.toml")).unwrap();
        assert_eq!(parse(&text), AccessConfig::from(&config));
        assert_eq!(names(&parse(&text)), ["AKID", "team"]);
        let empty = Config::parse("", Path::new("jackfield.toml")).unwrap();
        assert_eq!(parse(""), AccessConfig::from(&empty));
    }

    #[test]
    fn keys_are_read_whatever_is_wrong_elsewhere_as_long_as_it_is_toml() {
        for wrong in [
            "unknown = 1\n",
            "api = 5\n",
            "[routes]\n\"$connect\" = \"missing\"\n",
            "[integrations.a]\ntype = \"lambda\"\naccess_key = \"NONE\"\n",
            "[access_keys.OTHER]\nsecret_env = \"JACKFIELD_TEST_IS_NOT_SET\"\n",
            "[api_keys.other]\nhash = 5\n",
        ] {
            assert_eq!(names(&parse(&format!("{wrong}{KEY}{API_KEY}"))), ["AKID", "team"], "{wrong}");
        }
        let error = parse_after(&format!("{KEY}{API_KEY}[routes"), &AccessConfig::default()).unwrap_err();
        assert!(error.starts_with("jackfield.toml:5: "), "{error}");
    }

    #[test]
    fn a_key_whose_section_has_an_error_is_not_admitted() {
        for wrong in ["action = []\n", "actions = [\"execute-api:*\"]\n", "actions = 5\n", "user = \"a/b\"\n"] {
            assert_eq!(names(&parse(&format!("{KEY}{wrong}{API_KEY}"))), ["team"], "{wrong}");
        }
        for wrong in ["stage = []\n", "stages = \"dev\"\n", "throttle = 5\n", "quota = { limit = 1 }\n"] {
            assert_eq!(names(&parse(&format!("{KEY}{API_KEY}{wrong}"))), ["AKID"], "{wrong}");
        }
        let repeated = format!("{API_KEY}stages = [\"dev\"]\n{}", API_KEY.replace("team", "zzz"));
        assert!(names(&parse(&repeated)).is_empty(), "two sections say different things about one key");
        assert_eq!(names(&parse(&format!("access_keys = 5\n{API_KEY}"))), ["team"]);
    }

    #[test]
    fn invalid_settings_stay_those_of_before_and_never_allow_unsigned_calls() {
        let before = parse(&format!(
            "[api]\napi_key_selection_expression = \"$context.authorizer.usageIdentifierKey\"\n\
             [management]\nsignatures = \"required\"\nthrottle = {{ rate = 1, burst = 2 }}\n{KEY}"
        ));
        for wrong in ["management = 5\n", "[management]\nsignatures = \"of\"\n", "[management]\nthrottle = 5\n"] {
            let after = parse_after(wrong, &before).unwrap().management;
            assert_eq!(
                (after.signatures, after.throttle),
                (Signatures::Required, before.management.throttle),
                "{wrong}"
            );
        }
        for wrong in ["api = 5\n", "[api]\napi_key_selection_expression = 5\n"] {
            assert_eq!(parse_after(wrong, &before).unwrap().api_key_source, ApiKeySource::Authorizer, "{wrong}");
        }
        assert_eq!(parse_after("", &before).unwrap(), AccessConfig::default());
        for text in ["access_keys = 5\n", "[access_keys]\n", "[access_keys.A]\n"] {
            assert!(parse(text).management.has_access_keys, "{text}");
        }
        assert!(!parse("").management.has_access_keys);
    }

    #[test]
    fn a_restriction_admits_only_what_both_admit() {
        let other = KEY.replace("AKID", "OTHER");
        let both = format!("{KEY}actions = [\"execute-api:Invoke\"]\n{other}{API_KEY}stages = [\"dev\"]\n");
        let now = parse(&both);
        assert_eq!(now.restricted_by(&now), now);
        assert_eq!(names(&now.restricted_by(&parse(""))), Vec::<&str>::new());
        assert!(now.restricted_by(&parse("")).management.has_access_keys);
        // A manifest that is cut before `actions` and `stages` admits more, and its restriction does not.
        let cut = parse(&format!("{KEY}{API_KEY}"));
        let restricted = now.restricted_by(&cut);
        assert_eq!(names(&restricted), ["AKID", "team"]);
        assert!(!restricted.management.access_keys["AKID"].may_manage);
        assert_eq!(restricted.api_keys["team"].stages, Some(BTreeSet::from(["dev".to_owned()])));
        let other_stage = parse(&both.replace("\"dev\"", "\"prod\""));
        assert_eq!(now.restricted_by(&other_stage).api_keys["team"].stages, Some(BTreeSet::new()));
        let other_secret = parse(&both.replace("0123", "4567"));
        assert_eq!(names(&now.restricted_by(&other_secret)), ["team"]);
        assert_eq!(names(&parse(API_KEY).restricted_by(&now)), ["team"], "no key is added");
        let parts = now.different_parts(&restricted);
        let access_keys = ["AKID", "OTHER"].map(|id| AccessPart::AccessKey(id.into()));
        assert_eq!(parts, BTreeSet::from(access_keys), "one has another right without `actions`, one is missing");
        let removed = now.restricted_by(&parse(&format!("{other}{API_KEY}stages = []\n")));
        let parts = now.different_parts(&removed);
        assert_eq!(parts, BTreeSet::from([AccessPart::AccessKey("AKID".into()), AccessPart::ApiKey("team".into())]));
        assert_eq!(now.with_parts(&removed, parts.iter()), removed);
        assert_eq!(names(&now.with_parts(&removed, parts.iter().take(1))), ["OTHER", "team"]);
        assert_eq!(now.with_parts(&removed, [].iter()), now);
        let signed = parse(&both.replace(KEY, &format!("[management]\nsignatures = \"required\"\n{KEY}")));
        let restricted = now.restricted_by(&signed);
        assert_eq!(now.different_parts(&restricted), BTreeSet::from([AccessPart::Management]));
        assert_eq!(now.with_parts(&restricted, [AccessPart::Management].iter()), restricted);

        let signatures = |one: &str, other: &str| {
            let parse = |signatures| parse(&format!("[management]\nsignatures = {signatures:?}"));
            parse(one).restricted_by(&parse(other)).management.signatures
        };
        assert_eq!(signatures("required", "off"), Signatures::Required);
        assert_eq!(signatures("off", "auto"), Signatures::Auto);
        assert_eq!(signatures("off", "off"), Signatures::Off);
    }
}
