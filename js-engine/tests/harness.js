// The test runner of the engine. A test file calls `test(name, function)` and `assert`; host/tests/engine.rs appends it to
// this file, and loads both together as one handler, whose events run all tests; each function gets the event. The response
// is JSON: `{ passed: ["name"], failed: [{ name, message, stack }] }`.

const tests = [];

function test(name, run) {
  tests.push({ name, run });
}

const assert = {
  ok(value, message = "the value is falsy") {
    if (!value) throw new Error(`${message}: ${show(value)}`);
  },
  equal(actual, expected) {
    if (!Object.is(actual, expected)) throw new Error(`expected ${show(expected)}, found ${show(actual)}`);
  },
  deepEqual(actual, expected) {
    if (show(actual) !== show(expected)) throw new Error(`expected ${show(expected)}, found ${show(actual)}`);
  },
  /** Checks that `run` throws an error with this name and a message that contains these words, and returns the error. */
  throws(run, name, ...words) {
    let result;
    try {
      result = run();
    } catch (error) {
      return checkError(error, name, words);
    }
    throw new Error(`expected ${name}, but nothing was thrown; the result is ${show(result)}`);
  },
  async rejects(promise, name, ...words) {
    let result;
    try {
      result = await promise;
    } catch (error) {
      return checkError(error, name, words);
    }
    throw new Error(`expected ${name}, but the promise was resolved with ${show(result)}`);
  },
};

function checkError(error, name, words) {
  const message = String(error?.message);
  if (error?.name !== name || !words.every((word) => message.includes(word))) {
    throw new Error(`expected ${name} with ${words.join(", ")}, found ${error?.name}: ${message}\n${error?.stack}`);
  }
  return error;
}

/** Writes a value so that two of them are the same text if they are equal in depth. */
function show(value) {
  if (typeof value === "string") return JSON.stringify(value);
  if (typeof value === "bigint") return `${value}n`;
  if (Object.is(value, -0)) return "-0";
  if (typeof value !== "object" || value === null) return String(value);
  if (value instanceof Error) return `${value.name}(${value.message})`;
  if (ArrayBuffer.isView(value)) return `${value.constructor.name}[${new Uint8Array(value.buffer, value.byteOffset, value.byteLength).join(" ")}]`;
  if (value instanceof ArrayBuffer) return `ArrayBuffer[${new Uint8Array(value).join(" ")}]`;
  if (value instanceof Map) return `Map(${[...value].map(([key, item]) => `${show(key)} => ${show(item)}`).join(", ")})`;
  if (value instanceof Set) return `Set(${[...value].map(show).join(", ")})`;
  if (value instanceof Date) return `Date(${value.getTime()})`;
  if (Array.isArray(value)) return `[${value.map(show).join(", ")}]`;
  return `{${Object.keys(value).sort().map((key) => `${key}: ${show(value[key])}`).join(", ")}}`;
}

async function runTests(word, event) {
  const passed = [];
  const failed = [];
  for (const { name, run } of tests) {
    if (!name.includes(word)) continue;
    try {
      await run(event);
      passed.push(name);
    } catch (error) {
      failed.push({ name, message: String(error?.message ?? error), stack: String(error?.stack ?? "") });
    }
  }
  return { passed, failed };
}

// A message selects tests by a word: as its whole body, or as `word` of JSON.
export const handler = async (event) => {
  const body = event?.body ?? "";
  const word = body.startsWith("{") ? JSON.parse(body).word ?? "" : body;
  return { statusCode: 200, body: JSON.stringify(await runTests(word, event)) };
};
