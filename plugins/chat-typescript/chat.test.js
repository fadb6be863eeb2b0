// Node.js before 22.18 needs jackfield, on PATH, to read TypeScript.
import "jackfield/typescript";

import { testChat } from "../chat-js/behaviour.js";

const { default: chat } = await import("./chat.ts");

testChat(chat);
