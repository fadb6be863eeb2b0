import assert from "node:assert";
import { customAlphabet, nanoid } from "nanoid";
import { nanoid as insecure } from "nanoid/non-secure";
import * as uuid from "uuid";

export async function handler() {
  const one = uuid.v4();
  assert.ok(uuid.validate(one) && uuid.version(one) === 4 && one !== uuid.v4());
  assert.strictEqual(uuid.v5("hello", uuid.v5.URL), "074171de-bc84-5ea4-b636-1135477620e1");
  assert.strictEqual(uuid.v3("hello", uuid.v3.DNS), "0bacede4-4014-3f9d-b720-173f68a1c933");
  const [first, second] = [uuid.v7(), uuid.v7()];
  assert.ok(uuid.version(first) === 7 && first < second, `${first} ${second}`);
  const time = Number.parseInt(first.replaceAll("-", "").slice(0, 12), 16);
  assert.ok(Math.abs(time - Date.now()) < 60_000, `${first} is of now`);
  assert.strictEqual(uuid.version(uuid.v1()), 1);
  assert.deepStrictEqual(uuid.stringify(uuid.parse(one)), one);
  assert.match(nanoid(), /^[\w-]{21}$/);
  assert.match(customAlphabet("abc", 10)(), /^[abc]{10}$/);
  assert.match(insecure(8), /^[\w-]{8}$/);
  // Each event makes other ones, though all instances begin with the same memory.
  return { statusCode: 200, body: [one, first, nanoid(), insecure()].join(" ") };
}
