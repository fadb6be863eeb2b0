// The modules that `import` and `require` find: "jackfield", "node:util", replaced packages.

const modules = new Map();
const advice = new Map();

/** Registers the exports of a built-in module. `exports.default`, if it is there, is the default export. */
export function builtin(name, exports) {
  modules.set(name, exports);
}

/** Registers a module that does not exist here, with a sentence that says what to use instead. */
export function absent(name, sentence) {
  advice.set(name, sentence);
}

export function isBuiltin(name) {
  return find(name) !== undefined;
}

/** Returns the exports of a built-in module. Throws by name if there is none. */
export function loadBuiltin(name) {
  const exports = find(name);
  if (exports !== undefined) return exports;
  const sentence = advice.get(name) ?? advice.get(`node:${name}`) ?? "";
  const error = new Error(`there is no module ${JSON.stringify(name)} here${sentence && `: ${sentence}`}`);
  error.code = "MODULE_NOT_FOUND";
  throw error;
}

// Not for authors: a test compares them with builtins.json, which host and bundler read.
builtin("jackfield:modules", { names: () => [...modules.keys()] });

function find(name) {
  return modules.get(name) ?? modules.get(`node:${name}`);
}
