"""What holds for all tests."""

from __future__ import annotations

import signal


def pytest_configure() -> None:
    """Give the processes that tests start the default handling of SIGINT.

    A shell ignores the signal in what it starts in the background (`nohup make test &`), and every child inherits that.
    """
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
