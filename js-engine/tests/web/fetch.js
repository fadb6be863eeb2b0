// Two origins of the test server, and one where nothing listens.
const { SERVER, OTHER, CLOSED } = process.env;

test("a request arrives with its method, path, headers and body", async () => {
  const response = await fetch(`${SERVER}/echo?a=1#fragment`, { method: "POST", body: "hällo", headers: { "X-Own": "yes" } });
  assert.equal(response.status, 200);
  assert.equal(response.statusText, "OK");
  assert.equal(response.ok, true);
  assert.equal(response.type, "basic");
  assert.equal(response.url, `${SERVER}/echo?a=1`);
  assert.equal(response.redirected, false);
  const request = await response.json();
  assert.equal(request.method, "POST");
  assert.equal(request.path, "/echo?a=1");
  assert.equal(request.headers["x-own"], "yes");
  assert.equal(request.headers["content-type"], "text/plain;charset=UTF-8");
  assert.equal(request.headers["content-length"], "6");
  assert.equal(request.headers.accept, "*/*");
  assert.equal(request.body, "hällo");
});

test("all methods are sent as they are written", async () => {
  for (const method of ["GET", "DELETE", "OPTIONS", "PATCH", "PUT", "PURGE"]) {
    assert.equal((await (await fetch(`${SERVER}/echo`, { method })).json()).method, method);
  }
  const head = await fetch(`${SERVER}/echo`, { method: "HEAD" });
  assert.equal(head.status, 200);
  assert.equal(await head.text(), "");
});

test("every kind of body is sent", async () => {
  const send = async (body) => (await fetch(`${SERVER}/echo`, { method: "POST", body, duplex: "half" })).json();
  assert.equal((await send(new URLSearchParams({ a: "1 2" }))).body, "a=1+2");
  assert.equal((await send(new Uint8Array([104, 105]))).body, "hi");
  assert.equal((await send(new Blob(["blob"]))).body, "blob");
  assert.equal((await send("")).headers["content-length"], "0");
  const form = new FormData();
  form.append("field", "value");
  assert.ok((await send(form)).body.includes('name="field"'));
  const streamed = await send(ReadableStream.from(["one ", "two"]).pipeThrough(new TextEncoderStream()));
  assert.equal(streamed.body, "one two");
  const large = "x".repeat(300_000);
  assert.equal((await send(large)).body.length, large.length);
});

test("several requests are under way at the same time", async () => {
  // The server answers each of them only when all three have arrived.
  const responses = await Promise.all([1, 2, 3].map((n) => fetch(`${SERVER}/meet?of=3&n=${n}`)));
  assert.deepEqual(await Promise.all(responses.map((response) => response.text())), ["met", "met", "met"]);
});

test("more requests than the host allows at once wait for each other, and their responses are read later", async () => {
  const numbers = Array.from({ length: 30 }, (_, number) => number);
  const responses = await Promise.all(numbers.map((number) => fetch(`${SERVER}/echo?${number}`)));
  const paths = await Promise.all(responses.map(async (response) => (await response.json()).path));
  assert.deepEqual(paths, numbers.map((number) => `/echo?${number}`));
  // A body that is a stream waits too.
  const streams = await Promise.all(numbers.map((number) => {
    const body = ReadableStream.from([`${number}`, "!"]).pipeThrough(new TextEncoderStream());
    return fetch(`${SERVER}/echo`, { method: "POST", body, duplex: "half" });
  }));
  assert.equal((await streams[29].json()).body, "29!");
});

test("responses that are not read keep no other request waiting", async () => {
  for (let number = 0; number < 30; number++) assert.equal((await fetch(`${SERVER}/echo`)).status, 200);
  // These are kept, but not read.
  const kept = [];
  for (let number = 0; number < 10; number++) kept.push(await fetch(`${SERVER}/echo?${number}`));
  assert.equal((await kept[0].json()).path, "/echo?0");
});

