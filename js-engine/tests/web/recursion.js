// Whatever recurses too deep throws an error that can be caught, and the event goes on.

const LEVELS = 100_000;

/** Calls `run` with a number of levels. It has to work at `works` levels, and to throw a `RangeError` at `LEVELS`. */
function limited(name, works, run, error = "RangeError") {
  test(`${name} throws a ${error} when it is too deep`, async () => {
    await run(works);
    await assert.rejects((async () => run(LEVELS))(), error, error === "RangeError" ? "call stack" : "stack overflow");
    await run(works);
  });
}

function nest(levels, wrap) {
  let value = wrap(1);
  for (let level = 1; level < levels; level++) value = wrap(value);
  return value;
}

const array = (levels) => nest(levels, (value) => [value]);
const object = (levels) => nest(levels, (a) => ({ a }));
const around = (open, close) => (levels) => void new Function(`return ${open.repeat(levels)}1${close.repeat(levels)}`);

limited("a function", 5000, function recurse(levels) {
  return levels === 0 ? 0 : 1 + recurse(levels - 1);
});
limited("a method", 4000, (levels) => {
  const it = { count(rest, list) { return rest === 0 ? list : this.count(rest - 1, list); } };
  it.count(levels, []);
});
limited("a constructor", 4000, function construct(levels) {
  class Node { constructor(rest) { if (rest > 0) this.next = new Node(rest - 1); } }
  new Node(levels);
});
limited("a getter", 3000, (levels) => {
  const it = { get value() { return levels-- === 0 ? 0 : it.value; } };
  it.value;
});
limited("a proxy", 1500, (levels) => {
  const it = new Proxy({}, { get(_, name, self) { return levels-- === 0 ? 0 : self[name]; } });
  it.value;
});
limited("a callback of an array", 1000, function map(levels) {
  return levels === 0 ? 0 : [levels - 1].map(map);
});
limited("a callback of replace", 500, function replace(levels) {
  return levels === 0 ? "" : "a".replace("a", () => replace(levels - 1));
});
limited("a comparison of sort", 500, function sort(levels) {
  if (levels > 0) [1, 2].sort(() => sort(levels - 1));
});
limited("an async function", 1500, async function recurse(levels) {
  return levels === 0 ? 0 : 1 + (await recurse(levels - 1));
});
limited("a generator", 1500, (levels) => {
  function* count(rest) { if (rest > 0) yield* count(rest - 1); }
  for (const _ of count(levels));
});
limited("JSON.parse of arrays", 8000, (levels) => JSON.parse("[".repeat(levels) + "]".repeat(levels)));
limited("JSON.parse of objects", 8000, (levels) => JSON.parse('{"a":'.repeat(levels) + "1" + "}".repeat(levels)));
limited("JSON.parse with a reviver", 5000, (levels) => JSON.parse("[".repeat(levels) + "]".repeat(levels), (_, value) => value));
limited("JSON.stringify of arrays", 8000, (levels) => JSON.stringify(array(levels)));
limited("JSON.stringify of objects", 8000, (levels) => JSON.stringify(object(levels)));
limited("JSON.stringify with toJSON", 5000, (levels) => {
  const wrap = (rest) => ({ toJSON: () => (rest === 0 ? 0 : [wrap(rest - 1)]) });
  JSON.stringify(wrap(levels));
});
limited("structuredClone", 1500, (levels) => structuredClone(array(levels)));
limited("flat", 6000, (levels) => array(levels).flat(Infinity));
limited("toString of an array", 700, (levels) => String(array(levels)));
limited("a proxy of a proxy", 4000, (levels) => nest(levels, (target) => new Proxy(Object(target), {})).name);
limited("a regular expression", 3000, (levels) => new RegExp("(?:".repeat(levels) + "a" + ")".repeat(levels)), "SyntaxError");
limited("source of arrays", 2000, around("[", "]"));
limited("source of parentheses", 2000, around("(", ")"));
limited("source of calls", 2000, around("f(", ")"));
limited("source of templates", 1500, around("`${", "}`"));
limited("source of operators", 6000, around("!", ""));
limited("source of conditions", 6000, around("1?", ":1"));
limited("source of statements", 4000, (levels) => void new Function(`${"if(1)".repeat(levels)};`));

test("deep values that nothing recurses through work", async () => {
  await (async () => {
    let chain = Promise.resolve(0);
    for (let count = 0; count < LEVELS; count++) chain = chain.then((value) => value + 1);
    assert.equal(await chain, LEVELS);
  })();
  assert.equal(new Function(`return 0${"+1".repeat(LEVELS)}`)(), LEVELS);
  // Freed with the event.
  assert.equal(array(LEVELS).length, 1);
});
