// Sends each message back: the same as plugins/echo-rust, in JavaScript.

import { plugin } from "jackfield";

export default plugin({
  message({ body }) {
    return (typeof body === "string" ? contentOf(body) : undefined) ?? body;
  },
});

/** The content of a message like `{"action":"echo","content":"hello"}`; undefined for any other text. */
function contentOf(text) {
  try {
    const message = JSON.parse(text);
    return message?.action === "echo" && typeof message.content === "string" ? message.content : undefined;
  } catch {
    return undefined;
  }
}
