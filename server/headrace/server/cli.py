"""The entry point of `headrace-server`. It needs nothing of the server's extra, to be able to say what is missing."""

from __future__ import annotations

import sys
from importlib.util import find_spec

USAGE = 2


def main() -> None:
    if find_spec("openvino") is None or find_spec("cyclopts") is None:
        print("headrace-server needs its extra: pip install 'headrace[server]'", file=sys.stderr)
        sys.exit(USAGE)
    from headrace.server.flags import app

    sys.exit(app.meta())
