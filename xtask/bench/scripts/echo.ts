import { plugin, type MessageEvent } from "jackfield";

interface Request {
  action: string;
  content: string;
}

const version: string = "VERSION";

export default plugin({
  message(event: MessageEvent): string {
    const { content } = event.json() as Request;
    return content === "which" ? version : content;
  },
});
