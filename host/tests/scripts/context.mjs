// Answers with what the authorizer granted.
import { plugin } from "jackfield";

export default plugin({
  message: (event, context) => JSON.stringify(context.authorizer),
});
