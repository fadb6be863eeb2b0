// The module `node:string_decoder`: npm's, which has node's own code.
import * as base from "string_decoder/";

export const stringDecoder = base.default ?? base;
