// Uses one connection through the published AWS SDK for JavaScript, from the first post to its DELETE. Prints one line
// for each step.
//
// usage: node post.mjs NODE_MODULES CONNECTION_ID ENDPOINT_OF_ANOTHER_STAGE
//
// The endpoint is in AWS_ENDPOINT_URL_APIGATEWAYMANAGEMENTAPI, so that the code is the same as for AWS.

import assert from 'node:assert/strict';
import { createRequire } from 'node:module';

const [nodeModules, ConnectionId, anotherStage] = process.argv.slice(2);
const {
    ApiGatewayManagementApiClient,
    DeleteConnectionCommand,
    GetConnectionCommand,
    GoneException,
    LimitExceededException,
    PostToConnectionCommand,
} = createRequire(`${nodeModules}/`)('@aws-sdk/client-apigatewaymanagementapi');

// Without retries: the errors of these calls are permanent.
const client = new ApiGatewayManagementApiClient({ maxAttempts: 1 });

// Sends a command, and prints its status or its exception.
async function report(step, command, to = client) {
    try {
        const answer = await to.send(command);
        console.log(step, answer.$metadata.httpStatusCode);
        assert.equal(answer.$metadata.requestId.length, 16);
        return answer;
    } catch (error) {
        const status = error.$metadata?.httpStatusCode;
        console.log(step, status, error.constructor.name, error.name, status === 410 ? '' : error.message);
    }
}

const post = (Data, id = ConnectionId) => new PostToConnectionCommand({ ConnectionId: id, Data });
const get = () => new GetConnectionCommand({ ConnectionId });
const remove = () => new DeleteConnectionCommand({ ConnectionId });

await report('post', post('hello, größe'));
await report('post', post('x'.repeat(131072)));
await report('too long', post('x'.repeat(131073)));
await report('far too long', post('x'.repeat(8_000_000)));
await report('no text', post(Uint8Array.of(0xff)));
await report('no id', post('hello', 'foo/bar'));

const answer = await report('get', get());
const { ConnectedAt, LastActiveAt, Identity } = answer;
assert(ConnectedAt instanceof Date && LastActiveAt instanceof Date);
assert(ConnectedAt <= LastActiveAt);
console.log('times', ConnectedAt.toISOString(), LastActiveAt.toISOString());
console.log('identity', Identity.SourceIp, Identity.UserAgent);

const elsewhere = new ApiGatewayManagementApiClient({ endpoint: anotherStage, maxAttempts: 1 });
await report('another stage', post('x'.repeat(131072)), elsewhere);
await report('another stage', get(), elsewhere);

const clientWithKey = (accessKeyId, secretAccessKey) =>
    new ApiGatewayManagementApiClient({ credentials: { accessKeyId, secretAccessKey }, maxAttempts: 1 });
await report('another secret', post('hello'), clientWithKey('key', 'guess'));
await report('another key', get(), clientWithKey('you', 'secret'));

for (let posted = 0; posted < 2000; posted += 1) {
    try {
        await client.send(post('x'.repeat(60000)));
    } catch (error) {
        assert(error instanceof LimitExceededException);
        console.log('flood', error.$metadata.httpStatusCode, error.constructor.name);
        break;
    }
}

// Prints how often a client with the default retries sends a call that fails.
const patient = new ApiGatewayManagementApiClient({});
async function tries(what) {
    try {
        await patient.send(post('x'.repeat(60000)));
    } catch (error) {
        console.log(what, 'tries', error.$metadata.attempts);
    }
}

await tries('full');
await report('delete', remove());
await report('post', post('late'));
await report('get', get());
await report('delete', remove());
await tries('gone');
try {
    await client.send(post('late'));
} catch (error) {
    if (error instanceof GoneException) console.log('caught as gone');
}
