//! The event that is being handled, as the JSON that API Gateway sends to a Lambda function.
//!
//! The keys, their order and the values are those of the real host, for a peer without a proxy.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::Serialize;

use crate::{ConnectionContext, Event, Field, Payload, RequestContext};

/// What an event consists of besides its own fields.
pub struct EventJson<'a> {
    pub request: &'a RequestContext,
    pub connection: &'a ConnectionContext,
    pub event: &'a Event,
}

impl EventJson<'_> {
    /// Formats the event of a route handler.
    pub fn of_handler(&self) -> String {
        let mut json = Object::default();
        match self.event {
            Event::Connect(request) => {
                let mut headers = self.with_forwarding_headers(&request.headers);
                for name in ["Connection", "Upgrade", "content-length"] {
                    headers.remove(name);
                }
                headers.sort();
                json.fields(HEADERS, &headers);
                if !request.query_string.is_empty() {
                    json.fields(QUERY_STRING, &Fields::case_sensitive(&request.query_string));
                }
            }
            Event::Message(_) => {}
            Event::Disconnect(_) => {
                let empty = ["x-api-key", "X-Forwarded-For", "x-restapi"].map(|name| (name.to_owned(), String::new()));
                let host = ("Host".to_owned(), self.connection.domain_name.clone());
                let [api_key, forwarded_for, rest_api] = empty;
                json.fields(HEADERS, &Fields::case_sensitive(&[host, api_key, forwarded_for, rest_api]));
            }
        }
        if !self.connection.stage_variables.is_empty() {
            json.raw("stageVariables", Fields::case_sensitive(&self.connection.stage_variables).last_values());
        }
        json.raw("requestContext", self.request_context());
        let mut is_base64_encoded = false;
        if let Event::Message(message) = self.event {
            match &message.body {
                Payload::Text(text) => json.entry("body", text),
                Payload::Binary(bytes) => {
                    json.entry("body", &STANDARD.encode(bytes));
                    is_base64_encoded = true;
                }
            }
        }
        json.entry("isBase64Encoded", &is_base64_encoded);
        json.finish()
    }

    /// Formats the event of a REQUEST authorizer, whose event is that of `$connect`.
    pub fn of_authorizer(&self) -> String {
        let Event::Connect(request) = self.event else { panic!("an authorizer receives only upgrade requests") };
        let ConnectionContext { api_id, stage, stage_variables, .. } = self.connection;
        let mut headers = self.with_forwarding_headers(&request.headers);
        for (name, value) in [("Connection", "upgrade"), ("Upgrade", "websocket"), ("content-length", "0")] {
            headers.set(name, value);
        }
        headers.sort();
        let mut json = Object::default();
        json.entry("type", "REQUEST");
        let route_key = &self.request.route_key;
        json.entry("methodArn", &format!("arn:aws:execute-api:us-east-1:123456789012:{api_id}/{stage}/{route_key}"));
        json.fields(HEADERS, &headers);
        json.fields(QUERY_STRING, &Fields::case_sensitive(&request.query_string));
        json.raw("stageVariables", Fields::case_sensitive(stage_variables).last_values());
        json.raw("requestContext", self.request_context());
        json.finish()
    }

    /// Adds the headers that API Gateway adds. The values that a proxy has sent are kept.
    fn with_forwarding_headers(&self, headers: &[Field]) -> Fields {
        let mut fields = Fields::case_insensitive(headers);
        let RequestContext { request_id, request_time, .. } = self.request;
        let unique = request_id.trim_end_matches('=');
        let trace_id = fields.all("X-Amzn-Trace-Id").last().cloned();
        let trace_id = trace_id.unwrap_or_else(|| format!("Root=1-{:08x}-{unique:0>24}", request_time / 1000));
        fields.set("X-Amzn-Trace-Id", &trace_id);
        let mut forwarded_for = fields.all("X-Forwarded-For").to_vec();
        forwarded_for.push(self.connection.identity.source_ip.clone());
        fields.set("X-Forwarded-For", &forwarded_for.join(", "));
        let proto = fields.all("X-Forwarded-Proto").last().cloned().unwrap_or_else(|| "http".to_owned());
        let port = fields.all("X-Forwarded-Port").last().cloned();
        let port = port.unwrap_or_else(|| port_of(&self.connection.domain_name, &proto).to_owned());
        fields.set("X-Forwarded-Port", &port);
        fields.set("X-Forwarded-Proto", &proto);
        fields
    }

    fn request_context(&self) -> String {
        let RequestContext { connection_id, route_key, request_id, request_time, connected_at } = self.request;
        let ConnectionContext { api_id, stage, domain_name, identity, authorizer, .. } = self.connection;
        let mut json = Object::default();
        json.entry("routeKey", route_key);
        if !authorizer.is_empty() {
            json.raw("authorizer", Fields::case_sensitive(authorizer).last_values());
        }
        let event_type = match self.event {
            Event::Connect(_) => "CONNECT",
            Event::Message(message) => {
                json.entry("messageId", &message.message_id);
                "MESSAGE"
            }
            Event::Disconnect(end) => {
                json.entry("disconnectStatusCode", &end.status_code);
                "DISCONNECT"
            }
        };
        json.entry("eventType", event_type);
        json.entry("extendedRequestId", request_id);
        json.entry("requestTime", &clf_time(*request_time));
        json.entry("messageDirection", "IN");
        if let Event::Disconnect(end) = self.event {
            json.entry("disconnectReason", &end.reason);
        }
        json.entry("stage", stage);
        json.entry("connectedAt", connected_at);
        json.entry("requestTimeEpoch", request_time);
        let mut peer = Object::default();
        if let Some(user_agent) = &identity.user_agent {
            peer.entry("userAgent", user_agent);
        }
        peer.entry("sourceIp", &identity.source_ip);
        json.raw("identity", peer.finish());
        json.entry("requestId", request_id);
        json.entry("domainName", domain_name);
        json.entry("connectionId", connection_id);
        json.entry("apiId", api_id);
        json.finish()
    }
}

