// What a handler's file makes with `plugin`, `routes` and `authorizer`.

/** The functions of a plugin by the kind of the event. */
export class Plugin {
  constructor(functions) {
    this.functions = functions;
  }
}

/** The functions of a plugin by route key. */
export class Routes {
  constructor(functions) {
    this.functions = functions;
  }
}

/** The function of a request authorizer. */
export class Authorizer {
  constructor(authorize) {
    this.authorize = authorize;
  }
}

function checkFunctions(name, functions, known) {
  if (typeof functions !== "object" || functions === null) {
    throw new TypeError(`${name} expects an object with functions, but got ${functions === null ? "null" : typeof functions}`);
  }
  for (const [key, value] of Object.entries(functions)) {
    if (known && !known.includes(key)) throw new TypeError(`${name} has no ${JSON.stringify(key)}; it takes ${known.join(", ")}`);
    if (typeof value !== "function") throw new TypeError(`${name}: ${key} is not a function but ${value === null ? "null" : typeof value}`);
  }
  return functions;
}

/** One function for each kind of event; all are optional. */
export function plugin(functions) {
  return new Plugin(checkFunctions("plugin", functions, ["connect", "message", "disconnect"]));
}

/** One function for each route key, `$connect`, `$disconnect` and `$default` included. */
export function routes(functions) {
  return new Routes(checkFunctions("routes", functions));
}

/** The function that decides about an upgrade request. */
export function authorizer(authorize) {
  if (typeof authorize !== "function") throw new TypeError(`authorizer expects a function, but got ${typeof authorize}`);
  return new Authorizer(authorize);
}
