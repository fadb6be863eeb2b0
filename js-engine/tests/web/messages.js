test("a MessageChannel carries copies in order, in tasks of their own", async () => {
  const { port1, port2 } = new MessageChannel();
  const received = [];
  const done = new Promise((resolve) => {
    port2.onmessage = (event) => {
      received.push(event.data);
      if (received.length === 2) resolve();
    };
  });
  const message = { a: [1] };
  port1.postMessage(message);
  port1.postMessage("second");
  message.a.push(2);
  assert.deepEqual(received, []);
  await done;
  assert.deepEqual(received, [{ a: [1] }, "second"]);
  port1.close();
});

test("a port that is transferred works at its new place", async () => {
  const outer = new MessageChannel();
  const inner = new MessageChannel();
  const answer = new Promise((resolve) => { inner.port1.onmessage = (event) => resolve(event.data); });
  outer.port2.onmessage = (event) => event.data.port.postMessage("through");
  outer.port1.postMessage({ port: inner.port2 }, [inner.port2]);
  assert.equal(await answer, "through");
  assert.throws(() => outer.port1.postMessage(outer.port1, [outer.port1]), "DataCloneError");
  outer.port1.close();
  inner.port1.close();
});

test("messages wait until the port is started", async () => {
  const { port1, port2 } = new MessageChannel();
  const received = [];
  port2.addEventListener("message", (event) => received.push(event.data));
  port1.postMessage(1);
  await new Promise((resolve) => setTimeout(resolve, 2));
  assert.deepEqual(received, []);
  port2.start();
  while (received.length === 0) await new Promise((resolve) => setTimeout(resolve, 1));
  assert.deepEqual(received, [1]);
  port1.close();
});
