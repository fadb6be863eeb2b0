"""A chat in which each user can have several tabs: the same as plugins/chat, in Python.

A tab is a connection, and its row in the connection store has the name of its user. Nothing else is stored: a user is
online if there is a row with that name.
"""

import json

from jackfield import ConnectEvent, Context, DisconnectEvent, MessageEvent, Response, connections, routes, store

# The attribute with the user of a connection.
USER = "user"
# The attribute that every tab has, so that one post is sent to all of them.
EVERYONE = ("in", "chat")
# Longest accepted name, because every user sees it.
NAME_CHARS_MAX = 32


def connect(event: ConnectEvent, context: Context) -> Response | None:
    user = event.query.get("userId", "").strip()
    if not 0 < len(user) <= NAME_CHARS_MAX:
        return Response(400)
    # The other tabs of the user are looked up before this one is stored. If two first tabs connect at the same moment,
    # both may find no other tab and post the notice twice, which does no harm. If they stored themselves first, each
    # would find the other, and no notice would be posted.
    is_first_tab = not has_tab(user)
    store.put(context.connection_id, [(USER, user), EVERYONE])
    if is_first_tab:
        post_to_others(context, notice("joined", user=user))


def disconnect(event: DisconnectEvent, context: Context) -> None:
    user = user_of(context)
    # The row of this connection exists until this handler has run. The name is removed from it first, so that if the
    # last two tabs of a user close at the same moment, at least one of them finds no other tab.
    store.remove(context.connection_id, USER)
    if not has_tab(user):
        post_to_others(context, notice("left", user=user))


def send_message(event: MessageEvent, context: Context) -> str | None:
    message = event.json()
    to, content = message.get("to"), message.get("content")
    if not isinstance(to, str) or not isinstance(content, str):
        return notice("error", message='a message needs "to" and "content"')
    sender = user_of(context)
    tabs = connections.post_to_matching(USER, to, notice("message", **{"from": sender, "content": content}))
    if tabs == 0:
        return notice("error", message=f"{to} is not here")
    if sender != to:
        copy = notice("sent", to=to, content=content)
        connections.post_to_matching(USER, sender, copy, except_=context.connection_id)


def who(event: MessageEvent, context: Context) -> str:
    users = {user for row in store.rows(*EVERYONE) for user in row.get_all(USER)}
    return notice("who", users=sorted(users))


def unknown_action(event: MessageEvent, context: Context) -> str:
    try:
        message = event.json()
    except ValueError:
        message = None
    action = message.get("action") if isinstance(message, dict) else None
    if isinstance(action, str):
        return notice("error", message=f'there is no action "{action}" here')
    return notice("error", message='a message is JSON with an "action"')


def notice(type: str, **fields: object) -> str:
    """A message to a tab."""
    return json.dumps({"type": type, **fields}, ensure_ascii=False, separators=(",", ":"))


def post_to_others(context: Context, message: str) -> None:
    connections.post_to_matching(*EVERYONE, message, except_=context.connection_id)


def user_of(context: Context) -> str:
    user = store.get(context.connection_id).get(USER)
    if user is None:
        raise LookupError("the connection has no user")
    return user


def has_tab(user: str) -> bool:
    return bool(store.query(USER, user).rows)


handler = routes(
    {
        "$connect": connect,
        "$disconnect": disconnect,
        "sendmessage": send_message,
        "who": who,
        "$default": unknown_action,
    }
)
