"""Clients that write as fast as they can and read nothing, here or in a process of their own.

    python -m tests.e2e.flooding ADDRESS PEERS MOST FIRST THEN

FIRST and THEN are files with a serialized ClientFrame each. Prints a line of JSON for each line that it reads: how many
frames each peer has sent.
"""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import grpc

from headrace.v1 import inference_pb2 as pb
from headrace.v1.inference_pb2_grpc import InferenceStub

SMALL_WINDOW = [("grpc.http2.bdp_probe", 0)]
"""Otherwise gRPC reads ahead for a client that does not, megabytes of each connection."""


class Flood:
    """Writes the same frame again and again and reads nothing. `sent` counts the frames that gRPC has taken."""

    def __init__(self, address: str, first: pb.ClientFrame, then: pb.ClientFrame, most: int) -> None:
        self.sent = 0
        self._frames = (first, then, most)
        self._end = threading.Event()
        self._channel = grpc.insecure_channel(address, options=SMALL_WINDOW)
        self._replies = InferenceStub(self._channel).Stream(self._write())

    def _write(self) -> Iterator[pb.ClientFrame]:
        first, then, most = self._frames
        yield first
        for self.sent in range(1, most):
            if self._end.is_set():
                return
            yield then
        self._end.wait()

    def close(self) -> None:
        self._end.set()
        self._replies.cancel()
        self._channel.close()


class Peers:
    """As many floods in a process of their own, so that they take no time from the test's threads."""

    def __init__(self, address: str, peers: int, first: pb.ClientFrame, then: pb.ClientFrame, most: int, folder: Path):
        files = [folder / "first", folder / "then"]
        for file, frame in zip(files, (first, then), strict=True):
            file.write_bytes(frame.SerializeToString())
        arguments = [address, str(peers), str(most), *map(str, files)]
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.e2e.flooding", *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def sent(self) -> list[int]:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write("\n")
        self._process.stdin.flush()
        counts: list[int] = json.loads(self._process.stdout.readline())
        return counts

    def close(self) -> None:
        self._process.kill()
        self._process.communicate()


def main(address: str, peers: str, most: str, *files: str) -> None:
    first, then = [pb.ClientFrame.FromString(Path(file).read_bytes()) for file in files]
    floods = [Flood(address, first, then, int(most)) for _ in range(int(peers))]
    for _ in sys.stdin:
        print(json.dumps([flood.sent for flood in floods]), flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
