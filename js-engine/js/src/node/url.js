// The module `node:url`: the web platform's URL, and npm's `url` for the functions from before it.
import legacy from "url/";
import { coded, invalidType } from "./errors.js";
import { querystring } from "./querystring.js";

const KEPT_IN_PATHS = { "%": "%25", "\\": "%5C", "\n": "%0A", "\r": "%0D", "\t": "%09", "?": "%3F", "#": "%23" };

function fileURLToPath(value) {
  const url = typeof value === "string" ? new URL(value) : value;
  if (!(url instanceof URL)) throw invalidType("path", "of type string or an instance of URL", value);
  if (url.protocol !== "file:") throw coded(new TypeError("The URL must be of scheme file"), "ERR_INVALID_URL_SCHEME");
  if (url.hostname !== "") {
    throw coded(new TypeError('File URL host must be "localhost" or empty on linux'), "ERR_INVALID_FILE_URL_HOST");
  }
  if (/%2f/i.test(url.pathname)) {
    throw coded(new TypeError("File URL path must not include encoded / characters"), "ERR_INVALID_FILE_URL_PATH");
  }
  return decodeURIComponent(url.pathname);
}

function pathToFileURL(path) {
  const absolute = path.startsWith("/") ? path : `/${path}`;
  return new URL(`file://${absolute.replace(/[%\\\n\r\t?#]/g, (character) => KEPT_IN_PATHS[character])}`);
}

function hostOf(domain) {
  try {
    return new URL(`ws://${domain}`).hostname;
  } catch {
    return "";
  }
}

function urlToHttpOptions(url) {
  const options = {
    protocol: url.protocol,
    hostname: url.hostname.startsWith("[") ? url.hostname.slice(1, -1) : url.hostname,
    hash: url.hash,
    search: url.search,
    pathname: url.pathname,
    path: `${url.pathname}${url.search}`,
    href: url.href,
  };
  if (url.port !== "") options.port = Number(url.port);
  if (url.username || url.password) {
    options.auth = `${decodeURIComponent(url.username)}:${decodeURIComponent(url.password)}`;
  }
  return options;
}

function format(value, options) {
  if (!(value instanceof URL)) return legacy.format(value);
  const copy = new URL(value.href);
  if (options?.fragment === false) copy.hash = "";
  if (options?.search === false) copy.search = "";
  if (options?.auth === false) [copy.username, copy.password] = ["", ""];
  return copy.href;
}

function parse(text, parseQuery, slashes) {
  const parsed = legacy.parse(text, false, slashes);
  // npm's `url` nests `a[b]=1` in its query; node does not.
  if (parseQuery) {
    parsed.query = querystring.parse(parsed.query ?? "");
    if (parsed.search === null) parsed.search = "";
  }
  return parsed;
}

export const url = {
  Url: legacy.Url,
  parse,
  format,
  resolve: legacy.resolve,
  resolveObject: legacy.resolveObject,
  fileURLToPath,
  pathToFileURL,
  urlToHttpOptions,
  domainToASCII: hostOf,
  domainToUnicode: hostOf,
  get URL() {
    return globalThis.URL;
  },
  get URLSearchParams() {
    return globalThis.URLSearchParams;
  },
};