test("timers run while a request is under way", async () => {
  const order = [];
  const controller = new AbortController();
  const slow = fetch(`${SERVER}/never`, { signal: controller.signal }).catch(() => order.push("aborted"));
  await new Promise((resolve) => setTimeout(() => { order.push("timer"); resolve(); }, 5));
  controller.abort();
  await slow;
  assert.deepEqual(order, ["timer", "aborted"]);
});

test("a response is read while it arrives", async () => {
  const response = await fetch(`${SERVER}/chunks`);
  const reader = response.body.getReader();
  const first = await reader.read();
  assert.equal(new TextDecoder().decode(first.value).startsWith("first"), true);
  // The server sends the rest only after this request.
  await fetch(`${SERVER}/go-on`, { method: "POST" });
  let text = new TextDecoder().decode(first.value);
  for (let chunk; !(chunk = await reader.read()).done; ) text += new TextDecoder().decode(chunk.value);
  assert.equal(text, "first second");
});

test("headers of a response, also several cookies", async () => {
  const { headers } = await fetch(`${SERVER}/cookies`);
  assert.deepEqual(headers.getSetCookie(), ["a=1", "b=2"]);
  assert.throws(() => headers.set("x", "y"), "TypeError", "immutable");
});

test("a status is no error, and responses without a body have none", async () => {
  const missing = await fetch(`${SERVER}/status/404`);
  assert.equal(missing.ok, false);
  assert.equal(missing.statusText, "Not Found");
  assert.equal((await fetch(`${SERVER}/status/204`)).body, null);
});

test("a redirect is followed, and its last URL is known", async () => {
  const response = await fetch(`${SERVER}/redirect?status=302&to=${encodeURIComponent("/echo?x")}`);
  assert.equal(response.redirected, true);
  assert.equal(response.url, `${SERVER}/echo?x`);
});

test("a redirect changes the method as the standard says", async () => {
  const methodAfter = async (status, method) => {
    const body = method === "POST" || method === "PUT" ? "data" : undefined;
    const request = await (await fetch(`${SERVER}/redirect?status=${status}&to=/echo`, { method, body })).json();
    return `${request.method} ${request.body} ${request.headers["content-type"] ?? "-"}`;
  };
  assert.equal(await methodAfter(301, "POST"), "GET  -");
  assert.equal(await methodAfter(302, "POST"), "GET  -");
  assert.equal(await methodAfter(303, "PUT"), "GET  -");
  assert.equal(await methodAfter(302, "PUT"), "PUT data text/plain;charset=UTF-8");
  assert.equal(await methodAfter(307, "POST"), "POST data text/plain;charset=UTF-8");
  assert.equal(await methodAfter(308, "POST"), "POST data text/plain;charset=UTF-8");
  assert.equal(await methodAfter(303, "GET"), "GET  -");
});

test("credentials go with a redirect only to the same origin", async () => {
  const headers = { Authorization: "Bearer x", Cookie: "a=1", "X-Other": "kept" };
  const after = async (to) => (await (await fetch(`${SERVER}/redirect?status=302&to=${encodeURIComponent(to)}`, { headers })).json()).headers;
  const same = await after(`${SERVER}/echo`);
  assert.equal(same.authorization, "Bearer x");
  assert.equal(same.cookie, "a=1");
  const other = await after(`${OTHER}/echo`);
  assert.equal(other.authorization, undefined);
  assert.equal(other.cookie, undefined);
  assert.equal(other["x-other"], "kept");
});

test("20 redirects are followed, and no more", async () => {
  const response = await fetch(`${SERVER}/loop/20`);
  assert.equal(response.status, 200);
  await assert.rejects(fetch(`${SERVER}/loop/21`), "TypeError", "more than 20");
});