const HEADERS: [&str; 2] = ["headers", "multiValueHeaders"];
const QUERY_STRING: [&str; 2] = ["queryStringParameters", "multiValueQueryStringParameters"];

/// An object whose keys keep their order, which the maps of `serde_json` do not.
#[derive(Default)]
struct Object(String);

impl Object {
    fn entry(&mut self, name: &str, value: &(impl Serialize + ?Sized)) {
        self.raw(name, serde_json::to_string(value).expect("texts, numbers and lists of them can be written as JSON"));
    }

    /// Adds a value that is JSON already.
    fn raw(&mut self, name: &str, json: String) {
        self.0.push(if self.0.is_empty() { '{' } else { ',' });
        self.0.push_str(&serde_json::to_string(name).expect("a text can be written as JSON"));
        self.0.push(':');
        self.0.push_str(&json);
    }

    /// Adds fields under two keys: with the last value of each name, and with all values.
    fn fields(&mut self, [last, all]: [&str; 2], fields: &Fields) {
        self.raw(last, fields.last_values());
        self.raw(all, fields.all_values());
    }

    fn finish(self) -> String {
        if self.0.is_empty() { "{}".to_owned() } else { self.0 + "}" }
    }
}

/// Each name with all of its values, in the order in which the names first appear.
struct Fields(Vec<(String, Vec<String>)>);

impl Fields {
    fn case_sensitive(fields: &[Field]) -> Self {
        Self::group(fields, |name, other| name == other)
    }

    fn case_insensitive(fields: &[Field]) -> Self {
        Self::group(fields, str::eq_ignore_ascii_case)
    }

    fn group(fields: &[Field], same: fn(&str, &str) -> bool) -> Self {
        let mut grouped: Vec<(String, Vec<String>)> = Vec::new();
        for (name, value) in fields {
            match grouped.iter_mut().find(|(other, _)| same(name, other)) {
                Some((_, values)) => values.push(value.clone()),
                None => grouped.push((name.clone(), vec![value.clone()])),
            }
        }
        Fields(grouped)
    }

    fn all(&self, name: &str) -> &[String] {
        let found = self.0.iter().find(|(other, _)| other.eq_ignore_ascii_case(name));
        found.map_or(&[], |(_, values)| values)
    }

    fn remove(&mut self, name: &str) {
        self.0.retain(|(other, _)| !other.eq_ignore_ascii_case(name));
    }

    fn set(&mut self, name: &str, value: &str) {
        self.remove(name);
        self.0.push((name.to_owned(), vec![value.to_owned()]));
    }

    fn sort(&mut self) {
        self.0.sort_by_cached_key(|(name, _)| name.to_ascii_lowercase());
    }

    fn last_values(&self) -> String {
        let mut json = Object::default();
        for (name, values) in &self.0 {
            json.entry(name, values.last().expect("every name has a value"));
        }
        json.finish()
    }

