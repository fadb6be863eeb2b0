// `aws-sdk` (v2), of which a component handler has ApiGatewayManagementApi alone.
import { unavailable } from "../node/errors.js";
import { Failure, operations } from "./management.js";

function missing(name) {
  return unavailable(`AWS.${name} of aws-sdk (v2)`, 'use the client of @aws-sdk (v3), or `type = "lambda"` for this function');
}

/** The error that v2 throws: `code` is its name, and `statusCode` that of HTTP. */
function thrown(failure) {
  if (!(failure instanceof Failure)) return failure;
  const { name, status, message } = failure;
  const error = new Error(message);
  error.name = name;
  return Object.assign(error, {
    code: name,
    statusCode: status,
    time: new Date(),
    requestId: undefined,
    retryable: status === 429,
  });
}

class Request {
  #run;
  #listeners = { success: [], error: [], complete: [] };

  constructor(operation, params) {
    this.operation = operation;
    this.params = params;
    this.#run = () => {
      if (params.ConnectionId === undefined || params.ConnectionId === null) {
        const error = new Error("Missing required key 'ConnectionId' in params");
        throw Object.assign(error, { name: "MissingRequiredParameter", code: "MissingRequiredParameter", time: new Date() });
      }
      return operations[operation](params);
    };
  }

  on(event, listener) {
    (this.#listeners[event] ??= []).push(listener);
    return this;
  }

  send(callback) {
    this.promise().then(
      (data) => process.nextTick(() => callback?.call({ data, error: null }, null, data)),
      (error) => process.nextTick(() => callback?.call({ data: null, error }, error, null)),
    );
    return this;
  }

  async promise() {
    const response = { request: this, data: null, error: null };
    try {
      response.data = this.#run();
    } catch (failure) {
      response.error = thrown(failure);
    }
    const { success, error, complete } = this.#listeners;
    if (response.error === null) for (const listener of success) listener(response);
    else for (const listener of error) listener(response.error, response);
    for (const listener of complete) listener(response);
    if (response.error !== null) throw response.error;
    return response.data;
  }

  abort() {
    return this;
  }
}

export class ApiGatewayManagementApi {
  constructor(configuration = {}) {
    this.config = { ...sdkV2.config, ...configuration };
    this.endpoint = { href: configuration.endpoint };
  }

  /** v2 lets both be set after construction. */
  setEndpoint(endpoint) {
    this.endpoint = { href: endpoint };
  }

  makeRequest(operation, params, callback) {
    if (typeof operations[operation] !== "function") throw missing(`ApiGatewayManagementApi.${operation}`);
    if (typeof params === "function") [params, callback] = [{}, params];
    const request = new Request(operation, params ?? {});
    if (typeof callback === "function") request.send(callback);
    return request;
  }
}
for (const operation of Object.keys(operations)) {
  ApiGatewayManagementApi.prototype[operation] = function (params, callback) {
    return this.makeRequest(operation, params, callback);
  };
}

/** The services that ES modules may import by name; each of them throws at its first use. */
const OTHERS = [
  "APIGateway",
  "ApiGatewayV2",
  "AppSync",
  "Athena",
  "Batch",
  "CloudFormation",
  "CloudFront",
  "CloudWatch",
  "CloudWatchEvents",
  "CloudWatchLogs",
  "CognitoIdentity",
  "CognitoIdentityServiceProvider",
  "Comprehend",
  "DynamoDB",
  "DynamoDBStreams",
  "EC2",
  "ECS",
  "EventBridge",
  "Firehose",
  "Glue",
  "Iot",
  "IotData",
  "KMS",
  "Kinesis",
  "Lambda",
  "Pinpoint",
  "Polly",
  "RDS",
  "RDSDataService",
  "Rekognition",
  "Route53",
  "S3",
  "SES",
  "SESV2",
  "SNS",
  "SQS",
  "SSM",
  "STS",
  "SecretsManager",
  "StepFunctions",
  "Textract",
  "Translate",
  "XRay",
];

function refusing(name) {
  const refuse = () => {
    throw missing(name);
  };
  return new Proxy(class {}, {
    construct: refuse,
    apply: refuse,
    get(target, property) {
      // Tools that copy a module's exports look at these.
      if (typeof property === "symbol" || property in target) return target[property];
      throw missing(`${name}.${property}`);
    },
  });
}

class Config {
  constructor(options) {
    Object.assign(this, options);
  }

  update(options) {
    Object.assign(this, options);
  }

  setPromisesDependency() {}

  getCredentials(callback) {
    callback(null, this.credentials);
  }
}

class Credentials {
  constructor(accessKeyId, secretAccessKey, sessionToken) {
    const fields = typeof accessKeyId === "object" ? accessKeyId : { accessKeyId, secretAccessKey, sessionToken };
    Object.assign(this, fields);
  }
}

class Endpoint {
  constructor(endpoint) {
    this.href = String(endpoint);
    this.host = this.href.replace(/^\w+:\/\//, "").replace(/\/.*$/, "");
  }
}

export const sdkV2 = {
  ApiGatewayManagementApi,
  Config,
  Credentials,
  Endpoint,
  Request,
  VERSION: "2.1692.0",
  config: new Config({}),
};
for (const name of OTHERS) sdkV2[name] = refusing(name);

/** The modules below `aws-sdk/clients/`, by name. */
export const clientsV2 = Object.fromEntries(
  ["ApiGatewayManagementApi", ...OTHERS].map((name) => [name.toLowerCase(), sdkV2[name]]),
);
