"""Makes the calls of a case through the modules of the SDK. Only the handle of a swap is that of the contract below them."""

import json
import secrets
import time

from jackfield import (
    AccessDeniedError,
    ForbiddenError,
    GoneError,
    JackfieldError,
    KvError,
    LimitExceededError,
    NoSuchConnectionError,
    PayloadTooLargeError,
    TooLargeError,
    UnavailableError,
    config,
    connections,
    kv,
    log,
    store,
)
from jackfield._host import Err, atomics, current_connection, keyvalue
from values import from_bytes, map_texts, to_bytes

ERRORS = {
    AccessDeniedError: "access-denied",
    ForbiddenError: "forbidden",
    GoneError: "gone",
    LimitExceededError: "limit-exceeded",
    NoSuchConnectionError: "no-such-connection",
    PayloadTooLargeError: "payload-too-large",
    TooLargeError: "too-large",
    UnavailableError: "unavailable",
}
KV_ERRORS = {403: "access-denied", 404: "no-such-store", 503: "other"}


class Run:
    """What one call leaves behind for the next ones of the same event."""

    def __init__(self, own_id: str, event: dict):
        self.own_id = own_id
        self.event = event
        self.cursor: str | None = None
        self.cas: atomics.Cas | None = None
        self.open: list[keyvalue.Bucket] = []

    def text(self, text: str) -> str:
        if text == "@self":
            return self.own_id
        if text == "@cursor":
            assert self.cursor is not None, "the last page had a cursor"
            return self.cursor
        return text


def run(calls: list, own_id: str, event: dict) -> list:
    """Makes the calls and returns their results."""
    state = Run(own_id, event)
    return [make(map_texts(call, state.text), state) for call in calls]


def make(call: dict, state: Run):
    name = call["call"]
    try:
        if name.startswith("keyvalue.cas."):
            return cas(name, call, state)
        result = FUNCTIONS[name](call, state)
        return "ok" if result is None else result
    except JackfieldError as error:
        return error_name(error)


def error_name(error: JackfieldError) -> str:
    return KV_ERRORS[error.status_code] if isinstance(error, KvError) else ERRORS[type(error)]


def ok(value) -> dict:
    return {"ok": value}


# ---- connections ----


def payload(call: dict) -> str | bytes:
    return call["data"] if isinstance(call["data"], str) else to_bytes(call["data"])


def post_to_connections(call: dict, state: Run) -> list:
    errors = connections.post_to_connections(call["ids"], payload(call))
    return ["ok" if error is None else error_name(error) for error in errors]


def post_to_matching(call: dict, state: Run) -> dict:
    return ok(connections.post_to_matching(call["name"], call["value"], payload(call), except_=call.get("except")))


def get_connection(call: dict, state: Run) -> dict:
    info = connections.get_connection(call["id"])
    was_active_later = info.last_active_at > info.connected_at
    return ok({"source-ip": info.source_ip, "user-agent": info.user_agent, "was-active-later": was_active_later})


# ---- connection-store ----


def row(found: store.Row) -> dict:
    return {"connection-id": found.connection_id, "attributes": found.attributes}


def page(found: store.Page, state: Run) -> dict:
    state.cursor = found.cursor
    return ok({"rows": [row(one) for one in found.rows], "cursor": found.cursor is not None})


def pages(fetch) -> dict:
    """Follows the cursors of all pages. Returns their lengths, and whether the items are sorted and none is there twice."""
    lengths, items, cursor = [], [], None
    while True:
        found, cursor = fetch(cursor)
        lengths.append(len(found))
        items += found
        if cursor is None:
            break
    return {"pages": lengths, "sorted": all(one.encode() < other.encode() for one, other in zip(items, items[1:]))}


def ids(found: store.Page) -> tuple[list[str], str | None]:
    return [one.connection_id for one in found.rows], found.cursor


# ---- wasi:keyvalue ----


def bucket(call: dict) -> kv.Bucket:
    return kv.bucket(call["bucket"])


def optional(value: bytes | None) -> dict:
    return ok(None if value is None else from_bytes(value))


def list_keys(call: dict, state: Run) -> dict:
    keys, state.cursor = bucket(call).list_keys(call.get("cursor"))
    return ok({"keys": keys, "cursor": state.cursor is not None})


def get_many(call: dict, state: Run) -> dict:
    found = bucket(call).get_many(call["keys"])
    return ok([[key, from_bytes(found[key])] if key in found else None for key in call["keys"]])


def open_bucket(call: dict, state: Run) -> None:
    open_handle(call, state)


def open_handle(call: dict, state: Run) -> keyvalue.Bucket:
    """The bucket stays open until the event ends, because a handle of `cas` may refer to it."""
    try:
        handle = keyvalue.open(call["bucket"])
    except Err as error:
        raise bucket(call)._error(error.value) from None
    state.open.append(handle)
    return handle


