"""The part of boto3 that works in a script: the client of the management API, which calls the host.

Whatever endpoint a script gives is not used: the host posts to the connections of the API that it serves. Other
services need HTTPS over sockets.
"""

from jackfield_engine.management import Client as _ManagementClient

_ADVICE = 'run the function with `type = "lambda"`, or build it with `language = "python"` and `jackfield build`'
__version__ = "1.40.0"


def client(service_name, *arguments, **keywords):
    if service_name == "apigatewaymanagementapi":
        return _ManagementClient()
    raise NotImplementedError(
        f'boto3.client({service_name!r}) needs sockets, which a Python script does not have: {_ADVICE}; '
        'boto3.client("apigatewaymanagementapi") works'
    )


def resource(service_name, *arguments, **keywords):
    raise NotImplementedError(
        f"boto3.resource({service_name!r}) needs sockets, which a Python script does not have: {_ADVICE}"
    )


def setup_default_session(**keywords):
    pass


class Session:
    """A session has no state here."""

    def __init__(self, *arguments, **keywords):
        self.region_name = keywords.get("region_name", "us-east-1")

    def client(self, service_name, *arguments, **keywords):
        return client(service_name)

    def resource(self, service_name, *arguments, **keywords):
        return resource(service_name)


def __getattr__(name):
    if name == "session":
        import boto3.session

        return boto3.session
    raise AttributeError(f"module 'boto3' has no attribute {name!r} in a Python script")
