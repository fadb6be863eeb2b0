// Sends each message back: the same as plugins/echo-rust, in TypeScript.

import { plugin } from "jackfield";
import type { MessageEvent } from "jackfield";

export default plugin({
  message({ body }: MessageEvent) {
    return (typeof body === "string" ? contentOf(body) : undefined) ?? body;
  },
});

/** The content of a message like `{"action":"echo","content":"hello"}`; undefined for any other text. */
function contentOf(text: string): string | undefined {
  try {
    const message: { action?: unknown; content?: unknown } | null = JSON.parse(text);
    return message?.action === "echo" && typeof message.content === "string" ? message.content : undefined;
  } catch {
    return undefined;
  }
}
