import { plugin } from "jackfield";

const version = "VERSION";

export default plugin({
  message(event) {
    const { content } = event.json();
    return content === "which" ? version : content;
  },
});
