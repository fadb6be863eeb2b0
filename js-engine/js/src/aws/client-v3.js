// `@aws-sdk/client-apigatewaymanagementapi`, replaced whole. Endpoint, region and credentials are accepted and not used.
import { Failure, operations } from "./management.js";

/** The SDK's base class of the errors of services; `instanceof` goes by what an error has, as in the SDK. */
export class ServiceException extends Error {
  constructor({ name, $fault, $metadata, message, ...rest }) {
    super(message);
    Object.assign(this, { $fault, $metadata, name, message }, rest);
  }

  static isInstance(value) {
    return Boolean(value?.$fault && value.$metadata) && (value.$fault === "client" || value.$fault === "server");
  }

  static [Symbol.hasInstance](value) {
    if (!ServiceException.isInstance(value)) return false;
    if (this === ServiceException) return true;
    return this.prototype.isPrototypeOf(value) || (value.name === this.name && value.name !== "");
  }

  get statusCode() {
    return this.$metadata?.httpStatusCode;
  }
}

export class ApiGatewayManagementApiServiceException extends ServiceException {
  static [Symbol.hasInstance](value) {
    if (this !== ApiGatewayManagementApiServiceException) return ServiceException[Symbol.hasInstance].call(this, value);
    return this.prototype.isPrototypeOf(value);
  }
}

/** A class for one error of the service. */
function exception(name) {
  const made = {
    [name]: class extends ApiGatewayManagementApiServiceException {
      constructor(options) {
        super({ name, $fault: "client", ...options });
      }
    },
  };
  return made[name];
}

const exceptions = {};
for (const name of ["ForbiddenException", "GoneException", "LimitExceededException", "PayloadTooLargeException"]) {
  exceptions[name] = exception(name);
}

function metadata(httpStatusCode) {
  return {
    httpStatusCode,
    requestId: undefined,
    extendedRequestId: undefined,
    cfId: undefined,
    attempts: 1,
    totalRetryDelay: 0,
  };
}

function thrown(failure) {
  if (!(failure instanceof Failure)) return failure;
  const { name, status, message } = failure;
  const Exception = exceptions[name] ?? ApiGatewayManagementApiServiceException;
  return new Exception({ name, $fault: "client", $metadata: metadata(status), message });
}

/** Middleware cannot change a call of the host; adding some is accepted, so that tracing libraries work. */
const MIDDLEWARE_STACK = {
  remove: () => false,
  removeByTag: () => false,
  identify: () => [],
  identifyOnResolve: () => false,
  resolve: (handler) => handler,
};
for (const name of ["add", "addRelativeTo", "use", "clone", "concat", "applyToStack"]) {
  MIDDLEWARE_STACK[name] = () => MIDDLEWARE_STACK;
}

class Command {
  constructor(input) {
    this.input = input ?? {};
  }

  get middlewareStack() {
    return MIDDLEWARE_STACK;
  }

  static getEndpointParameterInstructions() {
    return {};
  }
}

function command(name, operation, success) {
  const made = {
    [name]: class extends Command {
      /** Calls the host; `ApiGatewayManagementApiClient.send` turns it into a promise. */
      run() {
        const { ConnectionId } = this.input;
        if (ConnectionId === undefined || ConnectionId === null) {
          throw new Error("No value provided for input HTTP label: ConnectionId.");
        }
        if (ConnectionId === "") throw new Error("Empty value provided for input HTTP label: ConnectionId.");
        return { $metadata: metadata(success), ...operations[operation](this.input) };
      }
    },
  };
  return made[name];
}

const commands = {
  PostToConnectionCommand: command("PostToConnectionCommand", "postToConnection", 200),
  GetConnectionCommand: command("GetConnectionCommand", "getConnection", 200),
  DeleteConnectionCommand: command("DeleteConnectionCommand", "deleteConnection", 204),
};

/** A value as the function that the SDK's resolved configuration has for it. */
const provider = (value) => (typeof value === "function" ? value : async () => value);

export class ApiGatewayManagementApiClient {
  #config;

  constructor(configuration = {}) {
    this.initConfig = configuration;
  }

  /** Made when it is asked for: a function often makes a client in each event, and hardly any reads this. */
  get config() {
    this.#config ??= {
      apiVersion: "2018-11-29",
      serviceId: "ApiGatewayManagementApi",
      ...this.initConfig,
      region: provider(this.initConfig.region ?? "us-east-1"),
    };
    return this.#config;
  }

  get middlewareStack() {
    return MIDDLEWARE_STACK;
  }

  send(request, optionsOrCallback, callback = optionsOrCallback) {
    let result;
    try {
      if (!(request instanceof Command)) {
        throw new TypeError("ApiGatewayManagementApiClient.send: the argument is no command of this client");
      }
      const signal = typeof optionsOrCallback === "object" ? optionsOrCallback?.abortSignal : undefined;
      if (signal?.aborted) throw Object.assign(new Error("Request aborted"), { name: "AbortError" });
      result = Promise.resolve(request.run());
    } catch (failure) {
      result = Promise.reject(thrown(failure));
    }
    if (typeof callback !== "function") return result;
    result.then(
      (output) => process.nextTick(callback, null, output),
      (error) => process.nextTick(callback, error),
    );
  }

  destroy() {}
}

export class ApiGatewayManagementApi extends ApiGatewayManagementApiClient {
  postToConnection(input, ...rest) {
    return this.send(new commands.PostToConnectionCommand(input), ...rest);
  }

  getConnection(input, ...rest) {
    return this.send(new commands.GetConnectionCommand(input), ...rest);
  }

  deleteConnection(input, ...rest) {
    return this.send(new commands.DeleteConnectionCommand(input), ...rest);
  }
}

export const clientV3 = {
  $Command: Command,
  __Client: ApiGatewayManagementApiClient,
  ApiGatewayManagementApi,
  ApiGatewayManagementApiClient,
  ApiGatewayManagementApiServiceException,
  ...commands,
  ...exceptions,
};
