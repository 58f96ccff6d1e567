"""What holds for all tests."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from tempfile import mkdtemp

import pytest
from hypothesis import HealthCheck, settings

import headrace.client as hc
from tests.alternate_stack import remove_alternate_stack
from tests.stopwatch import Stopwatch

CACHE = pytest.StashKey[Path]()

# How long an example takes, or takes to be made up, says more about the machine than about the code. The other health
# checks stay. A test that suppresses one of them names too_slow as well: its list replaces this one.
settings.register_profile("headrace", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("headrace")


def pytest_configure(config: pytest.Config) -> None:
    """Give the processes that tests start the default handling of SIGINT, and one cache of trials.

    A shell ignores the signal in what it starts in the background (`nohup make test &`), and every child inherits that.
    Most servers have the same few models, and a trial takes a second or three.
    """
    config.stash[CACHE] = Path(mkdtemp(prefix="headrace-trials-"))
    os.environ["HEADRACE_CACHE_DIR"] = str(config.stash[CACHE])
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


if os.environ.pop("HEADRACE_TEST_LOOP", None) == "polling":

    def pytest_asyncio_loop_factories() -> dict[str, Callable[[], asyncio.AbstractEventLoop]]:
        """Tests run on the loop on which the client polls gRPC itself."""
        return {"polling": hc.new_event_loop}


def pytest_runtest_setup() -> None:
    """Tests before this one may have loaded and freed OpenVINO in this process, and signals come: of a timeout, too."""
    remove_alternate_stack()


def pytest_unconfigure(config: pytest.Config) -> None:
    shutil.rmtree(config.stash[CACHE], ignore_errors=True)


@pytest.fixture
def stopwatch() -> Iterator[Stopwatch]:
    with Stopwatch() as watch:
        yield watch
