// Globals that a program may look for and that a handler does not have. Each is refused by name at its first use.

function refuse(name, instead) {
  throw new Error(`${name} is not available in a handler${instead ? `; ${instead}` : ""}`);
}

function refusedClass(name, instead) {
  return { [name]: class { constructor() { refuse(name, instead); } } }[name];
}

const noCompression = "send and store the bytes as they are, or bundle a package that compresses in JavaScript";
export const CompressionStream = refusedClass("CompressionStream", noCompression);
export const DecompressionStream = refusedClass("DecompressionStream", noCompression);

const noWebAssembly = "write the handler itself in a language that compiles to WebAssembly, or use the package's JavaScript build";

export const WebAssembly = {};
for (const name of ["compile", "compileStreaming", "instantiate", "instantiateStreaming"]) {
  define(name, async () => refuse(`WebAssembly.${name}`, noWebAssembly));
}
define("validate", () => refuse("WebAssembly.validate", noWebAssembly));
for (const name of ["Module", "Instance", "Memory", "Table", "Global", "Tag"]) {
  define(name, { [name]: class { constructor() { refuse(`WebAssembly.${name}`, noWebAssembly); } } }[name]);
}
for (const name of ["CompileError", "LinkError", "RuntimeError"]) define(name, { [name]: class extends Error {} }[name]);
Object.defineProperty(WebAssembly, Symbol.toStringTag, { value: "WebAssembly", configurable: true });

function define(name, value) {
  Object.defineProperty(WebAssembly, name, { value, writable: true, configurable: true });
}