    fn all_values(&self) -> String {
        let mut json = Object::default();
        for (name, values) in &self.0 {
            json.entry(name, values);
        }
        json.finish()
    }
}

/// Returns the port in a `Host` header; if it has none, the default port of the scheme.
fn port_of<'a>(host: &'a str, proto: &str) -> &'a str {
    let named = host.rsplit_once(':').map(|(_, port)| port);
    let named = named.filter(|port| !port.is_empty() && port.bytes().all(|byte| byte.is_ascii_digit()));
    named.unwrap_or(if proto.eq_ignore_ascii_case("https") { "443" } else { "80" })
}

/// Formats a time as in `requestTime`: `09/Feb/2024:18:11:43 +0000`.
fn clf_time(at: u64) -> String {
    const MONTHS: [&str; 12] = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
    let (mut days, seconds) = (at / 86_400_000, at / 1000 % 86_400);
    let is_leap = |year: u64| year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400));
    let mut year = 1970;
    while days >= 365 + u64::from(is_leap(year)) {
        days -= 365 + u64::from(is_leap(year));
        year += 1;
    }
    let lengths = [31, 28 + u64::from(is_leap(year)), 31, 30, 31, 30, 31, 31, 30, 31, 30, 31];
    let mut month = 0;
    while days >= lengths[month] {
        days -= lengths[month];
        month += 1;
    }
    let (day, name) = (days + 1, MONTHS[month]);
    let (hours, minutes, seconds) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
    format!("{day:02}/{name}/{year:04}:{hours:02}:{minutes:02}:{seconds:02} +0000")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{ConnectEvent, DisconnectEvent, Identity, MessageEvent};

    /// Returns the golden file with this name, which the real host is compared with too, without its indentation.
    macro_rules! golden {
        ($name:literal) => {
            compact(include_str!(concat!("../../../../host/tests/golden/", $name, ".json")))
        };
    }

    fn compact(golden: &str) -> String {
        golden.lines().map(|line| line.trim().replacen("\": ", "\":", 1)).collect()
    }

    fn fields<const N: usize>(fields: [(&str, &str); N]) -> Vec<Field> {
        fields.map(|(name, value)| (name.to_owned(), value.to_owned())).into()
    }

    fn authorizer() -> Vec<Field> {
        fields([("principalId", "user-1"), ("admin", "true"), ("quota", "42")])
    }

    fn request(ids: [&str; 2], route_key: &str, times: [u64; 2]) -> RequestContext {
        let ([connection_id, request_id], [connected_at, request_time]) = (ids.map(str::to_owned), times);
        RequestContext { connection_id, route_key: route_key.to_owned(), request_id, request_time, connected_at }
    }

    fn connection(api_id: &str, stage: &str, domain_name: &str, source_ip: &str) -> ConnectionContext {
        ConnectionContext {
            api_id: api_id.to_owned(),
            stage: stage.to_owned(),
            domain_name: domain_name.to_owned(),
            identity: Identity { source_ip: source_ip.to_owned(), user_agent: None },
            authorizer: Vec::new(),
            stage_variables: Vec::new(),
        }
    }

    fn capture() -> ConnectionContext {
        let host = "dl7ptocha9.execute-api.ap-northeast-1.amazonaws.com";
        connection("dl7ptocha9", "prod", host, "49.105.91.154")
    }

    #[test]
    fn a_connect_event_is_that_of_the_real_host() {
        let request =
            request(["S2IZmeRWIAMCFcA=", "S2IZmG8VIAMFcvQ="], "$connect", [1_707_502_303_419, 1_707_502_303_420]);
        let mut connection = connection("abcd123", "prod", "127.0.0.1:3001", "127.0.0.1");
        connection.identity.user_agent = Some("Mozilla/5.0 (X11; Linux x86_64)".to_owned());
        connection.authorizer = authorizer();
        connection.stage_variables = fields([("table", "connections-prod")]);
        let headers = fields([
            ("Host", "127.0.0.1:3001"),
            ("Connection", "keep-alive, Upgrade"),
            ("Upgrade", "websocket"),
            ("cookie", "a=1"),
            ("Origin", "http://localhost:8080"),
            ("User-Agent", "Mozilla/5.0 (X11; Linux x86_64)"),
            ("Accept-Encoding", "gzip, deflate"),
            ("Cookie", "b=2"),
            ("Sec-WebSocket-Protocol", "chat, superchat"),
        ]);
        let query_string = fields([("token", "a b"), ("room", "1"), ("room", "2")]);
        let event = Event::Connect(ConnectEvent { headers, query_string });
        let sent = EventJson { request: &request, connection: &connection, event: &event }.of_handler();
        // The host derives the trace id from the request id in a way of its own.
        let (before, after) = sent.split_once("\"X-Amzn-Trace-Id\":\"Root=1-65c66adf-").unwrap();
        let golden = golden!("connect_of_a_browser");
        assert!(golden.starts_with(before), "{sent}\n{golden}");
        let (_, rest) = after.split_once("X-Amzn-Trace-Id").unwrap();
        let (_, end) = rest.split_once(']').unwrap();
        assert!(golden.ends_with(end), "{sent}\n{golden}");
    }

    #[test]
    fn a_message_event_is_that_of_the_real_host() {
        let times = [1_705_751_697_419, 1_705_751_700_453];
        let mut request = request(["R1kmxc2VNjMCFIA=", "R1knPH17NjMFftw="], "$default", times);
        let mut connection = capture();
        connection.identity.user_agent = Some("Mozilla/5.0 (X11; Linux x86_64)".to_owned());
        let message = |body| Event::Message(MessageEvent { message_id: "R1knPc2ntjMCFIA=".to_owned(), body });
        let event = message(Payload::Text("{\r\n\t\"a\": 1\r\n}".to_owned()));
        let json = EventJson { request: &request, connection: &connection, event: &event };
        assert_eq!(json.of_handler(), golden!("message"));

        request.route_key = "sendmessage".to_owned();
        connection.identity.user_agent = None;
        connection.authorizer = authorizer();
        connection.stage_variables = fields([("table", "connections-prod"), ("mode", "")]);
        let event = message(Payload::Binary(vec![0, 1, 254, 255]));
        let json = EventJson { request: &request, connection: &connection, event: &event };
        assert_eq!(json.of_handler(), golden!("message_binary_after_an_authorizer"));
    }

    #[test]
    fn a_disconnect_event_is_that_of_the_real_host() {
        let times = [1_705_751_697_419, 1_705_751_708_326];
        let request = request(["R1kmxc2VNjMCFIA=", "R1koeHsUtjMFbRw="], "$disconnect", times);
        let mut connection = capture();
        connection.authorizer = authorizer();
        connection.stage_variables = fields([("table", "connections-prod")]);
        let reason = "Client-side close frame status not set".to_owned();
        let event = Event::Disconnect(DisconnectEvent { status_code: 1005, reason });
        let json = EventJson { request: &request, connection: &connection, event: &event };
        assert_eq!(json.of_handler(), golden!("disconnect_after_an_authorizer"));
    }

    #[test]
    fn the_event_of_an_authorizer_is_that_of_the_real_host() {
        let times = [1_674_162_806_344, 1_674_162_806_345];
        let request = request(["eyo8acKnIAMCFdw=", "eyo8aHZUIAMFo3A="], "$connect", times);
        let host = "abcdef123.execute-api.us-east-1.amazonaws.com";
        let mut connection = connection("abcdef123", "default", host, "192.0.2.1");
        connection.stage_variables = fields([("table", "connections-prod")]);
        let headers = fields([
            ("Host", host),
            ("Upgrade", "websocket"),
            ("Connection", "Upgrade"),
            ("Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZQ=="),
            ("Sec-WebSocket-Version", "13"),
            ("Sec-WebSocket-Extensions", "permessage-deflate; client_max_window_bits"),
            ("x-forwarded-proto", "https"),
            ("x-amzn-trace-id", "Root=1-63c9b276-0123456789abcdef01234567"),
            ("HeaderAuth1", "headerValue1"),
        ]);
        let event = Event::Connect(ConnectEvent { headers, query_string: Vec::new() });
        let json = EventJson { request: &request, connection: &connection, event: &event };
        assert_eq!(json.of_authorizer(), golden!("authorizer_without_a_query"));
    }

    #[test]
    fn a_time_is_formatted_in_the_common_log_format() {
        for (at, expected) in [
            (0, "01/Jan/1970:00:00:00 +0000"),
            (1_707_502_303_420, "09/Feb/2024:18:11:43 +0000"),
            (1_709_251_199_999, "29/Feb/2024:23:59:59 +0000"),
            (1_735_689_599_999, "31/Dec/2024:23:59:59 +0000"),
        ] {
            assert_eq!(clf_time(at), expected, "{at}");
        }
    }
}
