// Errors of the host's HTTP client as errors of `fetch`: a message that names the reason and what to do, and as `cause` an
// error with the code that Node uses.

/** By the name that wasi:http gives to an error: the code in Node and the text. */
const REASONS = {
  "DNS-timeout": ["ENOTFOUND", "the name of the host could not be looked up in time"],
  "DNS-error": ["ENOTFOUND", "the name of the host could not be looked up"],
  "destination-not-found": ["ENOTFOUND", "the host was not found"],
  "destination-unavailable": ["ECONNREFUSED", "the host is not available"],
  "destination-IP-unroutable": ["EHOSTUNREACH", "there is no route to the address of the host"],
  "connection-refused": ["ECONNREFUSED", "the host refused the connection"],
  "connection-terminated": ["ECONNRESET", "the host closed the connection"],
  "connection-timeout": ["ETIMEDOUT", "the host did not accept the connection in time"],
  "connection-read-timeout": ["ETIMEDOUT", "the host sent nothing for too long"],
  "connection-write-timeout": ["ETIMEDOUT", "the host read nothing for too long"],
  "connection-limit-reached": ["EMFILE", "too many requests are open, or the event has sent all that it may send"],
  "TLS-protocol-error": ["EPROTO", "the TLS handshake failed"],
  "TLS-certificate-error": ["CERT_INVALID", "the certificate of the host is not valid"],
  "TLS-alert-received": ["EPROTO", "the host ended the TLS handshake"],
  "HTTP-request-method-invalid": ["EINVAL", "the method is not available"],
  "HTTP-request-URI-invalid": ["EINVAL", "the URL is not valid"],
  "HTTP-request-header-size": ["EMSGSIZE", "the headers of the request are too large"],
  "HTTP-request-URI-too-long": ["EMSGSIZE", "the URL is too long"],
  "HTTP-request-body-size": ["EMSGSIZE", "the body is longer or shorter than its content-length"],
  "HTTP-response-incomplete": ["ECONNRESET", "the response ended before it was complete"],
  "HTTP-response-header-size": ["EMSGSIZE", "the headers of the response are too large"],
  "HTTP-response-body-size": ["EMSGSIZE", "the response is too large"],
  "HTTP-response-timeout": ["ETIMEDOUT", "the host did not respond in time"],
  "HTTP-protocol-error": ["EPROTO", "the host does not speak HTTP"],
  "invalid": ["EINVAL", "the request is not valid"],
};

/**
 * Converts an error of the host. `error` is its name, or its name and a detail.
 * `url` is absent while a body is read. Only its origin is in the message: the rest may contain secrets.
 */
export function networkError(url, error) {
  const [name, detail] = Array.isArray(error) ? error : [error];
  const [code, reason] = reasonOf(name, url?.origin);
  const text = detail ? `${reason} (${detail})` : reason;
  const cause = new Error(text);
  cause.code = code;
  const failure = url ? `fetch ${url.origin} failed` : "the body of the response could not be read";
  return new TypeError(`${failure}: ${text}`, { cause });
}

function reasonOf(name, origin) {
  if (name === "HTTP-request-denied") {
    return ["EACCES", `the manifest does not allow it; add "${origin}" to allowed_hosts in the section of this handler, `
      + `as in allowed_hosts = ["${origin}"]`];
  }
  if (name === "destination-IP-prohibited") {
    return ["EACCES", "the address of the host is private; to allow it, write "
      + `{ url = "${origin}", private = true } in allowed_hosts in the section of this handler`];
  }
  return REASONS[name] ?? ["EIO", `the host's HTTP client reported ${name}`];
}

/** Returns an error of `fetch`. The message has the origin only: a path and a query may contain secrets. */
export function failed(url, reason) {
  return new TypeError(`fetch ${url.origin} failed: ${reason}`);
}
