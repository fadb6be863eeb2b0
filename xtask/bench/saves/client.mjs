// A WebSocket client with one connection and one message at a time.

import WebSocket from "ws";

/** A message without an answer for so long counts as lost, and so does a handshake. */
const ANSWER_MS_MAX = 2_000;

export class Client {
  #url;
  #socket = null;
  /** How many connections have ended that `close` did not end. */
  drops = 0;

  constructor(url) {
    this.#url = url;
  }

  /** Sends a message, over a new connection if there is none. Resolves to the answer, or to null if there is none. */
  async ask() {
    if (this.#socket === null && !(await this.#connect())) {
      return null;
    }
    const socket = this.#socket;
    return new Promise((resolve) => {
      const finish = (answer) => {
        clearTimeout(timer);
        socket.off("message", answered).off("close", unanswered);
        resolve(answer);
      };
      const answered = (data) => finish(String(data));
      const unanswered = () => finish(null);
      const timer = setTimeout(unanswered, ANSWER_MS_MAX);
      socket.on("message", answered).on("close", unanswered);
      socket.send("hello");
    });
  }

  /** Ends the connection; the next message uses a new one. */
  close() {
    const socket = this.#socket;
    this.#socket = null;
    socket?.terminate();
  }

  /** Resolves to whether there is a connection. */
  #connect() {
    return new Promise((resolve) => {
      const socket = new WebSocket(this.#url, { handshakeTimeout: ANSWER_MS_MAX });
      socket.once("open", () => {
        this.#socket = socket;
        resolve(true);
      });
      socket.on("error", () => {});
      socket.once("close", () => {
        if (this.#socket === socket) {
          this.#socket = null;
          this.drops += 1;
        }
        resolve(false);
      });
    });
  }
}
