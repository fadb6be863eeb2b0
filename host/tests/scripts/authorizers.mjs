// An authorizer of ours, and Lambda's, which a test selects with `handler`.
import { authorizer } from "jackfield";

export default authorizer(async (event, context) => {
  const user = event.query.get("user");
  if (user === "fail") throw new Error("cannot decide");
  if (user === null) return "unauthorized";
  if (user === "mallory") return "deny";
  return { principalId: user, context: { level: 3, admin: false, agent: event.headers.get("x-agent") ?? "none", stage: context.stage } };
});

export const lambda = async (event) => {
  const user = event.queryStringParameters?.user;
  if (user === undefined) throw new Error("Unauthorized");
  const statement = (Effect, Resource) => ({ Action: "execute-api:Invoke", Effect, Resource });
  const Statement = {
    ada: [statement("Allow", event.methodArn)],
    all: statement("Allow", "arn:aws:execute-api:*:*:*"),
    mallory: [statement("Allow", "*"), statement("Deny", event.methodArn)],
    other: [statement("Allow", event.methodArn.replace("$connect", "$other"))],
    condition: [{ ...statement("Allow", "*"), Condition: {} }],
  }[user];
  return { principalId: user, policyDocument: { Version: "2012-10-17", Statement }, context: { level: 3, admin: false } };
};

export const callback = (event, context, done) => done("Unauthorized");
