test("a Blob joins its parts", async () => {
  const blob = new Blob(["aä", new Uint8Array([1, 2]), new Uint8Array([9, 8, 7]).buffer, new Blob(["z"]), 5], { type: "Text/X" });
  assert.equal(blob.size, 3 + 2 + 3 + 1 + 1);
  assert.equal(blob.type, "text/x");
  assert.deepEqual(new Uint8Array(await blob.arrayBuffer()), new Uint8Array([97, 0xc3, 0xa4, 1, 2, 9, 8, 7, 122, 53]));
  assert.equal(await new Blob(["hé"]).text(), "hé");
  assert.equal(new Blob().size, 0);
});

test("a Blob does not change with its source", async () => {
  const source = new Uint8Array([1]);
  const blob = new Blob([source]);
  source[0] = 2;
  (new Uint8Array(await blob.arrayBuffer()))[0] = 3;
  assert.equal(new Uint8Array(await blob.arrayBuffer())[0], 1);
});

test("a part of a Blob", async () => {
  const blob = new Blob(["0123456789"]);
  assert.equal(await blob.slice(2, 5).text(), "234");
  assert.equal(await blob.slice(-3).text(), "789");
  assert.equal(await blob.slice(5, 2).text(), "");
  assert.equal(blob.slice(0, 1, "a/b").type, "a/b");
});

test("a Blob can be read as a stream", async () => {
  let text = "";
  const decoder = new TextDecoder();
  for await (const chunk of new Blob(["x".repeat(200_000)]).stream()) text += decoder.decode(chunk, { stream: true });
  assert.equal(text.length, 200_000);
});

test("a File has a name and a time", async () => {
  const file = new File(["a"], "n.txt", { type: "text/plain", lastModified: 5 });
  assert.ok(file instanceof Blob);
  assert.equal(file.name, "n.txt");
  assert.equal(file.lastModified, 5);
  assert.equal(await file.text(), "a");
  assert.throws(() => new File(["a"]), "TypeError");
});

test("a FormData keeps its entries in order", () => {
  const form = new FormData();
  form.append("a", 1);
  form.append("b", "x");
  form.append("a", "2");
  form.append("f", new Blob(["data"]), "f.txt");
  assert.deepEqual(form.getAll("a"), ["1", "2"]);
  assert.equal(form.get("f").name, "f.txt");
  form.set("a", "3");
  assert.deepEqual([...form.keys()], ["a", "b", "f"]);
  form.delete("b");
  assert.equal(form.has("b"), false);
  assert.equal(form.get("b"), null);
});

test("a form travels as multipart and comes back", async () => {
  const form = new FormData();
  form.append("text", "line\nbreak");
  form.append('na"me', "ü");
  form.append("file", new File([new Uint8Array([0, 13, 10, 45, 45, 255])], "a.bin", { type: "application/x" }));
  const request = new Request("http://h/", { method: "POST", body: form });
  assert.ok(/^multipart\/form-data; boundary=/.test(request.headers.get("content-type")));
  const back = await request.formData();
  assert.equal(back.get("text"), "line\r\nbreak");
  assert.equal(back.get('na"me'), "ü");
  const file = back.get("file");
  assert.equal(file.name, "a.bin");
  assert.equal(file.type, "application/x");
  assert.deepEqual(new Uint8Array(await file.arrayBuffer()), new Uint8Array([0, 13, 10, 45, 45, 255]));
});

test("an empty form, and bodies that are no forms", async () => {
  const response = new Response(new FormData());
  assert.deepEqual([...await response.formData()], []);
  const query = new Response("a=1&b=%20", { headers: { "content-type": "application/x-www-form-urlencoded" } });
  assert.deepEqual([...await query.formData()], [["a", "1"], ["b", " "]]);
  await assert.rejects(new Response("x").formData(), "TypeError");
  const broken = new Response("--b\r\nx", { headers: { "content-type": "multipart/form-data; boundary=b" } });
  await assert.rejects(broken.formData(), "TypeError");
});
