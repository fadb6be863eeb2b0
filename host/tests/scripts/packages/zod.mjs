import assert from "node:assert";
import { z } from "zod";

const Message = z.object({
  action: z.literal("sendmessage"),
  to: z.string().min(1).max(128),
  content: z.union([z.string(), z.object({ text: z.string() })]),
  sent: z.coerce.date().optional(),
  tags: z.array(z.enum(["a", "b"])).default([]),
  email: z.email().optional(),
  id: z.uuid().optional(),
});

export async function handler() {
  const input = { action: "sendmessage", to: "ada", content: { text: "hi" }, sent: "2024-02-09T22:58:23.420Z", email: "ada@example.com" };
  const message = Message.parse(input);
  assert.deepStrictEqual([message.tags, message.sent.getTime(), message.content.text], [[], 1707519503420, "hi"]);
  const { success, error } = Message.safeParse({ action: "other", to: "", content: 1, tags: ["c"], email: "no", id: "1" });
  assert.strictEqual(success, false);
  assert.ok(error instanceof z.ZodError);
  assert.deepStrictEqual(error.issues.map(({ path }) => path.join(".")).sort(), ["action", "content", "email", "id", "tags.0", "to"]);
  const messages = Object.fromEntries(error.issues.map(({ path, message }) => [path.join("."), message]));
  assert.strictEqual(messages.action, 'Invalid input: expected "sendmessage"');
  assert.strictEqual(messages.to, "Too small: expected string to have >=1 characters");
  assert.strictEqual(messages["tags.0"], 'Invalid option: expected one of "a"|"b"');
  assert.strictEqual(messages.email, "Invalid email address");
  assert.throws(() => Message.parse({}), (thrown) => thrown instanceof z.ZodError && thrown.message.includes("expected string, received undefined"));
  assert.match(z.prettifyError(error), /✖ Too small: expected string to have >=1 characters\n {2}→ at to/);

  const Name = z.string().trim().toLowerCase().transform((name) => name.length).refine(async (length) => length === 3, "three letters");
  assert.strictEqual(await Name.parseAsync(" ADA "), 3);
  await assert.rejects(Name.parseAsync("Bob B"), (thrown) => thrown.issues[0].message === "three letters");
  assert.deepStrictEqual(z.strictObject({ a: z.int() }).safeParse({ a: 1.5, b: 1 }).error.issues.map(({ code }) => code), ["invalid_type", "unrecognized_keys"]);
  assert.strictEqual(z.toJSONSchema(z.object({ a: z.number() })).properties.a.type, "number");
  return { statusCode: 200, body: "zod works" };
}
