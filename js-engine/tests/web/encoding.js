const bytes = (...values) => new Uint8Array(values);

test("TextEncoder writes UTF-8", () => {
  const encoder = new TextEncoder();
  assert.equal(encoder.encoding, "utf-8");
  assert.deepEqual(encoder.encode("aä€😀"), bytes(97, 0xc3, 0xa4, 0xe2, 0x82, 0xac, 0xf0, 0x9f, 0x98, 0x80));
  assert.deepEqual(encoder.encode(), bytes());
  assert.deepEqual(encoder.encode("\ud800x"), bytes(0xef, 0xbf, 0xbd, 120));
  assert.deepEqual(encoder.encode("a\0b"), bytes(97, 0, 98));
});

test("encodeInto writes only whole characters", () => {
  const encoder = new TextEncoder();
  const into = (text, size) => {
    const target = new Uint8Array(size);
    const { read, written } = encoder.encodeInto(text, target);
    return [read, written, ...target];
  };
  assert.deepEqual(into("abc", 5), [3, 3, 97, 98, 99, 0, 0]);
  assert.deepEqual(into("abc", 2), [2, 2, 97, 98]);
  assert.deepEqual(into("aä", 2), [1, 1, 97, 0]);
  assert.deepEqual(into("ä", 2), [1, 2, 0xc3, 0xa4]);
  assert.deepEqual(into("😀", 3), [0, 0, 0, 0, 0]);
  assert.deepEqual(into("a😀", 2), [1, 1, 97, 0]);
  assert.deepEqual(into("😀", 4), [2, 4, 0xf0, 0x9f, 0x98, 0x80]);
  assert.deepEqual(into("\ud800", 3), [1, 3, 0xef, 0xbf, 0xbd]);
});

test("TextDecoder reads UTF-8 from every kind of buffer", () => {
  const decoder = new TextDecoder();
  const data = bytes(0xe2, 0x82, 0xac, 33);
  assert.equal(decoder.decode(data), "€!");
  assert.equal(decoder.decode(data.buffer), "€!");
  assert.equal(decoder.decode(new DataView(data.buffer, 3)), "!");
  assert.equal(decoder.decode(), "");
  assert.equal(decoder.encoding, "utf-8");
  assert.throws(() => decoder.decode("text"), "TypeError");
});

test("bytes that are not UTF-8 become the replacement character, or an error if fatal", () => {
  assert.equal(new TextDecoder().decode(bytes(97, 0xff, 98)), "a\ufffdb");
  assert.equal(new TextDecoder().decode(bytes(0xe2, 0x82)), "\ufffd");
  assert.equal(new TextDecoder().decode(bytes(0xed, 0xa0, 0x80)), "\ufffd\ufffd\ufffd");
  const fatal = new TextDecoder("utf-8", { fatal: true });
  assert.equal(fatal.fatal, true);
  assert.throws(() => fatal.decode(bytes(0xff)), "TypeError", "not valid");
  assert.throws(() => fatal.decode(bytes(0xe2, 0x82)), "TypeError", "not valid");
  assert.equal(fatal.decode(bytes(97)), "a");
});

test("a byte order mark is removed unless it is to be kept", () => {
  const data = bytes(0xef, 0xbb, 0xbf, 97);
  assert.equal(new TextDecoder().decode(data), "a");
  assert.equal(new TextDecoder("utf8", { ignoreBOM: true }).decode(data), "\ufeffa");
  const decoder = new TextDecoder();
  assert.equal(decoder.decode(bytes(0xef), { stream: true }), "");
  assert.equal(decoder.decode(bytes(0xbb, 0xbf, 97), { stream: true }), "a");
  assert.equal(decoder.decode(bytes(0xef, 0xbb, 0xbf)), "\ufeff");
});

test("a character may be divided between the chunks of a stream", () => {
  const decoder = new TextDecoder();
  const text = "aä€😀z";
  let result = "";
  for (const byte of new TextEncoder().encode(text)) result += decoder.decode(bytes(byte), { stream: true });
  assert.equal(result + decoder.decode(), text);
  assert.equal(decoder.decode(bytes(0xf0, 0x9f), { stream: true }), "");
  assert.equal(decoder.decode(), "\ufffd");
  assert.equal(decoder.decode(bytes(0xf0, 0x9f), { stream: true }), "");
  assert.equal(decoder.decode(bytes(97)), "\ufffda");
  const fatal = new TextDecoder("utf-8", { fatal: true });
  assert.equal(fatal.decode(bytes(0xe2), { stream: true }), "");
  assert.throws(() => fatal.decode(bytes(97), { stream: true }), "TypeError");
  assert.equal(fatal.decode(bytes(98)), "b");
});

test("UTF-16 is read in both orders, also in a stream", () => {
  const little = new TextDecoder("utf-16le");
  assert.equal(little.decode(bytes(0xff, 0xfe, 0x61, 0, 0xac, 0x20)), "a€");
  assert.equal(new TextDecoder("utf-16be").decode(bytes(0, 0x61, 0x20, 0xac)), "a€");
  assert.equal(little.decode(bytes(0x3d), { stream: true }), "");
  assert.equal(little.decode(bytes(0xd8, 0), { stream: true }), "");
  assert.equal(little.decode(bytes(0xde)), "😀");
  assert.equal(little.decode(bytes(0x61)), "\ufffd");
  assert.equal(little.decode(bytes(0, 0xd8, 0x61, 0)), "\ufffda");
});

test("latin1 is windows-1252, as the standard says", () => {
  const decoder = new TextDecoder("latin1");
  assert.equal(decoder.encoding, "windows-1252");
  assert.equal(decoder.decode(bytes(0x61, 0xe4, 0x80, 0x9f, 0xff)), "aä€Ÿÿ");
});

test("an encoding that is not there is refused by name", () => {
  assert.throws(() => new TextDecoder("klingon"), "RangeError", "klingon");
  assert.equal(new TextDecoder(" UTF-8 ").encoding, "utf-8");
});

test("atob and btoa convert base64", () => {
  assert.equal(btoa("hello"), "aGVsbG8=");
  assert.equal(btoa("\xff\0"), "/wA=");
  assert.equal(btoa(""), "");
  assert.equal(atob("aGVsbG8="), "hello");
  assert.equal(atob(" aGVs\nbG8 "), "hello");
  assert.equal(atob("/wA="), "\xff\0");
  assert.throws(() => btoa("€"), "InvalidCharacterError");
  assert.throws(() => atob("a"), "InvalidCharacterError");
  assert.throws(() => atob("a=bc"), "InvalidCharacterError");
  assert.throws(() => atob("ä"), "InvalidCharacterError");
});
