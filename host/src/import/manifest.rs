//! The resulting manifest, written in the order of docs/manifest.md.
//!
//! Knows the keys of a manifest. Does not know which template the values come from.

use super::names;
use super::report::{Finding, one_line};
use super::toml::{self, Toml, TomlSection};

#[derive(Default)]
pub struct Manifest {
    /// `[api]`, without its stage.
    pub api: TomlSection,
    pub stages: Vec<ManifestStage>,
    pub integrations: Vec<TomlSection>,
    pub routes: Vec<ManifestRoute>,
    pub authorizers: Vec<TomlSection>,
    pub api_keys: Vec<TomlSection>,
    pub models: Vec<ManifestModel>,
    pub access_log: Option<TomlSection>,
}

pub struct ManifestStage {
    pub name: String,
    pub variables: Vec<(String, String)>,
    pub base_path: Option<String>,
    pub throttle: Option<ManifestThrottle>,
    /// Throttles of routes, with their route keys.
    pub route_throttles: Vec<(String, ManifestThrottle)>,
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ManifestThrottle {
    pub rate: f64,
    pub burst: Option<f64>,
}

pub struct ManifestRoute {
    pub key: String,
    pub integration: String,
    pub route_response: bool,
    /// Model keys, and the names of their models.
    pub models: Vec<(String, String)>,
    pub model_selection_expression: Option<String>,
    pub authorizer: Option<String>,
    pub api_key_required: bool,
}

pub struct ManifestModel {
    pub name: String,
    /// JSON, as it is written to the file; `None` if the template does not contain it.
    pub schema: Option<String>,
}

impl ManifestModel {
    /// Path of the schema file, relative to the folder of the manifest.
    pub fn path(&self) -> String {
        format!("schemas/{}.json", self.name)
    }
}

impl Manifest {
    /// Adds an integration, and returns its name, which is derived from `name` and unique. If an equal
    /// integration exists, adds none and returns the name of that one.
    pub fn add_integration(&mut self, name: &str, section: TomlSection) -> String {
        let is_equal = |other: &&TomlSection| other.entries == section.entries && other.notes == section.notes;
        if let Some(other) = self.integrations.iter().find(is_equal) {
            return other.name.clone();
        }
        let name =
            names::unique(&names::sanitize(name), |name| self.integrations.iter().any(|other| other.name == name));
        self.integrations.push(TomlSection { name: name.clone(), ..section });
        name
    }

    pub fn route(&self, key: &str) -> Option<&ManifestRoute> {
        self.routes.iter().find(|route| route.key == key)
    }

    /// Returns the text of the manifest. `source` describes the template; `schemas` is whether the schema files
    /// are written.
    pub fn write(&self, source: &str, findings: &[Finding], schemas: bool) -> String {
        let mut out = String::new();
        toml::write_comment(&format!("Made from {source} by `jackfield import`."), &mut out);
        if !findings.is_empty() {
            let note = "The parts of the template without a counterpart are listed at the end, with the reasons.";
            toml::write_comment(note, &mut out);
        }
        self.write_api(&mut out);
        let mut integrations = self.integrations.clone();
        let is_function = |section: &&mut TomlSection| section.entries.iter().any(|(key, _)| key == "endpoint");
        if let Some(first) = integrations.iter_mut().find(is_function) {
            let note = "Functions are invoked at `endpoint`. `sam local start-lambda --port 3002`, `serverless offline` \
                and LocalStack provide such an endpoint.";
            first.notes.push(note.to_owned());
        }
        integrations.iter().for_each(|section| section.write("integrations", &mut out));
        self.write_routes(&mut out);
        self.authorizers.iter().for_each(|section| section.write("authorizers", &mut out));
        self.api_keys.iter().for_each(|section| section.write("api_keys", &mut out));
        for (index, model) in self.models.iter().enumerate() {
            let mut section = TomlSection::new(&model.name).with("schema", Toml::text(model.path()));
            if index == 0 && !schemas {
                section.notes.push("The schema files are only written with `--output FILE`.".to_owned());
            }
            section.write("models", &mut out);
        }
        self.access_log.iter().for_each(|section| section.write("access_log", &mut out));
        if !findings.is_empty() {
            out.push('\n');
            toml::write_comment("Without a counterpart, by line of the template:", &mut out);
            out.push_str("#\n");
            findings
                .iter()
                .for_each(|finding| toml::write_finding(finding.line, &finding.subject, &finding.reason, &mut out));
        }
        out
    }

