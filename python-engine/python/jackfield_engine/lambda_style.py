"""Handlers and authorizers in the style of Lambda: `def handler(event, context)`."""

import base64
import binascii
import json
import os
import time
from collections.abc import Callable, Mapping

from jackfield import _dispatch
from jackfield._dispatch import short
from jackfield._texts import check
from wit_world.exports import authorizer as contract
from wit_world.imports import current_connection
from wit_world.imports import jackfield_gateway_types as types

from . import policy
from .state import state


class LambdaContext:
    """What Lambda gives a function besides its event."""

    client_context = None
    identity = None

    def __init__(self, context):
        environment = os.environ
        self.aws_request_id = context.request_id
        self.function_name = environment.get("AWS_LAMBDA_FUNCTION_NAME", "jackfield")
        self.function_version = environment.get("AWS_LAMBDA_FUNCTION_VERSION", "$LATEST")
        self.memory_limit_in_mb = environment.get("AWS_LAMBDA_FUNCTION_MEMORY_SIZE", "128")
        self.invoked_function_arn = f"arn:aws:lambda:us-east-1:123456789012:function:{self.function_name}"
        self.log_group_name = f"/aws/lambda/{self.function_name}"
        self.log_stream_name = context.request_id
        self._deadline_ms = time.time_ns() // 1_000_000 + int(state.timeout_ms)

    def get_remaining_time_in_millis(self) -> int:
        return max(0, self._deadline_ms - time.time_ns() // 1_000_000)


# Warming replaces it, because the host has no event then.
event_json = current_connection.event


def call(handler: Callable, context):
    return handler(json.loads(event_json()), LambdaContext(context))


_KEYS = {"statusCode", "headers", "multiValueHeaders", "body", "isBase64Encoded"}


def response(returned):
    """A proxy response, as strict as API Gateway is with it."""
    if not isinstance(returned, Mapping):
        raise TypeError(
            f"the function returned {short(returned)}; a Lambda function has to return a dict with a statusCode"
        )
    unknown = sorted(str(key) for key in returned.keys() - _KEYS)
    if unknown:
        raise TypeError(f"the response has the key {unknown[0]!r}; only {', '.join(sorted(_KEYS))} are allowed")
    return types.Response(_status(returned.get("statusCode")), _fields(returned), _body(returned))


def _status(status) -> int:
    number = int(status) if isinstance(status, str) and status.isdecimal() else status
    # What the function returned is JSON for API Gateway: 200.0 is 200 there.
    if isinstance(number, float) and number.is_integer():
        number = int(number)
    if isinstance(number, int) and not isinstance(number, bool) and 200 <= number <= 599:
        return number
    raise TypeError(f"the response has the statusCode {short(status)}; a number from 200 to 599 was expected")


def _fields(returned) -> list[tuple[str, str]]:
    fields = [(name, _scalar(name, value)) for name, value in (returned.get("headers") or {}).items() if value is not None]
    for name, values in (returned.get("multiValueHeaders") or {}).items():
        fields += [(name, _scalar(name, value)) for value in values or ()]
    check(fields)
    return fields


def _scalar(name, value) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, str | int | float):
        return str(value)
    raise TypeError(f"the header {name!r} of the response is {short(value)}; a string was expected")


def _body(returned):
    body = returned.get("body")
    if body is None:
        return None
    if not isinstance(body, str):
        raise TypeError(f"the body of the response is {short(body)}; a str was expected; use json.dumps for JSON")
    if not returned.get("isBase64Encoded"):
        check(body)
        return types.Payload_Text(body)
    try:
        return types.Payload_Binary(base64.b64decode(body, validate=True))
    except binascii.Error:
        raise TypeError("the body of the response has isBase64Encoded, but is not base64") from None


def authorize(handler: Callable, context, result: Callable):
    event = json.loads(event_json())
    try:
        returned = result(handler(event, LambdaContext(context)))
    except Exception as error:
        # The one message that API Gateway knows: the caller is not known.
        if str(error) == "Unauthorized":
            return contract.Decision_Unauthorized()
        raise
    if not isinstance(returned, Mapping):
        raise TypeError(
            f"the authorizer returned {short(returned)}; a dict with principalId and policyDocument was expected"
        )
    principal = returned.get("principalId")
    if not isinstance(principal, str) or not principal:
        raise TypeError(f"the authorizer returned the principalId {short(principal)}; a string was expected")
    if returned.get("policyDocument") is None:
        raise TypeError("the authorizer returned no policyDocument")
    check(principal)
    document = policy.parse(returned["policyDocument"])
    fields = _dispatch.context_fields(returned.get("context"))
    if document.allows(event["methodArn"]):
        return contract.Decision_Allow(contract.Grant(principal, fields))
    return contract.Decision_Deny()
