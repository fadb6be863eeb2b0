//! Lambda functions: which one a URI names, and where it is invoked here.

use super::toml::{Section, Toml};

/// What an integration or an authorizer of API Gateway calls.
#[derive(Debug, PartialEq, Eq)]
pub enum Called {
    /// A name, perhaps with its alias behind a colon.
    Function(String),
    /// A service of AWS, such as `dynamodb:action/PutItem`.
    Service(String),
    Other,
}

/// What an ARN of `Integration.IntegrationUri` or `Authorizer.AuthorizerUri` names.
pub fn called(uri: &str) -> Called {
    let inside = uri.split_once(":lambda:path/").and_then(|(_, path)| path.split_once("/functions/"));
    let function = inside.map(|(_, function)| function.strip_suffix("/invocations").unwrap_or(function));
    // A mere ARN is no URI of API Gateway, but it is clear what is meant.
    if let Some(function) = function.or_else(|| uri.contains(":lambda:").then_some(uri)) {
        let name = name(function);
        let allowed = |c: char| c.is_ascii_alphanumeric() || "-_:.${}".contains(c);
        let good = !name.is_empty() && name.chars().all(allowed);
        return if good { Called::Function(name.to_owned()) } else { Called::Other };
    }
    match uri.strip_prefix("arn:").map(|rest| rest.splitn(5, ':').collect::<Vec<_>>()).as_deref() {
        Some([_, "apigateway", _, service, action]) => Called::Service(format!("{service}:{action}")),
        _ => Called::Other,
    }
}

/// The name in the ARN of a function; what is no ARN is a name.
pub fn name(function: &str) -> &str {
    function.split_once(":function:").map_or(function, |(_, name)| name)
}

/// The keys of `type = "lambda"` that say what is invoked.
pub fn section(endpoint: &str, function: &str) -> Section {
    Section::default()
        .with("type", Toml::text("lambda"))
        .with("endpoint", Toml::text(endpoint))
        .with("function", Toml::text(function))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_function_of_a_uri_is_found() {
        let uri = |function: &str| {
            format!("arn:aws:apigateway:us-east-1:lambda:path/2015-03-31/functions/{function}/invocations")
        };
        for (function, expected) in [
            ("arn:aws:lambda:us-east-1:000000000000:function:chat", "chat"),
            ("arn:aws:lambda:us-east-1:000000000000:function:chat:live", "chat:live"),
            ("arn:aws-cn:lambda:cn-north-1:1:function:chat-${stageVariables.alias}", "chat-${stageVariables.alias}"),
            ("${stageVariables.ChatArn}", "${stageVariables.ChatArn}"),
        ] {
            assert_eq!(called(&uri(function)), Called::Function(expected.to_owned()), "{function}");
            if function.starts_with("arn") {
                assert_eq!(called(function), Called::Function(expected.to_owned()), "{function}");
            }
        }
        let service = "arn:aws:apigateway:us-east-1:dynamodb:action/PutItem";
        assert_eq!(called(service), Called::Service("dynamodb:action/PutItem".to_owned()));
        for other in ["https://example.com", "arn:aws:s3:::bucket", "", &uri("a b"), &uri("")] {
            assert_eq!(called(other), Called::Other, "{other}");
        }
    }
}