    fn write_api(&self, out: &mut String) {
        let mut api = self.api.clone();
        match &self.stages[..] {
            // A path or a throttle of a stage is only possible in a section [stages.NAME].
            [stage] if stage.base_path.is_none() && stage.throttle.is_none() => {
                api.set("stage", Toml::text(&stage.name));
                if !stage.variables.is_empty() {
                    api.set("stage_variables", Toml::Section(text_entries(&stage.variables)));
                }
                api.write("api", out);
            }
            stages => {
                api.write("api", out);
                stages.iter().for_each(|stage| self.stage(stage).write("stages", out));
            }
        }
    }

    fn stage(&self, stage: &ManifestStage) -> TomlSection {
        let mut section = TomlSection::new(&stage.name);
        if let Some(path) = &stage.base_path {
            section.set("base_path", Toml::text(path));
        }
        if let Some(rate) = stage.throttle {
            section.set("throttle", rate.to_toml());
        }
        if !stage.variables.is_empty() {
            section.set("variables", Toml::Section(text_entries(&stage.variables)));
        }
        let own = stage.route_throttles.iter().filter(|(key, rate)| self.common_throttle(key) != Some(*rate));
        let own: Vec<_> =
            own.filter_map(|(key, rate)| Some((key.clone(), self.route(key)?.to_toml(Some(*rate))))).collect();
        if !own.is_empty() {
            section.set("routes", Toml::Section(own));
        }
        section
    }

    /// Returns the throttle of a route, if it is the same in all stages.
    fn common_throttle(&self, key: &str) -> Option<ManifestThrottle> {
        let throttle_in =
            |stage: &ManifestStage| stage.route_throttles.iter().find(|(other, _)| other == key).map(|(_, rate)| *rate);
        let first = throttle_in(self.stages.first()?)?;
        self.stages.iter().all(|stage| throttle_in(stage) == Some(first)).then_some(first)
    }

    fn write_routes(&self, out: &mut String) {
        let position =
            |key: &str| ["$connect", "$disconnect", "$default"].iter().position(|known| *known == key).unwrap_or(3);
        let mut routes: Vec<_> = self.routes.iter().collect();
        routes.sort_by_key(|route| position(&route.key));
        let entries =
            routes.into_iter().map(|route| (route.key.clone(), route.to_toml(self.common_throttle(&route.key))));
        TomlSection { entries: entries.collect(), ..TomlSection::default() }.write("routes", out);
    }
}

impl ManifestRoute {
    fn to_toml(&self, throttle: Option<ManifestThrottle>) -> Toml {
        let mut table = vec![("integration".to_owned(), Toml::text(&self.integration))];
        let mut set = |key: &str, value: Toml| table.push((key.to_owned(), value));
        if self.route_response {
            set("route_response", Toml::Bool(true));
        }
        if let Some(authorizer) = &self.authorizer {
            set("authorizer", Toml::text(authorizer));
        }
        if self.api_key_required {
            set("api_key_required", Toml::Bool(true));
        }
        if let Some(rate) = throttle {
            set("throttle", rate.to_toml());
        }
        if let Some(expression) = &self.model_selection_expression {
            set("model_selection_expression", Toml::text(expression));
        }
        if !self.models.is_empty() {
            set("models", Toml::Table(text_entries(&self.models)));
        }
        if table.len() == 1 { Toml::text(&self.integration) } else { Toml::Table(table) }
    }
}

impl ManifestThrottle {
    /// Returns `None` if a manifest does not accept this rate or burst.
    pub fn new(rate: f64, burst: Option<f64>) -> Option<Self> {
        let is_valid = (0.001..=1_000_000.0).contains(&rate)
            && burst.is_none_or(|burst| (1.0..=1_000_000.0).contains(&burst) && burst.fract() == 0.0);
        is_valid.then_some(Self { rate, burst })
    }

    pub fn to_toml(self) -> Toml {
        let mut table = vec![("rate".to_owned(), Toml::Number(self.rate))];
        table.extend(self.burst.map(|burst| ("burst".to_owned(), Toml::Number(burst))));
        Toml::Table(table)
    }
}

/// Returns an integration with a component that does not exist yet. `jackfield check` fails until it is written.
pub fn missing_component(name: &str, reason: &str) -> TomlSection {
    let name = names::sanitize(name);
    let mut section = TomlSection::default();
    section.notes.push(format!("Write this component: {}.", one_line(reason)));
    section.with("component", Toml::text(format!("{name}.wasm")))
}

fn text_entries(texts: &[(String, String)]) -> Vec<(String, Toml)> {
    texts.iter().map(|(key, text)| (key.clone(), Toml::text(text))).collect()
}
