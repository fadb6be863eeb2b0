import { plugin, type MessageEvent } from "jackfield";

export default plugin({
  message(_event: MessageEvent): string {
    return "answer-0";
  },
});
