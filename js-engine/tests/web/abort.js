const wait = (milliseconds) => new Promise((resolve) => setTimeout(resolve, milliseconds));

test("an AbortController aborts its signal once", () => {
  const controller = new AbortController();
  const { signal } = controller;
  const seen = [];
  signal.addEventListener("abort", (event) => seen.push(event.type));
  signal.onabort = () => seen.push("handler");
  assert.equal(signal.aborted, false);
  signal.throwIfAborted();
  controller.abort();
  controller.abort("later");
  assert.deepEqual(seen, ["abort", "handler"]);
  assert.equal(signal.aborted, true);
  assert.equal(signal.reason.name, "AbortError");
  assert.throws(() => signal.throwIfAborted(), "AbortError");
});

test("the reason of an abort is what the caller gives", () => {
  const controller = new AbortController();
  controller.abort("why");
  assert.equal(controller.signal.reason, "why");
  assert.equal(AbortSignal.abort(7).reason, 7);
  assert.equal(AbortSignal.abort().reason.name, "AbortError");
});

test("AbortSignal.timeout aborts with a TimeoutError", async () => {
  const signal = AbortSignal.timeout(5);
  assert.equal(signal.aborted, false);
  await new Promise((resolve) => {
    // The timer of the signal keeps no event running, so this one does.
    const running = setInterval(() => {}, 1000);
    signal.addEventListener("abort", () => { clearInterval(running); resolve(); });
  });
  assert.equal(signal.reason.name, "TimeoutError");
  assert.throws(() => AbortSignal.timeout(-1), "RangeError");
});

test("AbortSignal.any follows the first of its signals", async () => {
  const [one, two] = [new AbortController(), new AbortController()];
  const any = AbortSignal.any([one.signal, two.signal]);
  const nested = AbortSignal.any([any]);
  const seen = [];
  one.signal.addEventListener("abort", () => seen.push(any.aborted));
  nested.addEventListener("abort", () => seen.push(nested.reason));
  assert.equal(any.aborted, false);
  one.abort("first");
  two.abort("second");
  assert.equal(any.reason, "first");
  assert.deepEqual(seen, [true, "first"]);
  assert.equal(AbortSignal.any([two.signal, one.signal]).reason, "second");
  assert.equal(AbortSignal.any([]).aborted, false);
  const late = new AbortController();
  const racing = AbortSignal.any([late.signal, AbortSignal.timeout(2)]);
  while (!racing.aborted) await wait(1);
  assert.equal(racing.reason.name, "TimeoutError");
});

test("a signal cannot be constructed", () => {
  assert.throws(() => new AbortSignal(), "TypeError");
});
