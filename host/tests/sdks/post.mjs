// The life of one connection under the AWS SDK for JavaScript, as it is installed: each step is a
// line on stdout.
//
// usage: node post.mjs NODE_MODULES CONNECTION_ID ENDPOINT_OF_ANOTHER_STAGE
//
// The endpoint is in AWS_ENDPOINT_URL_APIGATEWAYMANAGEMENTAPI, where programs that know nothing of
// jackfield have it.

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

// What is refused here is refused again.
const client = new ApiGatewayManagementApiClient({ maxAttempts: 1 });

async function tell(step, command, to = client) {
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

await tell('post', post('hello, größe'));
await tell('post', post('x'.repeat(131072)));
await tell('too long', post('x'.repeat(131073)));
await tell('far too long', post('x'.repeat(8_000_000)));
await tell('no text', post(Uint8Array.of(0xff)));
await tell('no id', post('hello', 'foo/bar'));

const answer = await tell('get', get());
const { ConnectedAt, LastActiveAt, Identity } = answer;
assert(ConnectedAt instanceof Date && LastActiveAt instanceof Date);
assert(ConnectedAt <= LastActiveAt);
console.log('times', ConnectedAt.toISOString(), LastActiveAt.toISOString());
console.log('identity', Identity.SourceIp, Identity.UserAgent);

const elsewhere = new ApiGatewayManagementApiClient({ endpoint: anotherStage, maxAttempts: 1 });
await tell('another stage', post('x'.repeat(131072)), elsewhere);
await tell('another stage', get(), elsewhere);

const clientOf = (accessKeyId, secretAccessKey) =>
    new ApiGatewayManagementApiClient({ credentials: { accessKeyId, secretAccessKey }, maxAttempts: 1 });
await tell('another secret', post('hello'), clientOf('key', 'guess'));
await tell('another key', get(), clientOf('you', 'secret'));

for (let posted = 0; posted < 2000; posted += 1) {
    try {
        await client.send(post('x'.repeat(60000)));
    } catch (error) {
        assert(error instanceof LimitExceededException);
        console.log('flood', error.$metadata.httpStatusCode, error.constructor.name);
        break;
    }
}

// How often a client tries that was not told to give up.
const patient = new ApiGatewayManagementApiClient({});
async function tries(what) {
    try {
        await patient.send(post('x'.repeat(60000)));
    } catch (error) {
        console.log(what, 'tries', error.$metadata.attempts);
    }
}

await tries('full');
await tell('delete', remove());
await tell('post', post('late'));
await tell('get', get());
await tell('delete', remove());
await tries('gone');
try {
    await client.send(post('late'));
} catch (error) {
    if (error instanceof GoneException) console.log('caught as gone');
}
