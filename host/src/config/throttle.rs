//! Rates: `[throttle]`, and `throttle` wherever else it may stand.

use std::ops::RangeInclusive;

use toml::de::DeValue;

use super::section::{Entry, Section};
use super::value::{self, Wrong};
use crate::throttle::Rate;

/// One in a quarter of an hour, to one in a microsecond.
const RATES: RangeInclusive<f64> = 0.001..=1_000_000.0;
const BURSTS: RangeInclusive<usize> = 1..=1_000_000;

/// `[throttle]`. `None` is a limit that is lifted.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Throttles {
    pub account: Option<Rate>,
    pub connections: Option<Rate>,
    pub connection: Option<Rate>,
    pub source: Option<Rate>,
    /// Of each stage that has none of its own.
    pub stage: Option<Rate>,
}

/// What is not written is as in `default`.
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

/// `{ rate = 100, burst = 50 }`, or `"none"` for a limit that is lifted. `None` if nothing is written,
/// or something wrong.
pub fn rate(section: &mut Section<'_>, key: &'static str) -> Option<Option<Rate>> {
    let Entry { key_span, value, .. } = section.entry(key)?;
    let name = section.name_of(key);
    if value.get_ref().as_str() == Some("none") {
        return Some(None);
    }
    let wrong = Wrong::new("{ rate = 100, burst = 50 } or \"none\"", "");
    let mut table = section.table(&name, key_span, value, wrong)?;
    let per_second = table.read_needed("rate", per_second);
    let burst = table.read("burst", value::count(BURSTS));
    let wrong_burst = burst.is_none() && table.is_written("burst");
    table.finish();
    let per_second = per_second.filter(|_| !wrong_burst)?;
    // A second's worth, where nothing is said.
    let burst = burst.unwrap_or((per_second.ceil() as usize).max(1));
    Rate::new(per_second, u32::try_from(burst).ok()?).map(Some)
}

fn per_second(value: &DeValue<'_>) -> Result<f64, Wrong> {
    let number = match value {
        DeValue::Integer(number) => {
            i64::from_str_radix(number.as_str(), number.radix()).ok().map(|number| number as f64)
        }
        DeValue::Float(number) => number.as_str().parse().ok(),
        _ => None,
    };
    let advice = match number {
        Some(0.0) => "nothing would pass: for no limit write \"none\", and a route that nobody may use leave out",
        _ => "",
    };
    let wrong = || Wrong::new(format!("a number a second from {} to {}", RATES.start(), RATES.end()), advice);
    number.filter(|number| RATES.contains(number)).ok_or_else(wrong)
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
        parse(text).unwrap_or_else(|told| panic!("{told}"))
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
[stages.as_all]
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
        let stages = ["prod", "free", "as_all"].map(|name| config.stages[name].throttle);
        assert_eq!(stages, [Some(rate(100.0, 50)), Some(None), None]);
        let routes = &config.stages["prod"].routes;
        assert_eq!(routes[&RouteKey::Connect].throttle, rate(0.01, 1));
        let free = &routes[&RouteKey::Custom("x".into())];
        assert_eq!((free.throttle, free.ordering), (None, Some(Ordering::None)));
    }

    #[test]
    fn what_only_a_message_has_is_warned_of_elsewhere() {
        let config = config(
            "[routes]\n\"$connect\" = { integration = \"chat\", throttle = { rate = 1 }, ordering = \"none\" }\n\
             \"$disconnect\" = { integration = \"chat\", throttle = { rate = 1 } }",
        );
        let told = config.warnings.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n");
        let expected = [
            "jackfield.toml:2: routes.$connect: found ordering, which only a message can have; leave it out",
            "jackfield.toml:3: routes.$disconnect: found throttle, but the end of a connection is never refused; leave it out",
        ];
        assert_eq!(told, expected.join("\n"));
    }

    #[test]
    fn an_ordering_is_one_of_two() {
        let expected = "expected \"connection\" (in their order) or \"none\" (side by side)";
        let told = parse("[api]\nordering = \"strict\"").unwrap_err();
        assert_eq!(told, format!("jackfield.toml:2: api.ordering: found \"strict\", {expected}"));
        let told = parse("[api]\nprofile = \"gcp\"").unwrap_err();
        let expected = "expected \"local\" or \"aws\" (the throttles and quotas of API Gateway)";
        assert_eq!(told, format!("jackfield.toml:2: api.profile: found \"gcp\", {expected}"));
    }

    #[test]
    fn a_rate_that_is_wrong_is_told_with_what_to_write() {
        let expected = "expected a number a second from 0.001 to 1000000";
        for (value, told) in [
            ("{ rate = 1_000_001 }", format!("throttle.account.rate: found 1000001, {expected}")),
            ("{ rate = 0.0009 }", format!("throttle.account.rate: found 0.0009, {expected}")),
            ("{ rate = nan }", format!("throttle.account.rate: found nan, {expected}")),
            ("{ rate = -1 }", format!("throttle.account.rate: found -1, {expected}")),
            (
                "{ rate = 0 }",
                format!(
                    "throttle.account.rate: found 0, {expected}; nothing would pass: for no limit write \"none\", and \
                     a route that nobody may use leave out"
                ),
            ),
            ("{ rate = \"10\" }", format!("throttle.account.rate: found \"10\", {expected}")),
            ("{ burst = 1 }", "throttle.account: found no rate, which has no default; add rate = ...".to_owned()),
            (
                "{ rate = 1, burst = 0 }",
                "throttle.account.burst: found 0, expected a number from 1 to 1000000".to_owned(),
            ),
            ("{ rate = 1, brust = 1 }", "[throttle.account] has no key \"brust\"; did you mean burst?".to_owned()),
            ("100", "throttle.account: found 100, expected { rate = 100, burst = 50 } or \"none\"".to_owned()),
        ] {
            let errors = parse(&format!("[throttle]\naccount = {value}")).unwrap_err();
            assert_eq!(errors, format!("jackfield.toml:2: {told}"));
        }
        for value in ["0.001", "1000000", "0x10", "1e3"] {
            parse(&format!("[throttle]\naccount = {{ rate = {value}, burst = 1_000_000 }}")).unwrap();
        }
    }
}
