//! Reasons why properties of API Gateway have no counterpart.

const TAGS: &str = "tags are for AWS billing, which does not apply here";
const DESCRIPTION: &str = "descriptions are not used; write a comment instead";
const ONLY_HTTP_APIS: &str = "API Gateway supports it only for HTTP APIs";
const LOGGING: &str = "the log level is set with RUST_LOG; messages are never logged";
const CREDENTIALS: &str = "roles are not assumed; to sign requests with an access key, set sign_with of the function";

/// Last part of the resource type, start of the property path, and reason.
const REASONS: &[(&str, &str, &str)] = &[
    ("Api", "DisableExecuteApiEndpoint", "all paths at [server] listen are served; restrict them with a reverse proxy"),
    ("Api", "DisableSchemaValidation", "schemas are always validated by `jackfield check`"),
    ("Api", "IpAddressType", "addresses are set with [server] listen"),
    ("Api", "Version", DESCRIPTION),
    ("Api", "Body", ONLY_HTTP_APIS),
    ("Api", "BodyS3Location", ONLY_HTTP_APIS),
    ("Api", "CorsConfiguration", ONLY_HTTP_APIS),
    ("Api", "CredentialsArn", ONLY_HTTP_APIS),
    ("Api", "RouteKey", ONLY_HTTP_APIS),
    ("Api", "Target", ONLY_HTTP_APIS),
    ("Api", "BasePath", ONLY_HTTP_APIS),
    ("Api", "FailOnWarnings", ONLY_HTTP_APIS),
    (
        "WebSocketApi",
        "DisableExecuteApiEndpoint",
        "all paths at [server] listen are served; restrict them with a reverse proxy",
    ),
    ("WebSocketApi", "DisableSchemaValidation", "schemas are always validated by `jackfield check`"),
    ("WebSocketApi", "IpAddressType", "addresses are set with [server] listen"),
    ("WebSocketApi", "PropagateTags", TAGS),
    ("WebSocketApi", "Domain", "domain names and certificates belong to a reverse proxy"),
    ("WebSocketApi", "Auth.InvokeRole", CREDENTIALS),
    ("Stage", "AccessPolicyId", ONLY_HTTP_APIS),
    (
        "Stage",
        "ClientCertificateId",
        "client certificates are not sent to integrations; a proxy in between can add one",
    ),
    ("Deployment", "StageName", "stages are imported from Stage resources"),
    ("Route", "OperationName", "it only names the route in generated SDKs"),
    ("Route", "AuthorizationScopes", ONLY_HTTP_APIS),
    ("RouteResponse", "ModelSelectionExpression", "responses of handlers are sent unchanged"),
    ("RouteResponse", "ResponseModels", "responses of handlers are sent unchanged"),
    ("RouteResponse", "ResponseParameters", "messages have no headers"),
    ("Integration", "ConnectionId", "requests are sent directly to the URL, without a VPC link"),
    ("Integration", "ConnectionType", "requests are sent directly to the URL, without a VPC link"),
    ("Integration", "CredentialsArn", CREDENTIALS),
    ("Integration", "ContentHandlingStrategy", "binary messages are passed to handlers unchanged"),
    ("Integration", "PassthroughBehavior", "messages are always passed on unchanged"),
    ("Integration", "TemplateSelectionExpression", "messages are sent unchanged; request templates are not supported"),
    ("Integration", "PayloadFormatVersion", "WebSocket APIs have only one event format"),
    ("Integration", "TlsConfig", ONLY_HTTP_APIS),
    ("Integration", "IntegrationSubtype", ONLY_HTTP_APIS),
    ("Integration", "ResponseParameters", ONLY_HTTP_APIS),
    ("Integration", "RequestParameters", "a mock sends no request"),
    ("Integration", "IntegrationMethod", "the integration sends no HTTP request"),
    ("Integration", "IntegrationUri", "a mock sends no request"),
    ("IntegrationResponse", "ContentHandlingStrategy", "binary responses are sent to peers unchanged"),
    ("Authorizer", "AuthorizerCredentialsArn", CREDENTIALS),
    ("Authorizer", "AuthorizerResultTtlInSeconds", ONLY_HTTP_APIS),
    ("Authorizer", "AuthorizerPayloadFormatVersion", ONLY_HTTP_APIS),
    ("Authorizer", "EnableSimpleResponses", ONLY_HTTP_APIS),
    ("Authorizer", "IdentityValidationExpression", "identity sources must be present; their values are not matched"),
    ("Authorizer", "JwtConfiguration", ONLY_HTTP_APIS),
    ("ApiKey", "CustomerId", "it is only for the AWS Marketplace"),
    ("ApiKey", "GenerateDistinctId", "the name of its section in the manifest is its id"),
    ("ApiKey", "StageKeys", "stages are imported from its usage plan"),
    ("UsagePlan", "UsagePlanName", DESCRIPTION),
    ("UsagePlan", "Quota.Offset", "the count starts at zero in each period"),
    ("UsagePlan", "ApiStages", "it is for another API"),
];

/// Returns why an unread property has no counterpart.
pub fn reason(kind: &str, path: &str) -> &'static str {
    let kind = kind.rsplit("::").next().unwrap_or(kind);
    let last = path.rsplit('.').next().unwrap_or(path);
    let is_at = |property: &str| {
        path.strip_prefix(property).is_some_and(|rest| rest.is_empty() || rest.starts_with(['.', '[']))
    };
    if let Some((_, _, reason)) = REASONS.iter().find(|(suffix, property, _)| *suffix == kind && is_at(property)) {
        return reason;
    }
    match last {
        _ if is_at("Tags") => TAGS,
        "Description" => DESCRIPTION,
        "LoggingLevel" | "DataTraceEnabled" => LOGGING,
        "DetailedMetricsEnabled" => "[server] metrics always has metrics for each route",
        "DestinationArn" if path.contains("AccessLogSettings") => {
            "lines are written to stdout, or to the file in [access_log]"
        }
        _ => match kind {
            "VpcLink"
            | "RoutingRule"
            | "ApiGatewayManagedOverrides"
            | "Portal"
            | "PortalProduct"
            | "ProductPage"
            | "ProductRestEndpointPage" => "this resource type has no counterpart",
            _ => "unknown to `jackfield import`; it is omitted",
        },
    }
}
