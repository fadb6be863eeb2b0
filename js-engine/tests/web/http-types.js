test("header names have no case, and values are joined", () => {
  const headers = new Headers({ "Content-Type": "text/plain", "X-A": " 1\t" });
  headers.append("x-a", "2");
  assert.equal(headers.get("X-a"), "1, 2");
  assert.equal(headers.get("content-TYPE"), "text/plain");
  assert.equal(headers.get("none"), null);
  assert.deepEqual([...headers], [["content-type", "text/plain"], ["x-a", "1, 2"]]);
  headers.delete("X-A");
  assert.equal(headers.has("x-a"), false);
  assert.deepEqual([...new Headers([["b", "1"], ["a", "2"]]).keys()], ["a", "b"]);
  assert.deepEqual([...new Headers(new Headers({ a: "1" }))], [["a", "1"]]);
});

test("cookies that are set stay apart", () => {
  const headers = new Headers();
  headers.append("Set-Cookie", "a=1");
  headers.append("set-cookie", "b=2");
  assert.deepEqual(headers.getSetCookie(), ["a=1", "b=2"]);
  assert.deepEqual([...headers], [["set-cookie", "a=1"], ["set-cookie", "b=2"]]);
});

test("headers that are not valid are refused, without their value", () => {
  assert.throws(() => new Headers({ "a b": "1" }), "TypeError", "a b");
  assert.throws(() => new Headers({ "": "1" }), "TypeError");
  const error = assert.throws(() => new Headers({ a: "secret\r\nx: 1" }), "TypeError");
  assert.ok(!error.message.includes("secret"));
  assert.throws(() => new Headers({ a: "€" }), "TypeError");
  assert.equal(new Headers({ a: "ä" }).get("a"), "ä");
  assert.throws(() => new Headers([["a"]]), "TypeError");
});

test("a Request has defaults and checks what it gets", () => {
  const request = new Request("http://h/p?q#f");
  assert.equal(request.method, "GET");
  assert.equal(request.url, "http://h/p?q#f");
  assert.equal(request.redirect, "follow");
  assert.equal(request.body, null);
  assert.equal(request.signal.aborted, false);
  assert.equal(new Request("http://h/", { method: "post" }).method, "POST");
  assert.equal(new Request("http://h/", { method: "patch" }).method, "patch");
  assert.throws(() => new Request("/relative"), "TypeError", "/relative");
  assert.throws(() => new Request("http://u:p@h/"), "TypeError");
  assert.throws(() => new Request("http://h/", { method: "TRACE" }), "TypeError");
  assert.throws(() => new Request("http://h/", { body: "x" }), "TypeError");
  assert.throws(() => new Request("http://h/", { method: "HEAD", body: "x" }), "TypeError");
  assert.throws(() => new Request("http://h/", { redirect: "maybe" }), "TypeError");
});

test("a body implies a content type", async () => {
  const type = (body) => new Request("http://h/", { method: "POST", body, duplex: "half" }).headers.get("content-type");
  assert.equal(type("text"), "text/plain;charset=UTF-8");
  assert.equal(type(new URLSearchParams("a=1")), "application/x-www-form-urlencoded;charset=UTF-8");
  assert.equal(type(new Blob(["x"], { type: "a/b" })), "a/b");
  assert.equal(type(new Uint8Array(1)), null);
  assert.equal(type(new ReadableStream()), null);
  assert.ok(type(new FormData()).startsWith("multipart/form-data; boundary="));
  const own = new Request("http://h/", { method: "POST", body: "{}", headers: { "content-type": "application/json" } });
  assert.equal(own.headers.get("content-type"), "application/json");
  assert.deepEqual(await own.json(), {});
});

test("a body is read once", async () => {
  const response = new Response("hello");
  assert.equal(response.bodyUsed, false);
  assert.equal(await response.text(), "hello");
  assert.equal(response.bodyUsed, true);
  await assert.rejects(response.text(), "TypeError");
  assert.equal(await new Response().text(), "");
  await assert.rejects(new Response("not json").json(), "SyntaxError");
  const copy = new Response("twice").clone();
  assert.equal(await copy.text(), "twice");
});

test("a body can be read in every form", async () => {
  const data = new Uint8Array([0xef, 0xbb, 0xbf, 97]);
  assert.equal(await new Response(data).text(), "a");
  assert.deepEqual(new Uint8Array(await new Response(data).arrayBuffer()), data);
  assert.deepEqual(await new Response(data.subarray(3)).bytes(), new Uint8Array([97]));
  const blob = await new Response("x", { headers: { "content-type": "a/b" } }).blob();
  assert.equal(blob.type, "a/b");
  assert.equal(await blob.text(), "x");
  assert.equal(await new Response(ReadableStream.from([data, new Uint8Array([98])])).text(), "ab");
  let text = "";
  for await (const chunk of new Response("streamed").body) text += new TextDecoder().decode(chunk);
  assert.equal(text, "streamed");
});

test("both copies of a response have the whole body", async () => {
  const response = new Response("abc", { status: 201, headers: { a: "1" } });
  const copy = response.clone();
  assert.equal(copy.status, 201);
  assert.equal(copy.headers.get("a"), "1");
  assert.deepEqual([await response.text(), await copy.text()], ["abc", "abc"]);
  const streamed = new Response(ReadableStream.from([new Uint8Array([97])]));
  const other = streamed.clone();
  assert.deepEqual([await streamed.text(), await other.text()], ["a", "a"]);
  assert.throws(() => streamed.clone(), "TypeError");
  const changed = new Response("abc");
  const kept = changed.clone();
  (await changed.bytes())[0] = 0;
  assert.equal(await kept.text(), "abc");
});

test("a Request is made of another one", async () => {
  const first = new Request("http://h/", { method: "POST", body: "x", headers: { a: "1" } });
  const second = new Request(first, { headers: { b: "2" } });
  assert.equal(second.method, "POST");
  assert.deepEqual([...second.headers.keys()].includes("a"), false);
  assert.equal(await second.text(), "x");
  await assert.rejects(first.text(), "TypeError");
  const third = new Request("http://h/", { method: "PUT", body: "y" });
  const copy = third.clone();
  assert.deepEqual([await third.text(), await copy.text(), copy.method], ["y", "y", "PUT"]);
});

test("responses by their helpers", async () => {
  const json = Response.json({ a: 1 }, { status: 202 });
  assert.equal(json.headers.get("content-type"), "application/json");
  assert.equal(json.status, 202);
  assert.deepEqual(await json.json(), { a: 1 });
  const redirect = Response.redirect("http://h/x", 307);
  assert.equal(redirect.headers.get("location"), "http://h/x");
  assert.throws(() => redirect.headers.set("a", "b"), "TypeError");
  assert.equal(Response.error().type, "error");
  assert.throws(() => new Response("", { status: 99 }), "RangeError");
  assert.throws(() => new Response("x", { status: 204 }), "TypeError");
  assert.equal(new Response(null, { status: 204 }).ok, true);
  assert.equal(new Response("", { status: 404 }).ok, false);
});
