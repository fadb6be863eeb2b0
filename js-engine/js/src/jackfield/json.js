// JSON.parse with a limit on nesting.
//
// QuickJS parses nested JSON recursively, and its own check of the stack does not see how much machine code uses. So text
// from a peer that is nested deeper than any real one would end the whole instance.

import { native } from "../native.js";

const DEPTH_MAX = 1000;

const { parse } = JSON;

Object.defineProperty(JSON, "parse", {
  configurable: true,
  writable: true,
  value: {
    parse(text, reviver) {
      const source = typeof text === "string" ? text : `${text}`;
      if (source.length > DEPTH_MAX && native.json.depth(source) > DEPTH_MAX) {
        throw new RangeError(`JSON that is nested deeper than ${DEPTH_MAX} levels cannot be parsed`);
      }
      return reviver === undefined ? parse(source) : parse(source, reviver);
    },
  }.parse,
});
