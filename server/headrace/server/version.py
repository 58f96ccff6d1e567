"""The installed version, and how it was built."""

from importlib.metadata import version

from headrace.wire import frames

VERSION = version("headrace")
BUILD = "pure" if frames.__file__.endswith((".py", ".pyc")) else "compiled"
"""Whether the modules that each request passes through are machine code: `compiled`, or `pure` Python."""
