import assert from "node:assert";
import axios, { AxiosError, AxiosHeaders } from "axios";

const { SERVER } = process.env;

export async function handler() {
  const client = axios.create({ baseURL: SERVER, headers: { "x-client": "chat" }, timeout: 20_000 });
  const got = await client.get("/echo", { params: { a: "1 2", list: ["x", "y"] } });
  assert.deepStrictEqual([got.status, got.data.method, got.data.path], [200, "GET", "/echo?a=1+2&list%5B%5D=x&list%5B%5D=y"]);
  assert.strictEqual(got.data.headers["x-client"], "chat");
  assert.ok(got.headers instanceof AxiosHeaders && got.headers.has("content-length"));

  const posted = await client.post("/echo", { text: "zwei äöü" });
  assert.strictEqual(posted.data.headers["content-type"], "application/json");
  assert.deepStrictEqual(JSON.parse(posted.data.body), { text: "zwei äöü" });
  const form = await client.post("/echo", new URLSearchParams({ a: "b c" }));
  assert.deepStrictEqual([form.data.headers["content-type"].split(";")[0], form.data.body], ["application/x-www-form-urlencoded", "a=b+c"]);
  for (const method of ["put", "patch", "delete"]) {
    assert.strictEqual((await client[method]("/echo", {})).data.method, method.toUpperCase());
  }
  const bytes = await client.get("/echo", { responseType: "arraybuffer" });
  assert.strictEqual(JSON.parse(Buffer.from(bytes.data).toString()).method, "GET");

  const missing = await client.get("/status/404").catch((error) => error);
  assert.ok(axios.isAxiosError(missing) && missing instanceof AxiosError);
  assert.deepStrictEqual([missing.code, missing.response.status, missing.message], ["ERR_BAD_REQUEST", 404, "Request failed with status code 404"]);
  const failed = await client.get("/status/503").catch((error) => error);
  assert.deepStrictEqual([failed.code, failed.response.status], ["ERR_BAD_RESPONSE", 503]);
  assert.strictEqual((await client.get("/status/404", { validateStatus: () => true })).status, 404);

  const slow = await client.get("/never", { timeout: 50 }).catch((error) => error);
  assert.deepStrictEqual([slow.code, slow.message], ["ETIMEDOUT", "timeout of 50ms exceeded"]);
  const controller = new AbortController();
  setTimeout(() => controller.abort(), 20);
  const aborted = await client.get("/never", { signal: controller.signal }).catch((error) => error);
  assert.deepStrictEqual([axios.isCancel(aborted), aborted.code, aborted.name], [true, "ERR_CANCELED", "CanceledError"]);

  client.interceptors.request.use((config) => {
    config.headers.set("authorization", "Bearer token");
    return config;
  });
  client.interceptors.response.use((response) => ({ ...response, data: response.data.headers.authorization }));
  assert.strictEqual((await client.get("/echo")).data, "Bearer token");
  const [a, b] = await Promise.all(["/meet?of=2", "/meet?of=2"].map((path) => axios.get(SERVER + path)));
  assert.deepStrictEqual([a.data, b.data], ["met", "met"]);

  const refused = await axios.get("https://api.example.com/").catch((error) => error);
  assert.strictEqual(refused.code, "ERR_NETWORK");
  assert.match(refused.message + refused.cause?.message, /allowed_hosts/);
  return { statusCode: 200, body: "axios works" };
}
