"""What componentize-py calls: the base of each image, the loader, and the two exports of the contract."""

import os

from jackfield_engine import randomness  # Before anything that takes `os.urandom` into a module of its own.
from jackfield_engine import preload  # noqa: F401
import boto3.session  # noqa: F401
import botocore.config  # noqa: F401
import botocore.exceptions  # noqa: F401
from jackfield_engine import importer, loading, warming
from jackfield_engine.exports import Authorizer, Handler, Loader

__all__ = ["Authorizer", "Handler", "Loader"]

importer.collect_standard_library("/python")
importer.install()
randomness.install()
loading.prepare()
warming.warm()
os.environ.clear()
