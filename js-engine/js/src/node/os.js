// The module `node:os`: what a sandbox can say of its machine.
const none = () => ({});

export const os = {
  EOL: "\n",
  devNull: "/dev/null",
  arch: () => "wasm32",
  machine: () => "wasm32",
  platform: () => "linux",
  type: () => "Linux",
  release: () => "0.0.0",
  version: () => "jackfield",
  endianness: () => "LE",
  hostname: () => "localhost",
  homedir: () => "/",
  tmpdir: () => "/tmp",
  uptime: () => globalThis.performance.now() / 1000,
  loadavg: () => [0, 0, 0],
  totalmem: () => 2 ** 32,
  freemem: () => 2 ** 32,
  cpus: () => [],
  availableParallelism: () => 1,
  networkInterfaces: none,
  userInfo: () => ({ uid: 0, gid: 0, username: "root", homedir: "/", shell: null }),
  getPriority: () => 0,
  setPriority() {},
  constants: {
    signals: { SIGHUP: 1, SIGINT: 2, SIGQUIT: 3, SIGKILL: 9, SIGTERM: 15 },
    errno: { EADDRINUSE: 98, ECONNREFUSED: 111, ECONNRESET: 104, ENOENT: 2, EPIPE: 32, ETIMEDOUT: 110 },
    priority: {},
  },
};
