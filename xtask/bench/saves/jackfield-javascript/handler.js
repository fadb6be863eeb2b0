import { plugin } from "jackfield";

export default plugin({
  message() {
    return "answer-0";
  },
});
