// `config` of "jackfield": the values of the manifest.

import { native } from "../native.js";

export const config = {
  async get(key) {
    return native.config.get(key);
  },
  async getAll() {
    return Object.fromEntries(native.config.getAll());
  },
};
