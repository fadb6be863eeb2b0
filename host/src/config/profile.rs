//! `profile`: the defaults of missing keys, and warnings about values above the quotas of API Gateway.

use std::time::Duration;

use toml::de::DeValue;

use super::section::Section;
use super::throttle::Throttles;
use super::value::{self, InvalidValue};
use crate::gateway::Ordering;
use crate::limits::{
    AWS_ACCOUNT_THROTTLE, AWS_AUTHORIZERS_MAX, AWS_CONNECTIONS_THROTTLE, AWS_INTEGRATIONS_MAX, AWS_ROUTES_MAX,
    AWS_STAGE_THROTTLE, AWS_STAGES_MAX, CONNECTION_DURATION_MAX, ConnectionLimits, EVENT_TIMEOUT, FRAME_BYTES_MAX,
    IDLE_TIMEOUT, MESSAGE_BYTES_MAX,
};
use crate::throttle::Rate;

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Profile {
    /// Defaults for a server that only its owner uses: no throttles.
    #[default]
    Local,
    /// The throttles and quotas of a new API on API Gateway.
    Aws,
}

impl Profile {
    pub fn parse(value: &DeValue<'_>) -> Result<Self, InvalidValue> {
        match value.as_str() {
            Some("local") => Ok(Self::Local),
            Some("aws") => Ok(Self::Aws),
            _ => Err(InvalidValue::new("\"local\" or \"aws\" (the throttles and quotas of API Gateway)", "")),
        }
    }

    pub fn throttles(self) -> Throttles {
        let rate = |(per_second, burst)| Rate::new(per_second, burst);
        match self {
            Self::Local => Throttles::default(),
            Self::Aws => Throttles {
                account: rate(AWS_ACCOUNT_THROTTLE),
                connections: rate(AWS_CONNECTIONS_THROTTLE),
                stage: rate(AWS_STAGE_THROTTLE),
                ..Throttles::default()
            },
        }
    }

    pub fn connection(self) -> ConnectionLimits {
        match self {
            Self::Local => ConnectionLimits::default(),
            // API Gateway sends no pings: it notices a lost peer by the idle timeout.
            Self::Aws => ConnectionLimits { ping_interval: None, ..ConnectionLimits::default() },
        }
    }

    pub fn is_strict(self) -> bool {
        self == Self::Aws
    }

    pub fn ordering(self) -> Ordering {
        match self {
            Self::Local => Ordering::Connection,
            Self::Aws => Ordering::None,
        }
    }

    /// Warns about limits in `[connection]` above the quotas of API Gateway.
    pub fn check_connection_quotas(self, section: &Section<'_>, limits: &ConnectionLimits) {
        if self != Self::Aws {
            return;
        }
        for (key, found, quota) in [
            ("message_size", limits.message_bytes, MESSAGE_BYTES_MAX),
            ("frame_size", limits.frame_bytes, FRAME_BYTES_MAX),
        ] {
            if found > quota {
                warn(section, key, &value::format_size(found), &value::format_size(quota));
            }
        }
        for (key, found, quota) in [
            ("idle_timeout", limits.idle_timeout, IDLE_TIMEOUT),
            ("duration", limits.duration, CONNECTION_DURATION_MAX),
        ] {
            if found.is_none_or(|found| found > quota) {
                warn(section, key, &found.map_or("\"none\"".to_owned(), format_duration), &format_duration(quota));
            }
        }
    }

    /// Warns about timeouts of integrations above API Gateway's, and about too many integrations.
    ///
    /// `timeout` returns the timeout of the integration with the given name.
    pub fn check_integration_quotas(self, section: &Section<'_>, timeout: impl Fn(&str) -> Option<Duration>) {
        if self != Self::Aws {
            return;
        }
        self.check_count(section, "integrations", AWS_INTEGRATIONS_MAX);
        for entry in section.entries() {
            let Some(found) = timeout(entry.key).filter(|timeout| *timeout > EVENT_TIMEOUT) else { continue };
            let name = section.name_of(entry.key);
            if let Some(section) = section.table(&name, entry.key_span, entry.value, InvalidValue::new("", "")) {
                warn(&section, "timeout", &format_duration(found), &format_duration(EVENT_TIMEOUT));
            }
        }
    }

    pub fn check_route_quota(self, section: &Section<'_>) {
        self.check_count(section, "routes", AWS_ROUTES_MAX);
    }

    pub fn check_stage_quota(self, section: &Section<'_>) {
        self.check_count(section, "stages", AWS_STAGES_MAX);
    }

    pub fn check_authorizer_quota(self, section: &Section<'_>) {
        self.check_count(section, "authorizers", AWS_AUTHORIZERS_MAX);
    }

    fn check_count(self, section: &Section<'_>, name: &str, quota: usize) {
        let count = section.entries().count();
        if self == Self::Aws && count > quota {
            let problem = format!("[{name}]: found {count}, more than API Gateway's quota of {quota}");
            section.problems.warning(section.span(), problem, ADVICE);
        }
    }
}

const ADVICE: &str = "profile = \"aws\" in [api] is for APIs that will run on API Gateway";

fn warn(section: &Section<'_>, key: &str, found: &str, quota: &str) {
    let problem = format!("{}: found {found}, more than API Gateway's {quota}", section.name_of(key));
    section.problems.warning(section.span_of(key), problem, ADVICE);
}

