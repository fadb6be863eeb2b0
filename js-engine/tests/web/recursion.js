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

limited("a function", 1600, function recurse(levels) {
  return levels === 0 ? 0 : 1 + recurse(levels - 1);
});
limited("a method", 1200, (levels) => {
  const it = { count(rest, list) { return rest === 0 ? list : this.count(rest - 1, list); } };
  it.count(levels, []);
});
limited("a constructor", 1200, function construct(levels) {
  class Node { constructor(rest) { if (rest > 0) this.next = new Node(rest - 1); } }
  new Node(levels);
});
limited("a getter", 900, (levels) => {
  const it = { get value() { return levels-- === 0 ? 0 : it.value; } };
  it.value;
});
limited("a proxy", 450, (levels) => {
  const it = new Proxy({}, { get(_, name, self) { return levels-- === 0 ? 0 : self[name]; } });
  it.value;
});
limited("a callback of an array", 300, function map(levels) {
  return levels === 0 ? 0 : [levels - 1].map(map);
});
limited("a callback of replace", 150, function replace(levels) {
  return levels === 0 ? "" : "a".replace("a", () => replace(levels - 1));
});
limited("a comparison of sort", 150, function sort(levels) {
  if (levels > 0) [1, 2].sort(() => sort(levels - 1));
});
limited("an async function", 450, async function recurse(levels) {
  return levels === 0 ? 0 : 1 + (await recurse(levels - 1));
});
limited("a generator", 450, (levels) => {
  function* count(rest) { if (rest > 0) yield* count(rest - 1); }
  for (const _ of count(levels));
});
limited("JSON.parse of arrays", 2500, (levels) => JSON.parse("[".repeat(levels) + "]".repeat(levels)));
limited("JSON.parse of objects", 2500, (levels) => JSON.parse('{"a":'.repeat(levels) + "1" + "}".repeat(levels)));
limited("JSON.parse with a reviver", 1600, (levels) => JSON.parse("[".repeat(levels) + "]".repeat(levels), (_, value) => value));
limited("JSON.stringify of arrays", 2500, (levels) => JSON.stringify(array(levels)));
limited("JSON.stringify of objects", 2500, (levels) => JSON.stringify(object(levels)));
limited("JSON.stringify with toJSON", 1600, (levels) => {
  const wrap = (rest) => ({ toJSON: () => (rest === 0 ? 0 : [wrap(rest - 1)]) });
  JSON.stringify(wrap(levels));
});
limited("structuredClone", 450, (levels) => structuredClone(array(levels)));
limited("flat", 1800, (levels) => array(levels).flat(Infinity));
limited("toString of an array", 200, (levels) => String(array(levels)));
limited("a proxy of a proxy", 1200, (levels) => nest(levels, (target) => new Proxy(Object(target), {})).name);
limited("a regular expression", 900, (levels) => new RegExp("(?:".repeat(levels) + "a" + ")".repeat(levels)), "SyntaxError");
limited("source of arrays", 600, around("[", "]"));
limited("source of parentheses", 600, around("(", ")"));
limited("source of calls", 600, around("f(", ")"));
limited("source of templates", 450, around("`${", "}`"));
limited("source of operators", 1800, around("!", ""));
limited("source of conditions", 1800, around("1?", ":1"));
limited("source of statements", 1200, (levels) => void new Function(`${"if(1)".repeat(levels)};`));

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
