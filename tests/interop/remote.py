"""Programs of clients/, each with one connection, told by the tests what to call."""

from __future__ import annotations

import os
import queue
import shutil
import subprocess
import sys
import threading
from contextlib import suppress
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from types import TracebackType
from typing import NamedTuple, TypeAlias

import grpc
import pytest

CLIENTS = Path(__file__).parent / "clients"
PATIENCE = 30.0
"""Seconds for what takes milliseconds, on a busy machine."""
_CODES = {code.value[0]: code for code in grpc.StatusCode}

Metadata: TypeAlias = dict[str, str | bytes]


class Ended(NamedTuple):
    code: grpc.StatusCode
    details: str


@dataclass(frozen=True)
class Library:
    """A gRPC library, by the program that uses it."""

    name: str
    command: tuple[str, ...]
    env: tuple[tuple[str, str], ...] = ()
    compresses: bool = True
    resets_at_once: bool = True
    """Whether a stream that is cancelled right after it was begun is reset, rather than left to the server."""
    finishes_after_goaway: bool = True
    """Whether it finishes the calls that are in flight when GOAWAY arrives, rather than dropping the connection."""

    @staticmethod
    def named(name: str) -> Library:
        """Skips the test where the library is not there."""
        found = LIBRARIES[name]
        return found if isinstance(found, Library) else pytest.skip(found)

    def connect(self, address: str, compression: str = "-") -> Remote:
        return Remote([*self.command, address, compression], dict(self.env))

    def connect_securely(self, address: str, ca: Path, key: Path, certificate: Path) -> Remote:
        """With TLS, and a certificate of the client's own; only `node` can."""
        return Remote([*self.command, address, "-"], {**dict(self.env), "TLS_FILES": f"{ca},{key},{certificate}"})


class Remote:
    """`with library.connect(address) as client`: one process, with one connection."""

    def __init__(self, command: list[str], env: dict[str, str]) -> None:
        self._process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, **env},
        )
        self._numbers = count(1)
        self._calls: dict[int, Call] = {}
        self._threads = [threading.Thread(target=self._listen), threading.Thread(target=self._collect)]
        self.errors = ""
        """What the program has written to standard error."""

    def __enter__(self) -> Remote:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """End the program, and with it its connection."""
        assert self._process.stdin is not None
        with suppress(BrokenPipeError):  # it has ended before; the test says why that is wrong
            self._process.stdin.close()
        try:
            self._process.wait(10)
        finally:
            self.kill()

    def kill(self) -> None:
        """End the program at once, in the middle of whatever it does."""
        self._process.kill()
        self._process.wait()
        for thread in self._threads:
            thread.join()

    def stream(self, path: str, *, timeout: float | None = None, metadata: Metadata | None = None) -> Call:
        return self._call("stream", path, timeout, metadata or {})

    def unary(
        self, path: str, message: bytes, *, timeout: float | None = None, metadata: Metadata | None = None
    ) -> Call:
        """Begin a unary call: `reply` waits for it."""
        call = self._call("unary", path, timeout, metadata or {})
        call.send(message)
        return call

    def _call(self, kind: str, path: str, timeout: float | None, metadata: Metadata) -> Call:
        call = Call(self, next(self._numbers))
        self._calls[call.number] = call
        pairs = [
            f"{name}={(value.encode() if isinstance(value, str) else value).hex()}" for name, value in metadata.items()
        ]
        seconds = "-" if timeout is None else str(timeout)
        self.tell("call", str(call.number), kind, path, seconds, ",".join(pairs) or "-")
        return call

    def tell(self, *words: str) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(" ".join(words) + "\n")
        self._process.stdin.flush()

    def _listen(self) -> None:
        assert self._process.stdout is not None
        with self._process.stdout as lines:
            for line in lines:
                verb, number, *values = line.split()
                call = self._calls[int(number)]
                data = bytes.fromhex(values[-1].strip("-"))
                call.events.put(data if verb == "message" else Ended(_CODES[int(values[0])], data.decode()))
        for call in self._calls.values():
            call.events.put(None)

    def _collect(self) -> None:
        assert self._process.stderr is not None
        with self._process.stderr as lines:
            self.errors = lines.read()


class Call:
    """A call of a remote client."""

    def __init__(self, client: Remote, number: int) -> None:
        self._client = client
        self.number = number
        self.events: queue.SimpleQueue[bytes | Ended | None] = queue.SimpleQueue()

    def send(self, *messages: bytes) -> None:
        for message in messages:
            self._client.tell("send", str(self.number), message.hex() or "-")

    def half_close(self) -> None:
        self._client.tell("end", str(self.number))

    def cancel(self) -> None:
        self._client.tell("cancel", str(self.number))

    def receive(self) -> bytes:
        event = self._next()
        assert isinstance(event, bytes), f"no message but {event}"
        return event

    def ended(self) -> Ended:
        """How the call ends, after nothing more."""
        event = self._next()
        assert isinstance(event, Ended), f"no end but a message of {len(event)} bytes"
        return event

    def end(self) -> Ended:
        """How the call ends, whatever comes before."""
        while not isinstance(event := self._next(), Ended):
            pass
        return event

    def reply(self) -> bytes:
        """The only message of a call that ends well."""
        message = self.receive()
        assert self.ended() == (grpc.StatusCode.OK, "")
        return message

    def _next(self) -> bytes | Ended:
        event = self.events.get(timeout=PATIENCE)
        assert event is not None, f"the client has ended: {self._client.errors}"
        return event


def _libraries() -> dict[str, Library | str]:
    """Each library by name, or why it cannot be used on this machine."""
    found: dict[str, Library | str] = {
        "threads": Library("threads", (sys.executable, str(CLIENTS / "threads.py"))),
        "pure": Library(
            "pure", (sys.executable, str(CLIENTS / "pure.py")), compresses=False, finishes_after_goaway=False
        ),
        "node": "make .venv/.interop has installed no @grpc/grpc-js: it needs Node.js and npm",
        "cpp": "make .venv/.interop has compiled no client: it needs g++ and Debian's libgrpc++-dev",
        "go": "make .venv/.interop has compiled no client: it needs Go and Debian's golang-google-grpc-dev",
    }
    environment = Path(sys.prefix)
    modules = environment / "interop" / "node_modules"
    if (modules / "@grpc" / "grpc-js").exists() and (node := shutil.which("node")):
        found["node"] = Library(
            "node", (node, str(CLIENTS / "node.js")), (("NODE_PATH", str(modules)),), resets_at_once=False
        )
    for name in ("cpp", "go"):
        if (program := environment / "interop" / name).exists():
            found[name] = Library(name, (str(program),))
    return found


LIBRARIES = _libraries()
