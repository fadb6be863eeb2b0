//! `[throttle]`, and the `throttle` of stages, routes and API keys.

use std::ops::RangeInclusive;

use toml::de::DeValue;

use super::section::{Entry, Section};
use super::value::{self, InvalidValue};
use crate::throttle::Rate;

/// From one event in 1,000 seconds to one in a microsecond.
const RATES: RangeInclusive<f64> = 0.001..=1_000_000.0;
const BURSTS: RangeInclusive<usize> = 1..=1_000_000;

/// The rates of `[throttle]`; `None` means no limit.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Throttles {
    pub account: Option<Rate>,
    pub connections: Option<Rate>,
    pub connection: Option<Rate>,
    pub source: Option<Rate>,
    /// Applies to each stage without a throttle of its own.
    pub stage: Option<Rate>,
}

/// Reads `[throttle]`; a missing key has the rate of `default`.
pub fn throttles(mut section: Section<'_>, default: Throttles) -> Throttles {
    let throttles = Throttles {
        account: rate(&mut section, "account").unwrap_or(default.account),
        connections: rate(&mut section, "connections").unwrap_or(default.connections),
        connection: rate(&mut section, "connection").unwrap_or(default.connection),
        source: rate(&mut section, "source").unwrap_or(default.source),
        stage: rate(&mut section, "stage").unwrap_or(default.stage),
    };
    section.finish();
    throttles
}

/// Reads `{ rate = 100, burst = 50 }`, or `"none"` for no limit, which is `Some(None)`.
///
/// Returns `None` if `key` is missing, or if its value is invalid, which is reported.
pub fn rate(section: &mut Section<'_>, key: &'static str) -> Option<Option<Rate>> {
    let Entry { key_span, value, .. } = section.entry(key)?;
    let name = section.name_of(key);
    if value.get_ref().as_str() == Some("none") {
        return Some(None);
    }
    let invalid = InvalidValue::new("{ rate = 100, burst = 50 } or \"none\"", "");
    let mut table = section.table(&name, key_span, value, invalid)?;
    let per_second = table.read_required("rate", per_second);
    let burst = table.read("burst", value::count(BURSTS));
    let is_burst_invalid = burst.is_none() && table.contains("burst");
    table.finish();
    let per_second = per_second.filter(|_| !is_burst_invalid)?;
    // The default burst is what the rate allows in one second.
    let burst = burst.unwrap_or((per_second.ceil() as usize).max(1));
    Rate::new(per_second, u32::try_from(burst).ok()?).map(Some)
}

