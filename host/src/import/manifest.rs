//! The manifest that comes out: what was found, in the order of docs/manifest.md.
//!
//! Knows the keys of a manifest. Does not know where what stands in them comes from.

use super::names;
use super::report::{Finding, one_line};
use super::toml::{self, Section, Toml};

#[derive(Default)]
pub struct Manifest {
    /// `[api]`, but for its stage.
    pub api: Section,
    pub stages: Vec<Stage>,
    pub integrations: Vec<Section>,
    pub routes: Vec<Route>,
    pub authorizers: Vec<Section>,
    pub api_keys: Vec<Section>,
    pub models: Vec<Model>,
    pub access_log: Option<Section>,
}

pub struct Stage {
    pub name: String,
    pub variables: Vec<(String, String)>,
    pub base_path: Option<String>,
    pub throttle: Option<Rate>,
    /// By route keys.
    pub route_throttles: Vec<(String, Rate)>,
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Rate {
    pub rate: f64,
    pub burst: Option<f64>,
}

pub struct Route {
    pub key: String,
    pub integration: String,
    pub route_response: bool,
    /// Names of models by their keys.
    pub models: Vec<(String, String)>,
    pub model_selection_expression: Option<String>,
    pub authorizer: Option<String>,
    pub api_key_required: bool,
}

pub struct Model {
    pub name: String,
    /// JSON, as it goes into the file.
    pub schema: Option<String>,
}

impl Model {
    /// From the folder of the manifest.
    pub fn path(&self) -> String {
        format!("schemas/{}.json", self.name)
    }
}

impl Manifest {
    /// Adds an integration under `name` or one like it, and returns that. One that does the same is
    /// shared.
    pub fn integration(&mut self, name: &str, section: Section) -> String {
        let same = |other: &&Section| other.entries == section.entries && other.notes == section.notes;
        if let Some(other) = self.integrations.iter().find(same) {
            return other.name.clone();
        }
        let name = names::free(&names::name(name), |name| self.integrations.iter().any(|other| other.name == name));
        self.integrations.push(Section { name: name.clone(), ..section });
        name
    }

    pub fn route(&self, key: &str) -> Option<&Route> {
        self.routes.iter().find(|route| route.key == key)
    }

    /// The text. `source` says what it was made from; `schemas` whether their files are written.
    pub fn write(&self, source: &str, findings: &[Finding], schemas: bool) -> String {
        let mut out = String::new();
        toml::comment(&format!("Made from {source} by `jackfield import`."), &mut out);
        if !findings.is_empty() {
            toml::comment("What of it has no counterpart here is listed at the end, with the reason.", &mut out);
        }
        self.write_api(&mut out);
        let mut integrations = self.integrations.clone();
        let is_function = |section: &&mut Section| section.entries.iter().any(|(key, _)| key == "endpoint");
        if let Some(first) = integrations.iter_mut().find(is_function) {
            let note = "Functions are invoked at `endpoint`: `sam local start-lambda --port 3002`, `serverless offline` and \
                LocalStack listen for that.";
            first.notes.push(note.to_owned());
        }
        integrations.iter().for_each(|section| section.write("integrations", &mut out));
        self.write_routes(&mut out);
        self.authorizers.iter().for_each(|section| section.write("authorizers", &mut out));
        self.api_keys.iter().for_each(|section| section.write("api_keys", &mut out));
        for (index, model) in self.models.iter().enumerate() {
            let mut section = Section::new(&model.name).with("schema", Toml::text(model.path()));
            if index == 0 && !schemas {
                section.notes.push("The files of the schemas are written with `--output FILE`.".to_owned());
            }
            section.write("models", &mut out);
        }
        self.access_log.iter().for_each(|section| section.write("access_log", &mut out));
        if !findings.is_empty() {
            out.push('\n');
            toml::comment("What has no counterpart, by its line in the template:", &mut out);
            out.push_str("#\n");
            findings.iter().for_each(|finding| toml::item(finding.line, &finding.what, &finding.reason, &mut out));
        }
        out
    }