fn format_duration(duration: Duration) -> String {
    humantime::format_duration(duration).to_string()
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::config::Config;

    fn config(text: &str) -> Config {
        let parsed = Config::parse(text, Path::new("jackfield.toml"));
        parsed.unwrap_or_else(|errors| panic!("{errors:?}"))
    }

    fn warnings(text: &str) -> String {
        config(text).warnings.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n")
    }

    fn rate(per_second: f64, burst: u32) -> Option<Rate> {
        Some(Rate::new(per_second, burst).unwrap())
    }

    #[test]
    fn the_aws_profile_has_the_throttles_and_quotas_of_api_gateway() {
        let config = config("[api]\nprofile = \"aws\"");
        let throttles = Throttles {
            account: rate(10_000.0, 5000),
            connections: rate(500.0, 500),
            connection: None,
            source: None,
            stage: rate(10_000.0, 5000),
        };
        assert_eq!(config.throttle, throttles);
        assert_eq!(config.api.ordering, Ordering::None);
        let connection = ConnectionLimits {
            message_bytes: 128 * 1024,
            frame_bytes: 32 * 1024,
            strict: true,
            idle_timeout: Some(Duration::from_secs(600)),
            ping_resets_idle: false,
            duration: Some(Duration::from_secs(7200)),
            ping_interval: None,
            ..ConnectionLimits::default()
        };
        assert_eq!(config.connection, connection);
    }

    #[test]
    fn the_local_profile_is_the_default_and_throttles_nothing() {
        for text in ["", "[api]\nprofile = \"local\""] {
            let config = config(text);
            assert_eq!((config.throttle, config.api.ordering), (Throttles::default(), Ordering::Connection));
            assert_eq!(config.connection, ConnectionLimits::default());
        }
    }

    #[test]
    fn single_keys_override_the_profile() {
        let config = config(
            r#"
[api]
profile = "aws"
strict = false
ordering = "connection"
[throttle]
account = "none"
connections = { rate = 1, burst = 2 }
source = { rate = 3, burst = 4 }
[connection]
ping_interval = "25s"
"#,
        );
        let throttles = Throttles {
            account: None,
            connections: rate(1.0, 2),
            connection: None,
            source: rate(3.0, 4),
            stage: rate(10_000.0, 5000),
        };
        assert_eq!(config.throttle, throttles);
        assert_eq!(config.api.ordering, Ordering::Connection);
        assert_eq!(config.connection, ConnectionLimits::default());
    }

    #[test]
    fn limits_above_those_of_api_gateway_are_warnings_in_the_aws_profile_only() {
        let above = r#"
[connection]
message_size = "256KiB"
frame_size = "33KiB"
idle_timeout = "none"
duration = "3h"
[integrations.chat]
component = "x.wasm"
timeout = "30s"
[routes]
x = "chat"
"#;
        let advice = "profile = \"aws\" in [api] is for APIs that will run on API Gateway";
        let expected = [
            "4: connection.message_size: found 256KiB, more than API Gateway's 128KiB",
            "5: connection.frame_size: found 33KiB, more than API Gateway's 32KiB",
            "6: connection.idle_timeout: found \"none\", more than API Gateway's 10m",
            "7: connection.duration: found 3h, more than API Gateway's 2h",
            "10: integrations.chat.timeout: found 30s, more than API Gateway's 29s",
        ];
        let expected = expected.map(|line| format!("jackfield.toml:{line}; {advice}"));
        assert_eq!(warnings(&format!("[api]\nprofile = \"aws\"{above}")), expected.join("\n"));
        assert_eq!(warnings(above), "");
        let within = above.replace("256KiB", "128KiB").replace("33KiB", "32KiB").replace("none", "10min");
        let within = within.replace("3h", "2h").replace("30s", "29s");
        assert_eq!(warnings(&format!("[api]\nprofile = \"aws\"{within}")), "");
    }

    #[test]
    fn more_authorizers_than_the_quota_of_api_gateway_are_a_warning() {
        let warnings = |count: usize| {
            let authorizers: String =
                (0..count).map(|number| format!("[authorizers.a{number}]\ntype = \"iam\"\n")).collect();
            warnings(&format!("[api]\nprofile = \"aws\"\n{authorizers}"))
        };
        let expected = "[authorizers]: found 11, more than API Gateway's quota of 10";
        assert_eq!((warnings(10).contains(expected), warnings(11).contains(expected)), (false, true));
    }

    #[test]
    fn more_routes_and_stages_than_the_quotas_of_api_gateway_are_a_warning() {
        let manifest = |stages: usize, routes: usize| {
            let stages = (0..stages).map(|number| format!("[stages.s{number}]\n")).collect::<String>();
            let routes = (0..routes).map(|number| format!("r{number} = \"chat\"\n")).collect::<String>();
            format!("[api]\nprofile = \"aws\"\n[integrations.chat]\ncomponent = \"x.wasm\"\n{stages}[routes]\n{routes}")
        };
        assert_eq!(warnings(&manifest(10, 300)), "");
        let warnings = warnings(&manifest(11, 301));
        assert!(warnings.contains("[stages]: found 11, more than API Gateway's quota of 10"), "{warnings}");
        assert!(warnings.contains("[routes]: found 301, more than API Gateway's quota of 300"), "{warnings}");
    }
}
