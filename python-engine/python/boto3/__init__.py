"""The part of boto3 that is in the engine: the client of the management API, which calls the host.

Whatever endpoint a script gives is not used: the host posts to the connections of the API that it serves. For every
other service the host loads the boto3 that is installed beside the script, in place of this module.
"""

from jackfield_engine import management

__version__ = "1.40.0"


def client(service_name, *arguments, **keywords):
    if service_name == management.SERVICE:
        return management.Client()
    return _refuse("client", service_name)


def resource(service_name, *arguments, **keywords):
    return _refuse("resource", service_name)


def _refuse(function, service_name):
    raise NotImplementedError(
        f"boto3.{function}({service_name!r}) needs boto3 itself beside the script: run "
        "`pip install --target packages boto3` in its folder, and write the name of the service as a string in a file "
        "that imports boto3"
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
    raise AttributeError(f"module 'boto3' has no attribute {name!r} in a Python script without boto3 in its packages")
