test("a URL has the parts that the standard names", () => {
  const url = new URL("https://user:pa%20ss@EXAMPLE.com:8443/a/../b c?q=1&r=ä#frag");
  assert.equal(url.href, "https://user:pa%20ss@example.com:8443/b%20c?q=1&r=%C3%A4#frag");
  assert.equal(url.origin, "https://example.com:8443");
  assert.equal(url.protocol, "https:");
  assert.equal(url.username, "user");
  assert.equal(url.password, "pa%20ss");
  assert.equal(url.host, "example.com:8443");
  assert.equal(url.hostname, "example.com");
  assert.equal(url.port, "8443");
  assert.equal(url.pathname, "/b%20c");
  assert.equal(url.search, "?q=1&r=%C3%A4");
  assert.equal(url.hash, "#frag");
  assert.equal(String(url), url.href);
  assert.equal(JSON.stringify({ url }), JSON.stringify({ url: url.href }));
});

test("a URL is resolved against a base", () => {
  assert.equal(new URL("../x?y", "http://h/a/b/c").href, "http://h/a/x?y");
  assert.equal(new URL("//other/p", "https://h/").href, "https://other/p");
  assert.equal(new URL("", new URL("http://h/p?q#f")).href, "http://h/p?q");
});

test("a text that is no URL is refused", () => {
  const error = assert.throws(() => new URL("not a url"), "TypeError", "Invalid URL");
  assert.equal(error.code, "ERR_INVALID_URL");
  assert.throws(() => new URL("/path"), "TypeError", "Invalid URL");
  assert.throws(() => new URL("x", "also not"), "TypeError", "Invalid URL");
  assert.throws(() => new URL("http://a b/"), "TypeError");
  assert.throws(() => new URL("http://host:99999/"), "TypeError");
  assert.throws(() => new URL(), "TypeError");
  assert.equal(URL.canParse("http://h"), true);
  assert.equal(URL.canParse("h"), false);
  assert.equal(URL.canParse("h", "http://x/"), true);
});

test("hosts are written as the standard says", () => {
  assert.equal(new URL("http://bücher.example/").hostname, "xn--bcher-kva.example");
  assert.equal(new URL("http://0x7f.1/").hostname, "127.0.0.1");
  assert.equal(new URL("http://[::0001]/").host, "[::1]");
  assert.equal(new URL("https://h:443/").port, "");
  assert.equal(new URL("data:text/plain,x").origin, "null");
  assert.equal(new URL("mailto:a@b").pathname, "a@b");
});

test("setting a part of a URL changes the URL, and a value that is not valid does not", () => {
  const url = new URL("http://h/p?q#f");
  url.protocol = "https";
  url.host = "example.com:99";
  url.port = "100";
  url.pathname = "a b";
  url.search = "x=1";
  url.hash = "";
  url.username = "u:";
  assert.equal(url.href, "https://u%3A@example.com:100/a%20b?x=1");
  url.port = "not a port";
  url.host = "";
  url.protocol = "mailto";
  assert.equal(url.href, "https://u%3A@example.com:100/a%20b?x=1");
  assert.throws(() => { url.href = "nothing"; }, "TypeError", "Invalid URL");
  url.href = "http://other/";
  assert.equal(url.href, "http://other/");
});

test("searchParams and the URL change together", () => {
  const url = new URL("http://h/?a=1&b=2");
  const params = url.searchParams;
  assert.equal(url.searchParams, params);
  params.append("c", "ä &");
  assert.equal(url.href, "http://h/?a=1&b=2&c=%C3%A4+%26");
  params.delete("a");
  params.set("b", "3");
  assert.equal(url.search, "?b=3&c=%C3%A4+%26");
  url.search = "?x=y";
  assert.deepEqual([...params], [["x", "y"]]);
  url.href = "http://h/?z=1";
  assert.equal(params.get("z"), "1");
  params.delete("z");
  assert.equal(url.href, "http://h/");
});

test("URLSearchParams takes a string, pairs, an object or another one", () => {
  assert.equal(new URLSearchParams("?a=1&a=2&b").toString(), "a=1&a=2&b=");
  assert.equal(new URLSearchParams([["a", 1], ["b", "x y"]]).toString(), "a=1&b=x+y");
  assert.equal(new URLSearchParams({ a: 1, b: true }).toString(), "a=1&b=true");
  assert.equal(new URLSearchParams(new URLSearchParams("q=%20")).toString(), "q=+");
  assert.equal(new URLSearchParams(new Map([["k", "v"]])).toString(), "k=v");
  assert.equal(new URLSearchParams().toString(), "");
  assert.throws(() => new URLSearchParams([["a"]]), "TypeError");
  assert.throws(() => new URLSearchParams([["a", "b", "c"]]), "TypeError");
});

test("URLSearchParams finds, sorts and walks", () => {
  const params = new URLSearchParams("b=1&a=2&b=3&%F0%9F%98%80=s");
  assert.equal(params.size, 4);
  assert.equal(params.get("b"), "1");
  assert.equal(params.get("none"), null);
  assert.deepEqual(params.getAll("b"), ["1", "3"]);
  assert.equal(params.has("b", "3"), true);
  assert.equal(params.has("b", "4"), false);
  assert.equal(params.get("😀"), "s");
  params.delete("b", "1");
  assert.deepEqual([...params.keys()], ["a", "b", "😀"]);
  assert.deepEqual([...params.values()], ["2", "3", "s"]);
  params.append("a", "0");
  params.sort();
  assert.equal(params.toString(), "a=2&a=0&b=3&%F0%9F%98%80=s");
  const seen = [];
  params.forEach((value, name) => seen.push(`${name}:${value}`));
  assert.deepEqual(seen, ["a:2", "a:0", "b:3", "😀:s"]);
});

test("a lone surrogate in a URL becomes the replacement character", () => {
  assert.equal(new URL("http://h/\ud800").pathname, "/%EF%BF%BD");
  assert.equal(new URLSearchParams([["\udc00", "x"]]).toString(), "%EF%BF%BD=x");
});

test("the members of a URL are enumerable, so that libraries can copy them", () => {
  const names = [];
  for (const name in new URL("http://h/")) names.push(name);
  for (const name of ["href", "origin", "searchParams", "hash"]) assert.ok(names.includes(name), name);
});
