// What the node build of an AWS client (v3) reads from the environment, for the browser build, which reads nothing. The
// bundler puts `withEnvironment` around `getRuntimeConfig` of each client.
import { native } from "../native.js";
import { toBytes } from "../node/crypto/bytes.js";
import { concat } from "../web/bytes.js";

/** SHA-256, or HMAC with a secret, as the clients sign with it; in native code. */
class Sha256 {
  digestLength = 32;
  #secret;
  #chunks = [];

  constructor(secret) {
    this.#secret = secret === undefined ? undefined : toBytes(secret);
  }

  update(data) {
    this.#chunks.push(toBytes(data).slice());
  }

  async digest() {
    const message = concat(this.#chunks);
    if (this.#secret === undefined) return native.crypto.digest("sha256", message);
    return native.crypto.hmac("sha256", this.#secret, message);
  }

  reset() {
    this.#chunks = [];
  }
}

async function region() {
  const { AWS_REGION, AWS_DEFAULT_REGION } = process.env;
  const found = AWS_REGION || AWS_DEFAULT_REGION;
  if (!found) throw new Error("Region is missing: give the client a region, or set AWS_REGION in the manifest's env");
  return found;
}

async function credentials() {
  const { AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY, AWS_SESSION_TOKEN } = process.env;
  if (!AWS_ACCESS_KEY_ID || !AWS_SECRET_ACCESS_KEY) {
    const error = new Error(
      "Could not load credentials: give the client credentials, or set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY in the manifest's env",
    );
    error.name = "CredentialsProviderError";
    throw error;
  }
  const found = { accessKeyId: AWS_ACCESS_KEY_ID, secretAccessKey: AWS_SECRET_ACCESS_KEY };
  return AWS_SESSION_TOKEN ? { ...found, sessionToken: AWS_SESSION_TOKEN } : found;
}

/** The endpoint of a service: AWS_ENDPOINT_URL_DYNAMODB, or AWS_ENDPOINT_URL for all. */
function endpoint(serviceId) {
  const { env } = process;
  if (env.AWS_IGNORE_CONFIGURED_ENDPOINT_URLS === "true") return undefined;
  const name = `AWS_ENDPOINT_URL_${String(serviceId).replaceAll(/[ -]/g, "_").toUpperCase()}`;
  return env[name] || env.AWS_ENDPOINT_URL || undefined;
}

/** The runtime configuration of a client that `base` makes, with what the environment has for the keys that are not set. */
export function withEnvironment(base, configuration = {}) {
  const { AWS_MAX_ATTEMPTS, AWS_RETRY_MODE } = process.env;
  const config = { ...configuration };
  config.region ??= region;
  config.credentialDefaultProvider ??= () => credentials;
  config.sha256 ??= Sha256;
  if (AWS_MAX_ATTEMPTS) config.maxAttempts ??= Number(AWS_MAX_ATTEMPTS);
  if (AWS_RETRY_MODE) config.retryMode ??= AWS_RETRY_MODE;
  const resolved = base(config);
  resolved.endpoint ??= endpoint(resolved.serviceId);
  if (resolved.endpoint === undefined) delete resolved.endpoint;
  return resolved;
}
