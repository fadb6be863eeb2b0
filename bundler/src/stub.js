// Stands in for a module that does not exist. Packages often import modules that they use only in some cases, so
// reading a property returns another such object, and only a call, a construction or a conversion throws.
module.exports = function stub(name, reason) {
  function fail() {
    throw new Error(`${name} was used, but does not exist here: ${reason}`);
  }
  const members = new Map();
  function member(key) {
    // Whether it is an ES module or a promise is asked of any value.
    if (key === "__esModule" || key === "then") return undefined;
    if (key === Symbol.toPrimitive) return fail;
    if (typeof key === "symbol") return undefined;
    if (!members.has(key)) members.set(key, stub(`${name}.${key}`, reason));
    return members.get(key);
  }
  const names = new Proxy({}, { get: (_, key) => member(key) });
  const self = new Proxy(function () {}, {
    get: (target, key) => (key === "default" ? self : key === "prototype" ? target.prototype : member(key)),
    set: () => true,
    // A bundler makes an object with this prototype for named imports, which finds the members there.
    getPrototypeOf: () => names,
    apply: fail,
    construct: fail,
  });
  return self;
};
