"""The installed version, how it was built, and the name of this process."""

import secrets
from importlib.metadata import version

from headrace.wire import frames

VERSION = version("headrace")
BUILD = "pure" if frames.__file__.endswith((".py", ".pyc")) else "compiled"
"""Whether the modules that each request passes through are machine code: `compiled`, or `pure` Python."""
INSTANCE = secrets.token_hex(8)
"""A name of this process that no other has."""
