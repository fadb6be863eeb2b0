test("an event reaches its listeners in the order in which they were added", () => {
  const target = new EventTarget();
  const seen = [];
  target.addEventListener("x", () => seen.push("first"));
  target.addEventListener("x", { handleEvent(event) { seen.push(event.type, event.target === target, this !== undefined); } });
  target.addEventListener("y", () => seen.push("wrong"));
  assert.equal(target.dispatchEvent(new Event("x")), true);
  assert.deepEqual(seen, ["first", "x", true, true]);
});

test("a listener is added once, and can be removed", () => {
  const target = new EventTarget();
  let count = 0;
  const listener = () => count++;
  target.addEventListener("x", listener);
  target.addEventListener("x", listener);
  target.dispatchEvent(new Event("x"));
  assert.equal(count, 1);
  target.removeEventListener("x", listener);
  target.dispatchEvent(new Event("x"));
  assert.equal(count, 1);
  target.addEventListener("x", listener, { once: true });
  target.dispatchEvent(new Event("x"));
  target.dispatchEvent(new Event("x"));
  assert.equal(count, 2);
  const controller = new AbortController();
  target.addEventListener("x", listener, { signal: controller.signal });
  controller.abort();
  target.dispatchEvent(new Event("x"));
  assert.equal(count, 2);
});

test("a listener that is removed while the event is dispatched is not called", () => {
  const target = new EventTarget();
  const seen = [];
  const second = () => seen.push("second");
  target.addEventListener("x", () => {
    target.removeEventListener("x", second);
    target.addEventListener("x", () => seen.push("late"));
  });
  target.addEventListener("x", second);
  target.dispatchEvent(new Event("x"));
  assert.deepEqual(seen, []);
});

test("an event can be cancelled and stopped", () => {
  const target = new EventTarget();
  const seen = [];
  target.addEventListener("x", (event) => event.preventDefault(), { passive: true });
  target.addEventListener("x", (event) => { seen.push(event.defaultPrevented); event.preventDefault(); });
  target.addEventListener("x", (event) => event.stopImmediatePropagation());
  target.addEventListener("x", () => seen.push("stopped"));
  assert.equal(target.dispatchEvent(new Event("x", { cancelable: true })), false);
  assert.deepEqual(seen, [false]);
  assert.equal(target.dispatchEvent(new Event("x")), true);
});

test("an event cannot be dispatched while it is dispatched", () => {
  const target = new EventTarget();
  let error;
  target.addEventListener("x", (event) => {
    try { target.dispatchEvent(event); } catch (caught) { error = caught; }
  });
  target.dispatchEvent(new Event("x"));
  assert.equal(error.name, "InvalidStateError");
  assert.throws(() => target.dispatchEvent({ type: "x" }), "TypeError");
});

test("events have their standard properties", () => {
  const event = new Event("x", { cancelable: true });
  assert.equal(event.type, "x");
  assert.equal(event.bubbles, false);
  assert.equal(event.cancelable, true);
  assert.equal(event.target, null);
  assert.equal(event.eventPhase, Event.NONE);
  assert.equal(typeof event.timeStamp, "number");
  assert.equal(new CustomEvent("c", { detail: { a: 1 } }).detail.a, 1);
  assert.equal(new CustomEvent("c").detail, null);
  assert.equal(Object.prototype.toString.call(event), "[object Event]");
  assert.throws(() => new Event(), "TypeError");
});

test("EventTarget can be extended", () => {
  class Bus extends EventTarget {
    emit(type, detail) { return this.dispatchEvent(new CustomEvent(type, { detail })); }
  }
  const bus = new Bus();
  let detail;
  bus.addEventListener("hello", (event) => { detail = event.detail; });
  bus.emit("hello", 42);
  assert.equal(detail, 42);
});

test("DOMException is an error with a name and a code", () => {
  const error = new DOMException("gone", "AbortError");
  assert.ok(error instanceof Error);
  assert.equal(error.name, "AbortError");
  assert.equal(error.message, "gone");
  assert.equal(error.code, 20);
  assert.equal(DOMException.ABORT_ERR, 20);
  assert.equal(new DOMException().name, "Error");
  assert.equal(String(error), "AbortError: gone");
  assert.ok(typeof error.stack === "string");
});
