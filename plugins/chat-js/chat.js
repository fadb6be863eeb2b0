// A chat in which each user can have several tabs: the same as plugins/chat, in JavaScript.
//
// A tab is a connection, and its row in the connection store has the name of its user. Nothing else is stored: a user
// is online if there is a row with that name.

import { connections, routes, store } from "jackfield";

/** The attribute with the user of a connection. */
const USER = "user";
/** The attribute that every tab has, so that one post is sent to all of them. */
const EVERYONE = ["in", "chat"];
/** Longest accepted name, because every user sees it. */
const NAME_CHARS_MAX = 32;

export default routes({
  $connect: connect,
  $disconnect: disconnect,
  sendmessage: sendMessage,
  who,
  $default: unknownAction,
});

async function connect(event, context) {
  const user = (event.query.get("userId") ?? "").trim();
  if (user === "" || [...user].length > NAME_CHARS_MAX) return { statusCode: 400 };
  // The other tabs of the user are looked up before this one is stored. If two first tabs connect at the same moment,
  // both may find no other tab and post the notice twice, which does no harm. If they stored themselves first, each
  // would find the other, and no notice would be posted.
  const isFirstTab = !(await hasTab(user));
  await store.put(context.connectionId, [[USER, user], EVERYONE]);
  if (isFirstTab) await postToOthers(context, { type: "joined", user });
}

async function disconnect(_event, context) {
  const user = await userOf(context);
  // The row of this connection exists until this handler has run. The name is removed from it first, so that if the
  // last two tabs of a user close at the same moment, at least one of them finds no other tab.
  await store.remove(context.connectionId, USER);
  if (!(await hasTab(user))) await postToOthers(context, { type: "left", user });
}

async function sendMessage(event, context) {
  const { to, content } = event.json();
  if (typeof to !== "string" || typeof content !== "string") {
    return reply({ type: "error", message: 'a message needs "to" and "content"' });
  }
  const from = await userOf(context);
  const tabs = await connections.postToMatching(USER, to, reply({ type: "message", from, content }));
  if (tabs === 0) return reply({ type: "error", message: `${to} is not here` });
  if (from !== to) {
    const copy = reply({ type: "sent", to, content });
    await connections.postToMatching(USER, from, copy, { except: context.connectionId });
  }
}

async function who() {
  const users = new Set();
  for await (const row of store.queryAll(...EVERYONE)) {
    for (const user of row.getAll(USER)) users.add(user);
  }
  return reply({ type: "who", users: [...users].sort() });
}

function unknownAction(event) {
  return reply({ type: "error", message: unknown(event) });
}

function unknown(event) {
  try {
    const { action } = event.json();
    if (typeof action === "string") return `there is no action "${action}" here`;
  } catch {
    // It is not JSON.
  }
  return 'a message is JSON with an "action"';
}

function reply(notice) {
  return JSON.stringify(notice);
}

async function postToOthers(context, notice) {
  await connections.postToMatching(...EVERYONE, reply(notice), { except: context.connectionId });
}

async function userOf(context) {
  const user = (await store.get(context.connectionId)).get(USER);
  if (user === undefined) throw new Error("the connection has no user");
  return user;
}

async function hasTab(user) {
  return (await store.query(USER, user)).rows.length > 0;
}
