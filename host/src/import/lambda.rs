//! Lambda functions: parses the URIs that name them, and writes the sections that invoke them.

use super::toml::{Toml, TomlSection};

/// What the URI of an integration or an authorizer of API Gateway names.
#[derive(Debug, PartialEq, Eq)]
pub enum UriTarget {
    /// A Lambda function: its name, optionally followed by a colon and an alias.
    Function(String),
    /// Another service of AWS, such as `dynamodb:action/PutItem`.
    Service(String),
    Other,
}

/// Parses an `Integration.IntegrationUri` or an `Authorizer.AuthorizerUri`.
pub fn parse_uri(uri: &str) -> UriTarget {
    let inside = uri.split_once(":lambda:path/").and_then(|(_, path)| path.split_once("/functions/"));
    let function = inside.map(|(_, function)| function.strip_suffix("/invocations").unwrap_or(function));
    // The plain ARN of a function is not a valid URI for API Gateway, but the meaning is clear.
    if let Some(function) = function.or_else(|| uri.contains(":lambda:").then_some(uri)) {
        let name = function_name(function);
        let allowed = |c: char| c.is_ascii_alphanumeric() || "-_:.${}".contains(c);
        let is_valid = !name.is_empty() && name.chars().all(allowed);
        return if is_valid { UriTarget::Function(name.to_owned()) } else { UriTarget::Other };
    }
    match uri.strip_prefix("arn:").map(|rest| rest.splitn(5, ':').collect::<Vec<_>>()).as_deref() {
        Some([_, "apigateway", _, service, action]) => UriTarget::Service(format!("{service}:{action}")),
        _ => UriTarget::Other,
    }
}

/// Returns the name in the ARN of a function; a text that is not an ARN is returned unchanged.
pub fn function_name(function: &str) -> &str {
    function.split_once(":function:").map_or(function, |(_, name)| name)
}

/// Returns a section with `type = "lambda"` that invokes `function` at `endpoint`.
pub fn section(endpoint: &str, function: &str) -> TomlSection {
    TomlSection::default()
        .with("type", Toml::text("lambda"))
        .with("endpoint", Toml::text(endpoint))
        .with("function", Toml::text(function))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_uri_is_parsed_to_its_function_or_service() {
        let uri = |function: &str| {
            format!("arn:aws:apigateway:us-east-1:lambda:path/2015-03-31/functions/{function}/invocations")
        };
        for (function, expected) in [
            ("arn:aws:lambda:us-east-1:000000000000:function:chat", "chat"),
            ("arn:aws:lambda:us-east-1:000000000000:function:chat:live", "chat:live"),
            ("arn:aws-cn:lambda:cn-north-1:1:function:chat-${stageVariables.alias}", "chat-${stageVariables.alias}"),
            ("${stageVariables.ChatArn}", "${stageVariables.ChatArn}"),
        ] {
            assert_eq!(parse_uri(&uri(function)), UriTarget::Function(expected.to_owned()), "{function}");
            if function.starts_with("arn") {
                assert_eq!(parse_uri(function), UriTarget::Function(expected.to_owned()), "{function}");
            }
        }
        let service = "arn:aws:apigateway:us-east-1:dynamodb:action/PutItem";
        assert_eq!(parse_uri(service), UriTarget::Service("dynamodb:action/PutItem".to_owned()));
        for other in ["https://example.com", "arn:aws:s3:::bucket", "", &uri("a b"), &uri("")] {
            assert_eq!(parse_uri(other), UriTarget::Other, "{other}");
        }
    }
}
