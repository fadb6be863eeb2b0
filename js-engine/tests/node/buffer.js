import { Buffer as FromModule, isAscii, isUtf8, transcode } from "node:buffer";

test("Buffer is a global and the same class in the module, and its instances are Uint8Arrays", () => {
  assert.equal(FromModule, Buffer);
  const buffer = Buffer.from("abc");
  assert.ok(buffer instanceof Uint8Array && buffer instanceof Buffer && Buffer.isBuffer(buffer));
  assert.equal(Buffer.isBuffer(new Uint8Array(1)), false);
});

test("Buffer.from reads each encoding as node does", () => {
  const cases = [
    ["h\u00e9\u20ac\u{1f600}", "utf8", "68c3a9e282acf09f9880"],
    ["\ud800a\udc00", "utf8", "efbfbd61efbfbd"],
    ["\u00e9\u20ac\u{1f600}", "latin1", "e9ac3d00"],
    ["\u00e9\u20ac", "ascii", "e9ac"],
    ["\u00e9\u20ac\ud800", "utf16le", "e900ac2000d8"],
    ["YWJj", "base64", "616263"],
    ["YQ==YQ==", "base64", "61"],
    ["YWJj*ZGVm", "base64", "616263646566"],
    ["YWI=c", "base64", "6162"],
    ["YQ\n=", "base64", "61"],
    ["a-_b", "base64", "6befdb"],
    ["a-_b", "base64url", "6befdb"],
    ["a+/b", "base64url", "6befdb"],
    ["Y", "base64", ""],
    ["=YQ", "base64", ""],
    ["abc", "hex", "ab"],
    ["zz11", "hex", ""],
    ["11zz22", "hex", "11"],
    ["ABCDEF", "HEX", "abcdef"],
  ];
  for (const [text, encoding, hex] of cases) {
    assert.deepEqual([text, encoding, Buffer.from(text, encoding).toString("hex")], [text, encoding, hex]);
  }
});

test("Buffer.toString writes each encoding, and ranges of it", () => {
  const buffer = Buffer.from([0xff, 0x80, 0x41, 0xe2, 0x82]);
  assert.equal(buffer.toString("latin1"), "\u00ff\u0080A\u00e2\u0082");
  assert.equal(buffer.toString("ascii"), "\u007f\u0000Ab\u0002");
  assert.equal(buffer.toString(), "\ufffd\ufffdA\ufffd");
  assert.equal(`${Buffer.from("\ufeffx")}`, "\ufeffx");
  assert.equal(buffer.toString("base64"), "/4BB4oI=");
  assert.equal(buffer.toString("base64url"), "_4BB4oI");
  assert.equal(buffer.toString("hex", 1, 3), "8041");
  assert.equal(Buffer.from("abc").toString("utf8", 1), "bc");
  assert.equal(Buffer.from("abc").toString("utf8", 2, 1), "");
  assert.equal(Buffer.from([0xe9, 0, 0xac, 0x20, 9]).toString("utf16le"), "\u00e9\u20ac");
  assert.throws(() => buffer.toString("nonsense"), "TypeError", "Unknown encoding: nonsense");
});

test("all byte values survive each binary encoding", () => {
  const all = Buffer.from(Array.from({ length: 256 }, (_, i) => i));
  for (const encoding of ["hex", "base64", "base64url", "latin1", "binary"]) {
    assert.ok(Buffer.from(all.toString(encoding), encoding).equals(all), encoding);
  }
});

test("byteLength, isEncoding, concat, compare and fill", () => {
  assert.equal(Buffer.byteLength("h\u00e9\u20ac"), 6);
  assert.equal(Buffer.byteLength("\ud800"), 3);
  assert.equal(Buffer.byteLength("YWJj", "base64"), 3);
  assert.equal(Buffer.byteLength(new ArrayBuffer(7)), 7);
  assert.deepEqual(["base64url", "UTF-8", "utf-7", ""].map(Buffer.isEncoding), [true, true, false, false]);
  assert.equal(Buffer.concat([Buffer.from("a"), new Uint8Array([98])]).toString(), "ab");
  assert.equal(Buffer.compare(Buffer.from("a"), Buffer.from("b")), -1);
  assert.equal(Buffer.alloc(5, "ab").toString(), "ababa");
  assert.equal(Buffer.alloc(4, "YQ", "base64url").toString(), "aaaa");
});

test("write writes whole characters only", () => {
  const buffer = Buffer.alloc(5);
  assert.equal(buffer.write("a\u20ac\u20ac"), 4);
  assert.equal(buffer.toString("hex"), "61e282ac00");
  assert.equal(buffer.write("ff", 4, "hex"), 1);
  assert.equal(buffer[4], 255);
  assert.equal(buffer.write("xyz", 1, 2, "latin1"), 2);
  assert.equal(buffer.toString("latin1", 0, 3), "axy");
  assert.throws(() => buffer.write("a", 6), "RangeError", "offset");
});

test("slices share memory, and numbers are read and written", () => {
  const buffer = Buffer.alloc(16);
  buffer.subarray(1, 2)[0] = 7;
  assert.equal(buffer[1], 7);
  assert.ok(Buffer.isBuffer(buffer.slice(0, 1)));
  assert.equal(buffer.writeUInt32BE(0xdeadbeef, 0), 4);
  assert.equal(buffer.readInt16LE(2), -4162);
  buffer.writeDoubleLE(1.5, 8);
  assert.equal(buffer.readDoubleLE(8), 1.5);
  buffer.writeBigUInt64LE(2n ** 63n, 0);
  assert.equal(buffer.readBigUint64LE(0), 2n ** 63n);
  assert.throws(() => buffer.readUInt8(16), "RangeError");
});

test("a Buffer is JSON as in node, and searches by string", () => {
  const buffer = Buffer.from("hello world");
  assert.equal(JSON.stringify(Buffer.from("ab")), '{"type":"Buffer","data":[97,98]}');
  assert.equal(buffer.indexOf("wor"), 6);
  assert.ok(buffer.includes("lo w"));
  assert.equal(buffer.indexOf("d29y", 0, "base64"), 6);
});

test("isUtf8, isAscii and transcode", () => {
  assert.deepEqual([isUtf8(Buffer.from("\ufffd")), isUtf8(Buffer.from([0xff]))], [true, false]);
  assert.deepEqual([isAscii(Buffer.from("a")), isAscii(Buffer.from("\u00e9"))], [true, false]);
  assert.equal(transcode(Buffer.from("\u00e9"), "utf8", "latin1").toString("hex"), "e9");
});
