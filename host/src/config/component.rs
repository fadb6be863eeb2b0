//! An integration or an authorizer of type "component": its file, build, limits and grants.

use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};
use std::time::Duration;

use toml::de::DeValue;

use super::grants::grants;
use super::section::Section;
use super::source::{Source, source};
use super::value::{self, InvalidValue, KIB, MIB};
use crate::capability::Grants;
use crate::limits::{CONCURRENT_EVENTS_MAX, EventLimits};
use crate::runtime::Language;
use crate::world::World;

/// API Gateway allows 50 ms to 29 s; here a slow handler may take as long as a Lambda function.
const EVENT_TIMEOUTS: RangeInclusive<Duration> = Duration::from_millis(50)..=Duration::from_secs(15 * 60);
/// From several epochs, at which CPU time is checked, to the longest event.
const EVENT_CPU_TIMES: RangeInclusive<Duration> = Duration::from_millis(10)..=Duration::from_secs(15 * 60);
/// From one page of WebAssembly to everything that 32 bits can address.
const EVENT_MEMORIES: RangeInclusive<usize> = 64 * KIB..=4096 * MIB;

/// Longest name of an export.
const EXPORT_NAME_BYTES_MAX: usize = 256;

#[derive(Clone, Debug, PartialEq)]
pub struct Component {
    /// The world that the component must implement.
    pub world: World,
    pub name: String,
    pub component: PathBuf,
    /// The line of the manifest that names the component.
    pub component_line: u32,
    /// The command that builds the component; `jackfield dev` runs it in the manifest's folder.
    pub build: Option<String>,
    /// Files and folders; when one changes, `jackfield dev` runs `build`.
    pub watch: Vec<PathBuf>,
    /// What `jackfield build` and `jackfield dev` compile the component from; `build` is `None` then.
    pub source: Option<Source>,
    pub grants: Grants,
    pub limits: EventLimits,
    /// Largest number of events that one sandbox handles one after another; 0: each event has a new sandbox.
    pub reuse: usize,
    /// `None` if the file is a component.
    pub script: Option<Script>,
}

/// The keys of a component whose file is a script.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Script {
    pub language: Language,
    /// The export that handles events.
    pub handler: Option<String>,
}

impl Component {
    /// Returns the header of its section in the manifest.
    pub fn section(&self) -> String {
        self.world.section(&self.name)
    }
}

pub fn component(world: World, name: &str, section: &mut Section<'_>, folder: &Path) -> Component {
    let file = section.read_required("component", value::path(folder));
    let script = script(section, file.as_deref());
    let source = source(section, file.as_deref(), folder);
    let component = Component {
        world,
        name: name.to_owned(),
        component: file.unwrap_or_default(),
        component_line: section.problems.line(section.span_of("component")),
        build: section.read("build", command),
        watch: section.read_list("watch", value::path(folder)),
        source,
        grants: grants(section, folder),
        limits: event_limits(section),
        reuse: section.read("reuse", value::count(0..=1_000_000)).unwrap_or(0),
        script,
    };
    let (has_build, has_watch) = (section.contains("build"), !component.watch.is_empty());
    if has_build != has_watch && !section.contains("language") {
        let (written, missing) = if has_build { ("build", "watch") } else { ("watch", "build") };
        let problem = format!("{}: found without {missing}, so `jackfield dev` never builds", section.name_of(written));
        let advice = if has_build { "add watch = [\"src\"]" } else { "add build = \"cargo build --release\"" };
        section.problems.warning(section.span_of(written), problem, advice);
    }
    component
}

/// Reads the keys that only scripts have, and reports keys that do not fit. The extension of the file decides.
fn script(section: &mut Section<'_>, file: Option<&Path>) -> Option<Script> {
    let handler = section.read("handler", export_name);
    let language = file.and_then(Language::of);
    let report = |key: &'static str, problem: &str, advice: &str| {
        if section.contains(key) {
            let problem = format!("{}: {problem}", section.name_of(key));
            section.problems.error(section.span_of(key), problem, advice);
        }
    };
    let extension = file.and_then(Path::extension).and_then(|extension| extension.to_str());
    if let Some("jsx" | "tsx") = extension {
        let advice = "use a file that ends with .js, .mjs, .cjs, .ts, .mts or .cts; a handler has no use for JSX";
        report("component", "found a file with JSX, which scripts cannot have", advice);
    }
    match language {
        None if file.is_some() => {
            let advice = "remove it: a component of WebAssembly exports its handler by its world; \
                          to serve a script, write component = \"FILE.ts\"";
            report("handler", "found with a component that is no script", advice);
        }
        Some(Language::JavaScript) => {
            let advice = "remove it: use the grants of the manifest, such as buckets, instead";
            report("files", "found with a script, which has no files", advice);
            let advice = "remove it: use fetch with allowed_hosts instead";
            report("sockets", "found with a script, which has no sockets", advice);
        }
        None | Some(Language::Python) => {}
    }
    language.map(|language| Script { language, handler })
}

fn export_name(value: &DeValue<'_>) -> Result<String, InvalidValue> {
    let name = value::string(value)?;
    let is_name = !name.is_empty() && name.len() <= EXPORT_NAME_BYTES_MAX && !name.contains(char::is_control);
    if !is_name {
        let advice = "write only the name of the export: handler = \"connect\"";
        return Err(InvalidValue::new("the name of an export of the script", advice));
    }
    if let Some((file, export)) = name.rsplit_once('.') {
        let advice = format!("component names the file, so write handler = {export:?}");
        return Err(InvalidValue::new(format!("the name of an export without {file:?}"), advice));
    }
    Ok(name.to_owned())
}

fn command(value: &DeValue<'_>) -> Result<String, InvalidValue> {
    let command = value::string(value)?;
    if command.trim().is_empty() {
        return Err(InvalidValue::new("a command such as \"cargo build --release\"", ""));
    }
    Ok(command.to_owned())
}

fn concurrency(value: &DeValue<'_>) -> Result<u32, InvalidValue> {
    let count = value::count(1..=CONCURRENT_EVENTS_MAX)(value)?;
    Ok(u32::try_from(count).expect("a small number"))
}

fn event_limits(section: &mut Section<'_>) -> EventLimits {
    let default = EventLimits::default();
    let limits = EventLimits {
        timeout: section.read("timeout", value::duration(EVENT_TIMEOUTS)).unwrap_or(default.timeout),
        cpu_time: section.read("cpu_time", value::duration(EVENT_CPU_TIMES)).unwrap_or(default.cpu_time),
        memory_bytes: section.read("memory", value::size(EVENT_MEMORIES)).unwrap_or(default.memory_bytes),
        host_calls: section.read("host_calls", value::count(0..=10_000_000)).unwrap_or(default.host_calls),
        log_bytes: section.read("log_size", value::size(0..=16 * MIB)).unwrap_or(default.log_bytes),
        concurrency: section.read("concurrency", concurrency),
    };
    if section.contains("cpu_time") && limits.cpu_time > limits.timeout {
        let [cpu_time, timeout] = [limits.cpu_time, limits.timeout].map(humantime::format_duration);
        let problem = format!("{}: found {cpu_time}, more than timeout ({timeout})", section.name_of("cpu_time"));
        let advice = "lower it, or raise timeout, which ends the event first";
        section.problems.warning(section.span_of("cpu_time"), problem, advice);
    }
    limits
}
