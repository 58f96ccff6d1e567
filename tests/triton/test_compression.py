"""What crosses the wire is compressed, both ways."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import numpy as np
import pytest
import tritonclient.grpc as triton

from tests import models
from tests.e2e.serving import Serve


class Counted:
    """A relay to a server: `up` and `down` count the bytes of each direction."""

    def __init__(self, target: str) -> None:
        host, port = target.rsplit(":", 1)
        self._target = host, int(port)
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.address = f"127.0.0.1:{self._listening.getsockname()[1]}"
        self.up = self.down = 0
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        self._listening.close()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listening.accept()
            except OSError:
                return
            server = socket.create_connection(self._target)
            for source, sink, name in ((client, server, "up"), (server, client, "down")):
                threading.Thread(target=self._pass, args=(source, sink, name), daemon=True).start()

    def _pass(self, source: socket.socket, sink: socket.socket, name: str) -> None:
        with source, sink:
            try:
                while data := source.recv(1 << 16):
                    setattr(self, name, getattr(self, name) + len(data))
                    sink.sendall(data)
            except OSError:
                return


@contextmanager
def relayed(target: str) -> Iterator[tuple[triton.InferenceServerClient, Counted]]:
    with closing(Counted(target)) as counted, closing(triton.InferenceServerClient(counted.address)) as client:
        yield client, counted


@pytest.mark.parametrize("algorithm", ["gzip", "deflate"])
def test_compression_works_both_ways(serve: Serve, tmp_path: Path, algorithm: str) -> None:
    served = serve(f"large={models.large_scale(tmp_path)}", f"--compression={algorithm}")
    x = np.ones(1 << 20, np.float32)
    with relayed(served.address) as (client, counted):
        given = triton.InferInput("x", x.shape, "FP32").set_data_from_numpy(x)
        result = client.infer("large", [given], compression_algorithm=algorithm)
        assert (result.as_numpy("y") == 3).all()
        assert 0 < counted.up < x.nbytes // 10
        assert 0 < counted.down < x.nbytes // 10


def test_nothing_is_compressed_unless_the_client_asks(serve: Serve, tmp_path: Path) -> None:
    served = serve(f"large={models.large_scale(tmp_path)}")
    x = np.ones(1 << 20, np.float32)
    with relayed(served.address) as (client, counted):
        given = triton.InferInput("x", x.shape, "FP32").set_data_from_numpy(x)
        assert (client.infer("large", [given]).as_numpy("y") == 3).all()
        assert min(counted.up, counted.down) > x.nbytes
