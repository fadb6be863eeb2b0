// The module `node:punycode`.
import * as base from "punycode/";

export const punycode = base.default ?? base;