fn per_second(value: &DeValue<'_>) -> Result<f64, InvalidValue> {
    let number = match value {
        DeValue::Integer(number) => {
            i64::from_str_radix(number.as_str(), number.radix()).ok().map(|number| number as f64)
        }
        DeValue::Float(number) => number.as_str().parse().ok(),
        _ => None,
    };
    let advice = match number {
        Some(0.0) => "it would allow nothing: write \"none\" for no limit, or remove the route",
        _ => "",
    };
    let invalid = || InvalidValue::new(format!("a rate per second from {} to {}", RATES.start(), RATES.end()), advice);
    number.filter(|number| RATES.contains(number)).ok_or_else(invalid)
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::config::Config;
    use crate::gateway::{Ordering, RouteKey};

    fn parse(text: &str) -> Result<Config, String> {
        let manifest = format!("{text}\n[integrations.chat]\ncomponent = \"x.wasm\"");
        Config::parse(&manifest, Path::new("jackfield.toml"))
            .map_err(|errors| errors.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n"))
    }

    fn config(text: &str) -> Config {
        parse(text).unwrap_or_else(|errors| panic!("{errors}"))
    }

    fn rate(per_second: f64, burst: u32) -> Option<Rate> {
        Some(Rate::new(per_second, burst).unwrap())
    }

    #[test]
    fn every_throttle_has_a_rate_and_a_burst() {
        let config = config(
            r#"
[throttle]
account = { rate = 10_000, burst = 5000 }
connections = { rate = 500 }
connection = { rate = 0.5, burst = 2 }
source = { rate = 2.5 }
stage = "none"
[stages.prod]
throttle = { rate = 100, burst = 50 }
[stages.free]
throttle = "none"
[stages.default]
[routes]
"$connect" = { integration = "chat", throttle = { rate = 0.01 } }
x = { integration = "chat", throttle = "none", ordering = "none" }
"#,
        );
        assert_eq!(
            config.throttle,
            Throttles {
                account: rate(10_000.0, 5000),
                connections: rate(500.0, 500),
                connection: rate(0.5, 2),
                source: rate(2.5, 3),
                stage: None,
            }
        );
        let stages = ["prod", "free", "default"].map(|name| config.stages[name].throttle);
        assert_eq!(stages, [Some(rate(100.0, 50)), Some(None), None]);
        let routes = &config.stages["prod"].routes;
        assert_eq!(routes[&RouteKey::Connect].throttle, rate(0.01, 1));
        let free = &routes[&RouteKey::Custom("x".into())];
        assert_eq!((free.throttle, free.ordering), (None, Some(Ordering::None)));
    }

    #[test]
    fn a_setting_of_messages_on_connect_or_disconnect_is_a_warning() {
        let config = config(
            "[routes]\n\"$connect\" = { integration = \"chat\", throttle = { rate = 1 }, ordering = \"none\" }\n\
             \"$disconnect\" = { integration = \"chat\", throttle = { rate = 1 } }",
        );
        let warnings = config.warnings.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n");
        let expected = [
            "jackfield.toml:2: routes.$connect: found ordering, which only applies to messages; remove it",
            "jackfield.toml:3: routes.$disconnect: found throttle, but the end of a connection is never throttled; \
             remove it",
        ];
        assert_eq!(warnings, expected.join("\n"));
    }

    #[test]
    fn an_unknown_ordering_or_profile_is_an_error_with_the_known_ones() {
        let expected = "expected \"connection\" (messages of a connection in order) or \"none\" (messages in parallel)";
        let errors = parse("[api]\nordering = \"strict\"").unwrap_err();
        assert_eq!(errors, format!("jackfield.toml:2: api.ordering: found \"strict\", {expected}"));
        let errors = parse("[api]\nprofile = \"gcp\"").unwrap_err();
        let expected = "expected \"local\" or \"aws\" (the throttles and quotas of API Gateway)";
        assert_eq!(errors, format!("jackfield.toml:2: api.profile: found \"gcp\", {expected}"));
    }

    #[test]
    fn an_invalid_rate_is_an_error_with_what_to_write() {
        let expected = "expected a rate per second from 0.001 to 1000000";
        for (value, problem) in [
            ("{ rate = 1_000_001 }", format!("throttle.account.rate: found 1000001, {expected}")),
            ("{ rate = 0.0009 }", format!("throttle.account.rate: found 0.0009, {expected}")),
            ("{ rate = nan }", format!("throttle.account.rate: found nan, {expected}")),
            ("{ rate = -1 }", format!("throttle.account.rate: found -1, {expected}")),
            (
                "{ rate = 0 }",
                format!(
                    "throttle.account.rate: found 0, {expected}; it would allow nothing: write \"none\" for no \
                     limit, or remove the route"
                ),
            ),
            ("{ rate = \"10\" }", format!("throttle.account.rate: found \"10\", {expected}")),
            ("{ burst = 1 }", "throttle.account: found no rate, which is required; add rate = ...".to_owned()),
            (
                "{ rate = 1, burst = 0 }",
                "throttle.account.burst: found 0, expected a number from 1 to 1000000".to_owned(),
            ),
            ("{ rate = 1, brust = 1 }", "[throttle.account] has no key \"brust\"; did you mean burst?".to_owned()),
            ("100", "throttle.account: found 100, expected { rate = 100, burst = 50 } or \"none\"".to_owned()),
        ] {
            let errors = parse(&format!("[throttle]\naccount = {value}")).unwrap_err();
            assert_eq!(errors, format!("jackfield.toml:2: {problem}"));
        }
        for value in ["0.001", "1000000", "0x10", "1e3"] {
            parse(&format!("[throttle]\naccount = {{ rate = {value}, burst = 1_000_000 }}")).unwrap();
        }
    }
}
