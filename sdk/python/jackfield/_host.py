"""The host functions that the modules of this package call.

In a component they are those of the host. Elsewhere, which means in tests, they are those of the test double.
"""

import sys

if sys.platform == "wasi":
    from componentize_py_types import Err as Err
    from jackfield_engine.output import log as log
    from jackfield_engine.state import refuse_while_loading as refuse_while_loading
    from wit_world.exports import authorizer as authorizer
    from wit_world.imports import atomics as atomics
    from wit_world.imports import batch as batch
    from wit_world.imports import connection_store as connection_store
    from wit_world.imports import connections as connections
    from wit_world.imports import current_connection as current_connection
    from wit_world.imports import jackfield_gateway_types as types
    from wit_world.imports import wasi_config_store as config
    from wit_world.imports import wasi_keyvalue_store as keyvalue
    from wit_world.imports.logging import Level as Level
else:
    from ._double import authorizer as authorizer
    from ._double import atomics as atomics
    from ._double import batch as batch
    from ._double import config as config
    from ._double import connection_store as connection_store
    from ._double import connections as connections
    from ._double import current_connection as current_connection
    from ._double import keyvalue as keyvalue
    from ._double import types as types
    from ._double.logging import Level as Level
    from ._double.logging import log as log
    from ._double.state import refuse_while_loading as refuse_while_loading
    from ._double.types import Err as Err