test("a redirect can be an error, or be returned", async () => {
  const url = `${SERVER}/redirect?status=302&to=/echo`;
  await assert.rejects(fetch(url, { redirect: "error" }), "TypeError", "redirect");
  const manual = await fetch(url, { redirect: "manual" });
  assert.equal(manual.status, 302);
  assert.equal(manual.headers.get("location"), "/echo");
  await assert.rejects(fetch(`${SERVER}/redirect?status=302&to=${encodeURIComponent("file:///etc/passwd")}`), "TypeError", "file:");
  const stream = ReadableStream.from([new Uint8Array([1])]);
  await assert.rejects(fetch(`${SERVER}/redirect?status=307&to=/echo`, { method: "POST", body: stream, duplex: "half" }), "TypeError", "second time");
});

test("an abort ends a request before and after its response", async () => {
  await assert.rejects(fetch(SERVER, { signal: AbortSignal.abort() }), "AbortError");
  const controller = new AbortController();
  const request = fetch(`${SERVER}/never`, { signal: controller.signal });
  setTimeout(() => controller.abort(new RangeError("mine")), 5);
  await assert.rejects(request, "RangeError", "mine");
  const late = new AbortController();
  const response = await fetch(`${SERVER}/chunks`, { signal: late.signal });
  setTimeout(() => late.abort(), 5);
  await assert.rejects(response.text(), "AbortError");
});

test("a request ends with its time limit", async () => {
  await assert.rejects(fetch(`${SERVER}/never`, { signal: AbortSignal.timeout(10) }), "TimeoutError");
});

test("a host that the manifest does not allow is refused with the line to add", async () => {
  const error = await assert.rejects(fetch("https://api.example.com/secret?key=1"), "TypeError", "https://api.example.com",
    'allowed_hosts = ["https://api.example.com"]');
  assert.ok(!error.message.includes("secret"));
  assert.equal(error.cause.code, "EACCES");
});

test("a connection that is refused has Node's code", async () => {
  const error = await assert.rejects(fetch(`${CLOSED}/`), "TypeError", "refused");
  assert.equal(error.cause.code, "ECONNREFUSED");
});

test("other schemes are refused by name, and data: is read", async () => {
  await assert.rejects(fetch("ftp://h/x"), "TypeError", "ftp:");
  await assert.rejects(fetch("/relative"), "TypeError", "/relative");
  const response = await fetch("data:text/x;base64,aGk=");
  assert.equal(response.headers.get("content-type"), "text/x");
  assert.equal(await response.text(), "hi");
  assert.equal(await (await fetch("data:,a%20b%F0%9F%98%80")).text(), "a b😀");
});

test("a compressed response is refused unless the program asked for it", async () => {
  const response = await fetch(`${SERVER}/gzip`);
  await assert.rejects(response.text(), "TypeError", "gzip");
  const raw = await fetch(`${SERVER}/gzip`, { headers: { "accept-encoding": "gzip" } });
  assert.deepEqual([...(await raw.bytes()).slice(0, 2)], [0x1f, 0x8b]);
});

test("headers of the connection are left to the host", async () => {
  const { headers } = await (await fetch(`${SERVER}/echo`, { headers: { Host: "evil", Connection: "close", "Content-Length": "9" } })).json();
  assert.equal(headers.host, new URL(SERVER).host);
  assert.equal(headers["content-length"], undefined);
});

test("a Request can be fetched, with changes", async () => {
  const request = new Request(`${SERVER}/echo`, { method: "POST", body: "x" });
  const response = await fetch(request, { headers: { "x-added": "1" } });
  const echoed = await response.json();
  assert.equal(echoed.body, "x");
  assert.equal(echoed.headers["x-added"], "1");
  assert.equal(request.bodyUsed, true);
});

test("a stream that fails ends its request", async () => {
  const body = new ReadableStream({
    pull(controller) {
      controller.error(new RangeError("source broke"));
    },
  });
  await assert.rejects(fetch(`${SERVER}/echo`, { method: "POST", body, duplex: "half" }), "RangeError", "source broke");
});
