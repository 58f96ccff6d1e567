"""The child process in which a model is tried, as its parent sees it."""

from __future__ import annotations

import selectors
import signal
import subprocess
import sys
from contextlib import suppress
from time import monotonic
from typing import IO

from headrace.server.engine.findings import Findings
from headrace.server.engine.reasons import one_line
from headrace.server.engine.trial.messages import TrialReport, TrialRequest
from headrace.wire.errors import FailedPrecondition, Unavailable, quote

COMMAND = (sys.executable, "-P", "-m", "headrace.server.engine.trial")
CHUNK_BYTES = 1 << 16
MAX_LINE_BYTES = 1 << 20
MAX_TAIL_BYTES = 1 << 12
"""What is kept of the end of standard error."""
EXIT_SECONDS = 5.0
"""How long a child that has closed its pipes may take to end."""


class TrialProcess:
    """Tries one model, once. `run` blocks; `kill` may be called by any thread.

    The child is a new program, so it inherits neither threads nor gRPC. It has a session of its own, so that Ctrl-C
    reaches only the server, and ends with the thread that started it (Linux) or with its standard input.
    """

    def __init__(self) -> None:
        """Start the process, which gets ready and waits for its model. Raises OSError when it cannot be started."""
        self._killed = ""
        self._process = subprocess.Popen(
            COMMAND,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            bufsize=0,
            start_new_session=True,
        )

    def kill(self, why: str) -> None:
        """End the trial. `run` raises Unavailable, and says why."""
        self._killed = why
        self._process.kill()

    def discard(self) -> None:
        """End a process that gets no model."""
        self._process.kill()
        self._reap()

    def run(self, request: TrialRequest, seconds: float) -> Findings:
        """What the trial of a model finds.

        Raises the error of a model that cannot be served, FailedPrecondition when the child ends without a result or
        takes longer than `seconds`, and Unavailable after `kill`. Messages are for the operator.
        """
        report = TrialReport()
        try:
            tail = self._follow(request, report, seconds)
        finally:
            self.discard()
        if self._killed:
            raise Unavailable(f"model {quote(request.name)} was not loaded: {self._killed}")
        if tail is None:
            raise FailedPrecondition(
                f"{_named(request)} takes longer than --load-timeout, {seconds:g} s: {report.doing}"
            )
        if self._process.returncode or (report.findings is None and report.error is None):
            raise FailedPrecondition(self._why_ended(request, report.doing, tail))
        if report.error is not None:
            raise report.error
        assert report.findings is not None
        return report.findings

    def _reap(self) -> None:
        self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout, self._process.stderr):
            if pipe is not None:
                with suppress(BrokenPipeError):
                    pipe.close()

    def _why_ended(self, request: TrialRequest, doing: str, tail: bytes) -> str:
        """The sentence about a child that ended by itself."""
        code = self._process.returncode
        how = f"exit code {code}"
        if code < 0:
            with suppress(ValueError):
                how = signal.Signals(-code).name
        lines = tail.decode(errors="replace").strip().splitlines()
        said = f": {one_line(lines[-1])}" if lines else ""
        return f"{_named(request)} ends the process that tries it ({how}) while {doing}{said}"

    def _follow(self, request: TrialRequest, report: TrialReport, seconds: float) -> bytes | None:
        """Send the request and read what the child says, until it ends. Returns the end of its standard error; None
        when the time is up."""
        deadline = monotonic() + seconds
        stdin, stdout, stderr = self._process.stdin, self._process.stdout, self._process.stderr
        assert stdin is not None
        assert stdout is not None
        assert stderr is not None
        with suppress(BrokenPipeError):
            stdin.write(request.encode())
        stdin.close()
        line, tail = b"", b""
        with selectors.DefaultSelector() as selector:
            selector.register(stdout, selectors.EVENT_READ)
            selector.register(stderr, selectors.EVENT_READ)
            while selector.get_map():
                left = deadline - monotonic()
                if left <= 0:
                    return None
                for key, _ in selector.select(min(left, 3600)):
                    pipe: IO[bytes] = key.fileobj  # type: ignore[assignment]  # one of the two
                    data = pipe.read(CHUNK_BYTES)
                    if not data:
                        selector.unregister(pipe)
                    elif pipe is stderr:
                        tail = (tail + data)[-MAX_TAIL_BYTES:]
                    else:
                        *lines, line = (line + data).split(b"\n")
                        line = line[-MAX_LINE_BYTES:]
                        for each in lines:
                            report.add(each)
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(EXIT_SECONDS)
        return tail


def _named(request: TrialRequest) -> str:
    return f"model {quote(request.name)} from {quote(str(request.path), 1000)}"
