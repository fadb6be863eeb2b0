// `currentConnection` of "jackfield": the connection whose event is handled.

import { native } from "../native.js";

// The host writes the event, so it needs no limit on nesting.
const { parse } = JSON;

export const currentConnection = {
  context() {
    const [apiId, stage, domainName, sourceIp, userAgent, authorizer, stageVariables] = native.event.connection();
    return {
      apiId,
      stage,
      domainName,
      identity: { sourceIp, userAgent },
      authorizer: Object.fromEntries(authorizer),
      stageVariables: Object.fromEntries(stageVariables),
    };
  },

  event() {
    return parse(native.event.json());
  },
};