def cas(name: str, call: dict, state: Run):
    handle = open_handle(call, state)
    try:
        if name == "keyvalue.cas.new":
            state.cas = atomics.Cas.new(handle, call["key"])
            return "ok"
        assert state.cas is not None, "keyvalue.cas.new was called before"
        if name == "keyvalue.cas.current":
            return optional(state.cas.current())
        atomics.swap(state.cas, to_bytes(call["value"]))
        return "ok"
    except Err as error:
        if isinstance(error.value, atomics.CasError_CasFailed):
            state.cas = error.value.value
            return "cas-failed"
        reason = error.value.value if isinstance(error.value, atomics.CasError_StoreError) else error.value
        raise bucket(call)._error(reason) from None


# ---- the other interfaces ----


def connection_context(call: dict, state: Run) -> dict:
    context = current_connection.context()
    return {
        "source-ip": context.identity.source_ip,
        "user-agent": context.identity.user_agent,
        "authorizer": context.authorizer,
        "stage-variables": context.stage_variables,
    }


def event_json(call: dict, state: Run) -> dict:
    event = json.loads(current_connection.event())
    keys = ["body", "isBase64Encoded", "queryStringParameters", "multiValueQueryStringParameters", "stageVariables"]
    inner = ["routeKey", "eventType", "connectionId", "disconnectStatusCode", "disconnectReason"]
    # The rest of the event differs from one event to the next.
    return {
        "keys": sorted(event),
        **{key: event.get(key) for key in keys},
        **{key: event["requestContext"].get(key) for key in inner},
    }


# ---- the language itself ----


def json_text(call: dict, state: Run):
    try:
        value = json.loads(call["text"])
    except ValueError:
        return "invalid"
    return ok(json.dumps(value, separators=(",", ":")))


def throw(call: dict, state: Run) -> None:
    raise RuntimeError(call["message"])


def panic(call: dict, state: Run) -> None:
    """Python has no panic: it recurses without end."""
    panic(call, state)


def loop(call: dict, state: Run) -> None:
    while True:
        pass


def allocate(call: dict, state: Run) -> None:
    # Not zeros, which could be pages that were never written.
    _touched = b"x" * call["bytes"]


FUNCTIONS = {
    "event": lambda call, state: state.event,
    "connections.post-to-connection": lambda call, state: connections.post_to_connection(call["id"], payload(call)),
    "connections.post-to-connections": post_to_connections,
    "connections.post-to-matching": post_to_matching,
    "connections.get-connection": get_connection,
    "connections.delete-connection": lambda call, state: connections.delete_connection(
        call["id"], call.get("code"), call.get("reason", "")
    ),
    "connection-store.get": lambda call, state: ok(row(store.get(call["id"]))),
    "connection-store.put": lambda call, state: store.put(call["id"], [tuple(pair) for pair in call["attributes"]]),
    "connection-store.add": lambda call, state: store.add(call["id"], call.get("name", ""), call["value"]),
    "connection-store.remove": lambda call, state: store.remove(call["id"], call.get("name", ""), call.get("value")),
    "connection-store.query": lambda call, state: page(
        store.query(call.get("name", ""), call["value"], call.get("cursor")), state
    ),
    "connection-store.scan": lambda call, state: page(store.scan(call.get("cursor")), state),
    "connection-store.query-pages": lambda call, state: pages(
        lambda cursor: ids(store.query(call.get("name", ""), call["value"], cursor))
    ),
    "connection-store.scan-pages": lambda call, state: pages(lambda cursor: ids(store.scan(cursor))),
    "keyvalue.open": open_bucket,
    "keyvalue.get": lambda call, state: optional(bucket(call).get(call["key"])),
    "keyvalue.set": lambda call, state: bucket(call).set(call["key"], to_bytes(call["value"])),
    "keyvalue.delete": lambda call, state: bucket(call).delete(call["key"]),
    "keyvalue.exists": lambda call, state: ok(bucket(call).exists(call["key"])),
    "keyvalue.increment": lambda call, state: ok(bucket(call).increment(call["key"], call["delta"])),
    "keyvalue.list-keys": list_keys,
    "keyvalue.key-pages": lambda call, state: pages(bucket(call).list_keys),
    "keyvalue.get-many": get_many,
    "keyvalue.set-many": lambda call, state: bucket(call).set_many(
        [(key, to_bytes(value)) for key, value in call["pairs"]]
    ),
    "keyvalue.delete-many": lambda call, state: bucket(call).delete_many(call["keys"]),
    "config.get": lambda call, state: ok(config.get(call["key"])),
    "config.get-all": lambda call, state: ok([[key, value] for key, value in config.get_all().items()]),
    "current-connection.context": connection_context,
    "current-connection.event": event_json,
    "language.clock": lambda call, state: ok(time.time_ns() // 1_000_000),
    "language.random": lambda call, state: ok(secrets.token_hex(16)),
    "language.print": lambda call, state: print(call["text"]),
    "language.log": lambda call, state: getattr(log, call["level"])(call["text"]),
    "language.json": json_text,
    "language.throw": throw,
    "language.panic": panic,
    "language.loop": loop,
    "language.allocate": allocate,
    "language.binary": lambda call, state: ok(bytes.fromhex(call["hex"]).hex()),
}
