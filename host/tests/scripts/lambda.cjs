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

exports.nothing = async () => {};

exports.unknown = async () => ({ statusCode: 200, surprise: 1 });
