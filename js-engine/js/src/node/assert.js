// The modules `node:assert` and `node:assert/strict`: npm's `assert`.
import assert from "assert/";
import { isDeepStrictEqual } from "assert/build/internal/util/comparisons.js";
import { util } from "./util.js";

util.isDeepStrictEqual = isDeepStrictEqual;

export { assert };
export const { strict } = assert;
