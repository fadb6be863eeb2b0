// What `console` writes into the log.
console.log("at the top level");

class Point {
  constructor(x) {
    this.x = x;
  }
}

export const handler = async () => {
  console.debug("a debug line");
  console.log("%s is %d of %j, %i and %o%%", "one", 1.5, { a: 1 }, "42px", [1]);
  console.info({ a: { b: { c: { d: 1 } } } }, [1, "two", undefined, null, -0], new Map([["k", new Set([1])]]), new Point(3));
  console.warn(new TypeError("shown with its stack"));
  console.error(Symbol("s"), 10n, function named() {}, new Date(0), /x/g, new Uint8Array(2));
  const circle = {};
  circle.self = circle;
  console.error(circle, Object.create(null), { get a() { return 1; } }, "it's");
  return { statusCode: 200, body: "logged" };
};
