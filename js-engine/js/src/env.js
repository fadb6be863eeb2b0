// The environment of the manifest. It is set before a file is loaded, and node's `process.env` is this object.

export const env = {};

export function setEnvironment(values) {
  for (const name of Object.keys(env)) delete env[name];
  Object.assign(env, values);
}
