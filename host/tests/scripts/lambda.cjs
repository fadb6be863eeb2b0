// Functions in the styles that Lambda takes. Each is an export, and the tests name it in the manifest.
const prefix = process.env.PREFIX;

exports.asynchronous = async (event, context) => {
  const { requestContext, body, isBase64Encoded } = event;
  return {
    statusCode: 200,
    body: [prefix, requestContext.routeKey, requestContext.eventType, isBase64Encoded, JSON.parse(body).text,
      context.awsRequestId === requestContext.requestId, context.getRemainingTimeInMillis() > 0].join(" "),
  };
};

// The response waits for the timer that is started behind the callback's call, as in Lambda.
exports.callback = (event, context, callback) => {
  let isLate = false;
  setTimeout(() => (isLate = true), 20);
  callback(null, { statusCode: 200, get body() { return `waited ${isLate}`; } });
};

exports.late = (event, context, callback) => setTimeout(callback, 10, null, { statusCode: 200, body: "late" });

exports.failing = (event, context, callback) => callback(new TypeError("the callback got this error"));

exports.binary = async () => ({ statusCode: 200, isBase64Encoded: true, body: "AP8=" });

// Both return the time that is left at the start and 50 ms later.
exports.remaining = async (event, context) => {
  const start = context.getRemainingTimeInMillis();
  await new Promise((resolve) => setTimeout(resolve, 50));
  return { statusCode: 200, body: JSON.stringify([start, context.getRemainingTimeInMillis()]) };
};

exports.remainingOfCallback = (event, context, callback) => {
  const start = context.getRemainingTimeInMillis();
  setTimeout(() => callback(null, { statusCode: 200, body: JSON.stringify([start, context.getRemainingTimeInMillis()]) }), 50);
};

exports.nothing = async () => {};

exports.unknown = async () => ({ statusCode: 200, surprise: 1 });
