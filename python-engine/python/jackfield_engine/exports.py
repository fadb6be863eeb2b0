"""The exports of the contract, and of the loader."""

import inspect

from componentize_py_types import Err
from jackfield import _dispatch
from wit_world import exports
from wit_world.imports.jackfield_gateway_types import Failure, Response

from . import event_loop, failure, lambda_style, loading, output, randomness
from .state import state

loop = event_loop.install()
_fresh = True


def _begin() -> None:
    """The first event of an instance."""
    global _fresh
    if _fresh:
        _fresh = False
        state.loading = False
        randomness.seed()


def _result(value):
    """What a function returned, or what the coroutine that it returned ends with."""
    if not inspect.iscoroutine(value):
        return value
    value, left = event_loop.run(loop, value)
    if left:
        output.log(output.Level.WARN, f"the handler has returned, but {left} of its tasks had not ended: cancelled")
    return value


def _failure(error: BaseException) -> Err:
    message, stack = failure.describe(error)
    return Err(Failure(message, stack or None))


class Handler(exports.Handler):
    def handle(self, context, event):
        try:
            _begin()
            script = loading.script
            if script.is_lambda:
                return lambda_style.response(_result(lambda_style.call(script.handler, context)))
            return _dispatch.handle(script.handler, context, event, _result)
        except BaseException as error:
            raised = error
        finally:
            output.finish()
        raise _failure(raised)


class Authorizer(exports.Authorizer):
    def authorize(self, context, request):
        try:
            _begin()
            script = loading.script
            if script.is_lambda:
                return lambda_style.authorize(script.handler, context, _result)
            return _dispatch.authorize(script.handler, context, request, _result)
        except BaseException as error:
            raised = error
        finally:
            output.finish()
        raise _failure(raised)


class Loader(exports.Loader):
    def initialize(self) -> str:
        return loading.initialize()

    def load(self, request: str) -> str:
        return loading.load(request)


__all__ = ["Authorizer", "Handler", "Loader", "Response"]
