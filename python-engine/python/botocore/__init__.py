"""The part of botocore that works in a script: its exceptions and `Config`."""

__version__ = "1.40.0"
