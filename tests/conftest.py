"""What holds for all tests."""

from __future__ import annotations

import signal

from hypothesis import settings

# How long an example takes says more about the machine than about the code.
settings.register_profile("headrace", deadline=None)
settings.load_profile("headrace")


def pytest_configure() -> None:
    """Give the processes that tests start the default handling of SIGINT.

    A shell ignores the signal in what it starts in the background (`nohup make test &`), and every child inherits that.
    """
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
