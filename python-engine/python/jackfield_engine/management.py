"""The client of API Gateway's management API that boto3 returns."""

import datetime
import logging
import sys
from types import SimpleNamespace

from jackfield import connections
from jackfield.errors import ForbiddenError, GoneError, JackfieldError, LimitExceededError, PayloadTooLargeError

SERVICE = "apigatewaymanagementapi"
# The class of the client's exceptions for each error of the host.
_NAMES = {
    GoneError: "GoneException",
    ForbiddenError: "ForbiddenException",
    LimitExceededError: "LimitExceededException",
    PayloadTooLargeError: "PayloadTooLargeException",
}
_exceptions: SimpleNamespace | None = None


def exceptions() -> SimpleNamespace:
    """The exceptions of the client, whose base is that of the botocore in use."""
    global _exceptions
    if _exceptions is None:
        from botocore.exceptions import ClientError

        made = {name: type(name, (ClientError,), {"__module__": "botocore.errorfactory"}) for name in _NAMES.values()}
        _exceptions = SimpleNamespace(ClientError=ClientError, **made)
    return _exceptions


def use_installed() -> None:
    """Leaves `boto3` and `botocore` to the packages of the script, in place of the modules of the engine."""
    global _exceptions
    _exceptions = None
    for name in list(sys.modules):
        if name.partition(".")[0] in ("boto3", "botocore"):
            del sys.modules[name]
    # What it finds in the environment, of which it has a line for each client.
    logging.getLogger("botocore").setLevel(logging.WARNING)


def install(session) -> None:
    """Makes the clients that this module of botocore creates call the host, if they are those of the management API."""
    create_client = session.Session.create_client

    def create(self, service_name, *arguments, **keywords):
        if service_name == SERVICE:
            return Client()
        return create_client(self, service_name, *arguments, **keywords)

    session.Session.create_client = create


def _metadata(status: int) -> dict:
    return {"RequestId": "", "HTTPStatusCode": status, "HTTPHeaders": {}, "RetryAttempts": 0}


def _call(operation: str, function, *arguments):
    try:
        return function(*arguments)
    except JackfieldError as error:
        kind = getattr(exceptions(), _NAMES[type(error)])
        response = {
            "Error": {"Code": kind.__name__, "Message": str(error)},
            "ResponseMetadata": _metadata(error.status_code),
        }
        raise kind(response, operation) from None


def _check(given: dict, required: dict) -> None:
    """Parameters are keywords, as in boto3."""
    problems = [f'Missing required parameter in input: "{name}"' for name in required if name not in given]
    problems += [
        f'Unknown parameter in input: "{name}", must be one of: {", ".join(required)}'
        for name in given
        if name not in required
    ]
    problems += [
        f"Invalid type for parameter {name}, value: {value!r}, type: {type(value)}, "
        f"valid types: {', '.join(str(one) for one in required[name])}"
        for name, value in given.items()
        if name in required and not isinstance(value, required[name])
    ]
    if problems:
        from botocore.exceptions import ParamValidationError

        raise ParamValidationError(report="\n".join(problems))


_ID = (str,)
_BLOB = (bytes, bytearray, str)


def _data(data):
    """botocore sends a str as UTF-8, and the service sends text to the peer where the bytes are UTF-8."""
    if isinstance(data, str):
        return data
    try:
        return bytes(data).decode()
    except UnicodeDecodeError:
        return bytes(data)


class Client:
    def __init__(self):
        self.exceptions = exceptions()

    meta = SimpleNamespace(
        service_model=SimpleNamespace(service_name="apigatewaymanagementapi"),
        region_name="us-east-1",
        endpoint_url="http://jackfield",
    )

    def post_to_connection(self, **parameters):
        data = parameters.get("Data")
        if hasattr(data, "read"):
            parameters["Data"] = data.read()
        _check(parameters, {"ConnectionId": _ID, "Data": _BLOB})
        _call(
            "PostToConnection",
            connections.post_to_connection,
            parameters["ConnectionId"],
            _data(parameters["Data"]),
        )
        return {"ResponseMetadata": _metadata(200)}

    def get_connection(self, **parameters):
        _check(parameters, {"ConnectionId": _ID})
        info = _call("GetConnection", connections.get_connection, parameters["ConnectionId"])
        moment = lambda milliseconds: datetime.datetime.fromtimestamp(milliseconds / 1000, datetime.UTC)  # noqa: E731
        identity = {"SourceIp": info.source_ip, "UserAgent": info.user_agent or ""}
        return {
            "ConnectedAt": moment(info.connected_at),
            "LastActiveAt": moment(info.last_active_at),
            "Identity": identity,
            "ResponseMetadata": _metadata(200),
        }

    def delete_connection(self, **parameters):
        _check(parameters, {"ConnectionId": _ID})
        _call("DeleteConnection", connections.delete_connection, parameters["ConnectionId"])
        return {"ResponseMetadata": _metadata(204)}

    def close(self):
        pass

    def can_paginate(self, operation_name):
        return False
