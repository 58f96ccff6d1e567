"""A server as a process of its own, with real models."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from itertools import count
from pathlib import Path
from types import TracebackType

from tests.waiting import until

F32 = "--property=INFERENCE_PRECISION_HINT=f32"
"""For servers whose numbers are compared."""
READY = re.compile(r"headrace ready on (\S+) \((\d+) models?(?:, \d+ could not be loaded)?\)\n")


class Served:
    """`with Served([...]) as served`: started and ready inside, terminated on the way out.

    `address` is where it listens, `log` what it has written to standard error, unless that is a descriptor `stderr`.
    """

    def __init__(
        self,
        arguments: Sequence[str],
        log: Path,
        env: dict[str, str] | None = None,
        *,
        module: str = "headrace.server",
        stderr: int | None = None,
    ) -> None:
        command = [sys.executable, "-m", module, *arguments]
        if not any(argument.startswith(("--port", "--host=unix")) for argument in arguments):
            command.append("--port=0")
        self._log = log
        with log.open("wb") as file:
            self.process = subprocess.Popen(
                command,
                stdout=subprocess.PIPE,
                stderr=file if stderr is None else stderr,
                text=True,
                env={**os.environ, **(env or {})},
            )
        self.address = ""
        self.printed: list[str] = []
        """The lines on standard output up to the one that says that it is ready."""

    @property
    def log(self) -> str:
        return self._log.read_text()

    def wait_until_logged(self, text: str, count: int = 1) -> str:
        """The log once it contains a text this many times: a thread of its own writes it."""
        until(lambda: self.log.count(text) >= count, lambda: f"{text!r} is not in the log:\n{self.log}")
        return self.log

    def ready(self) -> str:
        """Wait for the line on standard output that says so, and return it."""
        # A server that hangs while it loads must not hang the test.
        watchdog = threading.Timer(200, self.process.kill)
        watchdog.start()
        line = self.read_line()
        if line.startswith("headrace metrics on"):
            line = self.read_line()
        watchdog.cancel()
        match = READY.fullmatch(line)
        assert match, f"not ready but {line!r}; standard error:\n{self.log}"
        self.address = match[1]
        return line

    def read_line(self) -> str:
        """The next line on standard output."""
        assert self.process.stdout is not None
        self.printed.append(self.process.stdout.readline())
        return self.printed[-1]

    def resident_bytes(self) -> int:
        """The memory that the process has."""
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        match = re.search(r"VmRSS:\s+(\d+) kB", status)
        assert match
        return int(match[1]) * 1024

    def stop(self, number: int = signal.SIGTERM) -> int:
        """Send a signal and wait for the exit code."""
        self.process.send_signal(number)
        return self.process.wait(30)

    def __enter__(self) -> Served:
        self.ready()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        assert self.process.stdout is not None
        self.process.stdout.close()


Serve = Callable[..., Served]


@contextmanager
def serving(folder: Path) -> Iterator[Serve]:
    """`serve(path, "--window=8", ...)`: a running server, stopped at the end. Numbers are f32, logs are in `folder`."""
    numbers = count()
    with ExitStack() as stack:

        def start(*arguments: str | Path, env: dict[str, str] | None = None) -> Served:
            log = folder / f"server-{next(numbers)}.log"
            return stack.enter_context(Served([*map(str, arguments), F32], log, env))

        yield start


def run_server(*arguments: str, module: str = "headrace.server") -> subprocess.CompletedProcess[str]:
    """A server that is not expected to start: what it says, and its exit code."""
    command = [sys.executable, "-m", module, *arguments]
    # Wide, so that no sentence is broken over lines; on any port, since another program may have the default one.
    env = {"HEADRACE_PORT": "0", **os.environ, "COLUMNS": "500"}
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=False, env=env)
