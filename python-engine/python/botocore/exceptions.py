"""The exceptions that code with botocore catches."""


class BotoCoreError(Exception):
    """Errors of the client."""

    fmt = "An unspecified error occurred"

    def __init__(self, **kwargs):
        super().__init__(self.fmt.format(**kwargs) if kwargs else self.fmt)
        self.kwargs = kwargs


class ParamValidationError(BotoCoreError):
    fmt = "Parameter validation failed:\n{report}"


class EndpointConnectionError(BotoCoreError):
    fmt = 'Could not connect to the endpoint URL: "{endpoint_url}"'


class NoCredentialsError(BotoCoreError):
    fmt = "Unable to locate credentials"


class ClientError(Exception):
    """An answer of the service that is an error: `error.response["Error"]["Code"]`."""

    MSG_TEMPLATE = "An error occurred ({error_code}) when calling the {operation_name} operation: {error_message}"

    def __init__(self, error_response, operation_name):
        error = error_response.get("Error", {})
        super().__init__(
            self.MSG_TEMPLATE.format(
                error_code=error.get("Code", "Unknown"),
                error_message=error.get("Message", "Unknown"),
                operation_name=operation_name,
            )
        )
        self.response = error_response
        self.operation_name = operation_name
