"""The synchronous client of grpcio, as clients/README.md describes it."""

from __future__ import annotations

import queue
import sys
import threading
from collections.abc import Iterator
from typing import Any

import grpc

_Metadata = list[tuple[str, str | bytes]]
_printing = threading.Lock()


class StreamCall:
    def __init__(self, channel: grpc.Channel, number: str, path: str, timeout: float | None, metadata: _Metadata):
        self._requests: queue.SimpleQueue[bytes | None] = queue.SimpleQueue()
        self.number = number
        begin: Any = channel.stream_stream(path)
        self._call = begin(iter(self._requests.get, None), timeout=timeout, metadata=metadata)
        threading.Thread(target=self._read, daemon=True).start()

    def send(self, message: bytes) -> None:
        self._requests.put(message)

    def end(self) -> None:
        self._requests.put(None)

    def cancel(self) -> None:
        self._call.cancel()

    def _read(self) -> None:
        replies: Iterator[bytes] = self._call
        try:
            for message in replies:
                say("message", self.number, message.hex() or "-")
        except grpc.RpcError:
            pass  # the status says it
        self.end()  # the thread that writes ends with the call
        say_status(self.number, self._call)


class UnaryCall:
    def __init__(self, channel: grpc.Channel, number: str, path: str, timeout: float | None, metadata: _Metadata):
        self.number = number
        self._begin: Any = channel.unary_unary(path)
        self._timeout, self._metadata = timeout, metadata
        self._call: Any = None

    def send(self, message: bytes) -> None:
        self._call = self._begin.future(message, timeout=self._timeout, metadata=self._metadata)
        self._call.add_done_callback(self._done)

    def end(self) -> None:
        """It ends with its message."""

    def cancel(self) -> None:
        self._call.cancel()

    def _done(self, call: Any) -> None:
        if call.code() is grpc.StatusCode.OK:
            say("message", self.number, call.result().hex() or "-")
        say_status(self.number, call)


def say_status(number: str, call: Any) -> None:
    say("status", number, str(call.code().value[0]), (call.details() or "").encode().hex() or "-")


def say(*words: str) -> None:
    with _printing:
        print(*words, flush=True)


def decoded(metadata: str) -> _Metadata:
    pairs = [] if metadata == "-" else [pair.split("=") for pair in metadata.split(",")]
    values = [(name, bytes.fromhex(value)) for name, value in pairs]
    return [(name, value if name.endswith("-bin") else value.decode()) for name, value in values]


def main(address: str, compression: str) -> None:
    channel = grpc.insecure_channel(
        address,
        options=[("grpc.max_receive_message_length", -1)],
        compression=grpc.Compression.Gzip if compression == "gzip" else None,
    )
    calls: dict[str, StreamCall | UnaryCall] = {}
    for line in sys.stdin:
        verb, number, *rest = line.split()
        if verb == "call":
            kind, path, seconds, metadata = rest
            make = UnaryCall if kind == "unary" else StreamCall
            timeout = None if seconds == "-" else float(seconds)
            calls[number] = make(channel, number, path, timeout, decoded(metadata))
        elif verb == "send":
            calls[number].send(bytes.fromhex(rest[0].strip("-")))
        elif verb == "end":
            calls[number].end()
        else:
            calls[number].cancel()


if __name__ == "__main__":
    main(*sys.argv[1:])
