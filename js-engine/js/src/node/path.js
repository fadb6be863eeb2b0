// The module `node:path`, of POSIX; `path.win32` is the same, as there are no Windows paths in a sandbox.
import base from "path-browserify";

export const path = {
  ...base,
  toNamespacedPath: (name) => name,
  matchesGlob() {
    throw new Error("path.matchesGlob is not available in a component handler");
  },
};
path.posix = path;
path.win32 = path;
