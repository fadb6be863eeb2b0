// A handler for the stock tool: it imports the interfaces of the contract by their names.

import { add, query } from "jackfield:gateway/connection-store@0.1.0";
import { postToConnection } from "jackfield:gateway/connections@0.1.0";

const text = (val) => ({ tag: "text", val });

export const handler = {
  async handle({ connectionId }, event) {
    if (event.tag === "connect") add(connectionId, "room", "red");
    if (event.tag !== "message") return { statusCode: 200, headers: [] };
    const { body } = event.val;
    switch (body.val) {
      case "post":
        postToConnection(connectionId, text("posted"));
        return reply(`rows ${query("room", "red").rows.length}`);
      case "gone":
        try {
          return reply(postToConnection("AAAAAAAAAAAAAAA=", body));
        } catch (error) {
          return reply(error.payload);
        }
      case "wait":
        await new Promise((resolve) => setTimeout(resolve, 5));
        return reply("waited");
      case "throw":
        throw new Error("thrown by the handler");
      default:
        return { statusCode: 200, headers: [], body };
    }
  },
};

function reply(val) {
  return { statusCode: 200, headers: [], body: text(val) };
}