    fn write_api(&self, out: &mut String) {
        let mut api = self.api.clone();
        match &self.stages[..] {
            // What else a stage may have, only a section of its own can say.
            [stage] if stage.base_path.is_none() && stage.throttle.is_none() => {
                api.set("stage", Toml::text(&stage.name));
                if !stage.variables.is_empty() {
                    api.set("stage_variables", Toml::Section(texts(&stage.variables)));
                }
                api.write("api", out);
            }
            stages => {
                api.write("api", out);
                stages.iter().for_each(|stage| self.stage(stage).write("stages", out));
            }
        }
    }

    fn stage(&self, stage: &Stage) -> Section {
        let mut section = Section::new(&stage.name);
        if let Some(path) = &stage.base_path {
            section.set("base_path", Toml::text(path));
        }
        if let Some(rate) = stage.throttle {
            section.set("throttle", rate.toml());
        }
        if !stage.variables.is_empty() {
            section.set("variables", Toml::Section(texts(&stage.variables)));
        }
        let own = stage.route_throttles.iter().filter(|(key, rate)| self.throttle_of_all(key) != Some(*rate));
        let own: Vec<_> =
            own.filter_map(|(key, rate)| Some((key.clone(), self.route(key)?.toml(Some(*rate))))).collect();
        if !own.is_empty() {
            section.set("routes", Toml::Section(own));
        }
        section
    }

    /// The throttle of a route, where every stage has the same.
    fn throttle_of_all(&self, key: &str) -> Option<Rate> {
        let of = |stage: &Stage| stage.route_throttles.iter().find(|(other, _)| other == key).map(|(_, rate)| *rate);
        let first = of(self.stages.first()?)?;
        self.stages.iter().all(|stage| of(stage) == Some(first)).then_some(first)
    }

    fn write_routes(&self, out: &mut String) {
        let place =
            |key: &str| ["$connect", "$disconnect", "$default"].iter().position(|known| *known == key).unwrap_or(3);
        let mut routes: Vec<_> = self.routes.iter().collect();
        routes.sort_by_key(|route| place(&route.key));
        let entries = routes.into_iter().map(|route| (route.key.clone(), route.toml(self.throttle_of_all(&route.key))));
        Section { entries: entries.collect(), ..Section::default() }.write("routes", out);
    }
}

impl Route {
    fn toml(&self, throttle: Option<Rate>) -> Toml {
        let mut table = vec![("integration".to_owned(), Toml::text(&self.integration))];
        let mut set = |key: &str, value: Toml| table.push((key.to_owned(), value));
        if self.route_response {
            set("route_response", Toml::Flag(true));
        }
        if let Some(authorizer) = &self.authorizer {
            set("authorizer", Toml::text(authorizer));
        }
        if self.api_key_required {
            set("api_key_required", Toml::Flag(true));
        }
        if let Some(rate) = throttle {
            set("throttle", rate.toml());
        }
        if let Some(expression) = &self.model_selection_expression {
            set("model_selection_expression", Toml::text(expression));
        }
        if !self.models.is_empty() {
            set("models", Toml::Table(texts(&self.models)));
        }
        if table.len() == 1 { Toml::text(&self.integration) } else { Toml::Table(table) }
    }
}

impl Rate {
    /// `None` where a manifest takes no such rate.
    pub fn new(rate: f64, burst: Option<f64>) -> Option<Self> {
        let good = (0.001..=1_000_000.0).contains(&rate)
            && burst.is_none_or(|burst| (1.0..=1_000_000.0).contains(&burst) && burst.fract() == 0.0);
        good.then_some(Self { rate, burst })
    }

    pub fn toml(self) -> Toml {
        let mut table = vec![("rate".to_owned(), Toml::Number(self.rate))];
        table.extend(self.burst.map(|burst| ("burst".to_owned(), Toml::Number(burst))));
        Toml::Table(table)
    }
}

/// An integration that a component has to do: nothing else here can. `check` says that it is missing.
pub fn missing_component(name: &str, why: &str) -> Section {
    let name = names::name(name);
    let mut section = Section::default();
    section.notes.push(format!("To be written: {}.", one_line(why)));
    section.with("component", Toml::text(format!("{name}.wasm")))
}

fn texts(texts: &[(String, String)]) -> Vec<(String, Toml)> {
    texts.iter().map(|(key, text)| (key.clone(), Toml::text(text))).collect()
}
