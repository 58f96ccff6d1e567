"""A turn of a client in processes of its own, which all begin at one signal."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

from tests.bench.measuring.turn import Turn, TurnFailed

PATIENCE_SECONDS = 60.0
"""How long a client may take beyond the measured seconds."""


def client_turn(
    client: str, target: str, seconds: float, *, pid: int | None = None, processes: int = 1, **options: Any
) -> Turn:
    """Run `tests.bench.<client>` against a target. `pid`: of the server, whose processor time is wanted.

    Raises TurnFailed.
    """
    job = json.dumps({"target": target, "seconds": seconds, "options": options})
    command = [sys.executable, "-m", f"tests.bench.{client}", job]
    with ExitStack() as stack:
        clients = [stack.enter_context(_started(command, seconds)) for _ in range(processes)]
        for each in clients:
            if _line(each) != "ready":
                raise TurnFailed(f"the client {client} was not ready: {_why(each)}")
        used = _processor_seconds(pid)
        for each in clients:
            _begin(each)
        reports = [_report(each, client) for each in clients]
        served = None if used is None else (_processor_seconds(pid) or 0.0) - used
    return joined(reports, served)


def joined(reports: Sequence[dict[str, Any]], server_seconds: float | None) -> Turn:
    """The turn of several processes: rates add up, of times the largest counts."""
    requests = sum(each["requests"] for each in reports)
    if not requests:
        raise TurnFailed("no request was answered")
    rate = sum(each["requests"] / each["seconds"] for each in reports)
    times = {
        name: max((each[name] for each in reports if each[name] is not None), default=None) for name in ("p50", "p99")
    }
    return Turn(
        requests,
        requests / rate,
        times["p50"],
        times["p99"],
        server_seconds,
        sum(each["processor_seconds"] for each in reports),
        reports[0]["beside"],
    )


def processor_seconds(pid: int) -> float:
    """What all threads of a process have used so far, to the nanosecond. Raises TurnFailed if it has ended."""
    clock = (~pid << 3) | 2  # the processor clock of another process, as clock_getcpuclockid computes it
    try:
        return time.clock_gettime(clock)
    except OSError:
        raise TurnFailed("the server has ended") from None


def _processor_seconds(pid: int | None) -> float | None:
    return None if pid is None else processor_seconds(pid)


@contextmanager
def _started(command: Sequence[str], seconds: float) -> Iterator[subprocess.Popen[str]]:
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=pipe, text=True) as process:
        watchdog = threading.Timer(seconds + PATIENCE_SECONDS, process.kill)
        watchdog.start()
        try:
            yield process
            process.communicate()
        finally:
            watchdog.cancel()
            process.kill()


def _begin(client: subprocess.Popen[str]) -> None:
    assert client.stdin is not None
    try:
        client.stdin.write("begin\n")
        client.stdin.flush()
    except BrokenPipeError:
        raise TurnFailed(f"a client ended before it began: {_why(client)}") from None


def _report(process: subprocess.Popen[str], client: str) -> dict[str, Any]:
    line = _line(process)
    if not line.startswith("{"):
        raise TurnFailed(f"the client {client} has not ended well: {_why(process)}")
    report: dict[str, Any] = json.loads(line)
    return report


def _line(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    return process.stdout.readline().strip()


def _why(process: subprocess.Popen[str]) -> str:
    """The last line that it wrote to standard error."""
    process.kill()
    _, errors = process.communicate()
    return errors.strip().rpartition("\n")[2] or f"exit code {process.returncode}"
