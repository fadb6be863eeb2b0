//! Why a property has no counterpart, for those that API Gateway is known to have.

const TAGS: &str = "tags are of the bill that nobody sends here";
const DESCRIPTION: &str = "nothing shows it; a comment can say it";
const OF_HTTP_APIS: &str = "API Gateway has it for HTTP APIs only";
const LOGGING: &str = "what the log tells is chosen with RUST_LOG, and no message is in it";
const CREDENTIALS: &str = "no role is assumed; sign_with of a function signs with an access key";

/// Properties by the last part of a kind, and of their path the beginning.
const REASONS: &[(&str, &str, &str)] = &[
    ("Api", "DisableExecuteApiEndpoint", "every path of [server] listen is served; a proxy may answer for less"),
    ("Api", "DisableSchemaValidation", "schemas are always checked: `jackfield check` tells of them"),
    ("Api", "IpAddressType", "[server] listen says which addresses are listened at"),
    ("Api", "Version", DESCRIPTION),
    ("Api", "Body", OF_HTTP_APIS),
    ("Api", "BodyS3Location", OF_HTTP_APIS),
    ("Api", "CorsConfiguration", OF_HTTP_APIS),
    ("Api", "CredentialsArn", OF_HTTP_APIS),
    ("Api", "RouteKey", OF_HTTP_APIS),
    ("Api", "Target", OF_HTTP_APIS),
    ("Api", "BasePath", OF_HTTP_APIS),
    ("Api", "FailOnWarnings", OF_HTTP_APIS),
    (
        "WebSocketApi",
        "DisableExecuteApiEndpoint",
        "every path of [server] listen is served; a proxy may answer for less",
    ),
    ("WebSocketApi", "DisableSchemaValidation", "schemas are always checked: `jackfield check` tells of them"),
    ("WebSocketApi", "IpAddressType", "[server] listen says which addresses are listened at"),
    ("WebSocketApi", "PropagateTags", TAGS),
    ("WebSocketApi", "Domain", "names and certificates are those of a proxy in front"),
    ("WebSocketApi", "Auth.InvokeRole", CREDENTIALS),
    ("Stage", "AccessPolicyId", OF_HTTP_APIS),
    ("Stage", "ClientCertificateId", "no certificate is shown to an integration; a proxy between can"),
    ("Deployment", "StageName", "a stage is what a Stage says"),
    ("Route", "OperationName", "it names the route in SDKs that are generated"),
    ("Route", "AuthorizationScopes", OF_HTTP_APIS),
    ("RouteResponse", "ModelSelectionExpression", "answers are sent as the handler made them"),
    ("RouteResponse", "ResponseModels", "answers are sent as the handler made them"),
    ("RouteResponse", "ResponseParameters", "a message has no headers"),
    ("Integration", "ConnectionId", "the URL is asked as it is, with no link between"),
    ("Integration", "ConnectionType", "the URL is asked as it is, with no link between"),
    ("Integration", "CredentialsArn", CREDENTIALS),
    ("Integration", "ContentHandlingStrategy", "binary messages need no conversion: handlers get them as they are"),
    ("Integration", "PassthroughBehavior", "the message is always passed on as it is"),
    ("Integration", "TemplateSelectionExpression", "the message is sent as it is; there are no request templates"),
    ("Integration", "PayloadFormatVersion", "events have API Gateway's format for WebSocket APIs, the only one"),
    ("Integration", "TlsConfig", OF_HTTP_APIS),
    ("Integration", "IntegrationSubtype", OF_HTTP_APIS),
    ("Integration", "ResponseParameters", OF_HTTP_APIS),
    ("Integration", "RequestParameters", "a mock sends no request"),
    ("Integration", "IntegrationMethod", "it sends no request over HTTP"),
    ("Integration", "IntegrationUri", "a mock asks nobody"),
    ("IntegrationResponse", "ContentHandlingStrategy", "binary answers need no conversion: peers get them as they are"),
    ("Authorizer", "AuthorizerCredentialsArn", CREDENTIALS),
    ("Authorizer", "AuthorizerResultTtlInSeconds", OF_HTTP_APIS),
    ("Authorizer", "AuthorizerPayloadFormatVersion", OF_HTTP_APIS),
    ("Authorizer", "EnableSimpleResponses", OF_HTTP_APIS),
    ("Authorizer", "IdentityValidationExpression", "identity sources must be there, and are not matched"),
    ("Authorizer", "JwtConfiguration", OF_HTTP_APIS),
    ("ApiKey", "CustomerId", "it is of the AWS Marketplace"),
    ("ApiKey", "GenerateDistinctId", "the name of its section is its id"),
    ("ApiKey", "StageKeys", "stages are those of its usage plan"),
    ("UsagePlan", "UsagePlanName", DESCRIPTION),
    ("UsagePlan", "Quota.Offset", "a period begins with no requests counted"),
    ("UsagePlan", "ApiStages", "it is of another API"),
];

/// What is said of a property of a resource that nobody asked for.
pub fn reason(kind: &str, path: &str) -> &'static str {
    let kind = kind.rsplit("::").next().unwrap_or(kind);
    let last = path.rsplit('.').next().unwrap_or(path);
    let is_at = |property: &str| {
        path.strip_prefix(property).is_some_and(|rest| rest.is_empty() || rest.starts_with(['.', '[']))
    };
    if let Some((_, _, reason)) = REASONS.iter().find(|(of, property, _)| *of == kind && is_at(property)) {
        return reason;
    }
    match last {
        _ if is_at("Tags") => TAGS,
        "Description" => DESCRIPTION,
        "LoggingLevel" | "DataTraceEnabled" => LOGGING,
        "DetailedMetricsEnabled" => "[server] metrics tells of every route anyway",
        "DestinationArn" if path.contains("AccessLogSettings") => {
            "lines go to stdout, or where file of [access_log] says"
        }
        _ => match kind {
            "VpcLink"
            | "RoutingRule"
            | "ApiGatewayManagedOverrides"
            | "Portal"
            | "PortalProduct"
            | "ProductPage"
            | "ProductRestEndpointPage" => "it has no counterpart here",
            _ => "`jackfield import` does not know it; it is left out",
        },
    }
}
