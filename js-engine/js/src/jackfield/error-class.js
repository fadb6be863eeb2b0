// How the classes of the errors that the host returns are made.

/** Makes a class of errors with a name and a status code of its own. `Base` takes a message and a status code. */
export function errorClass(Base, name, statusCode, message) {
  const type = class extends Base {
    constructor(text = message) {
      super(text, statusCode);
    }
  };
  Object.defineProperty(type, "name", { value: name });
  Object.defineProperty(type.prototype, "name", { value: name, configurable: true, writable: true });
  return type;
}
