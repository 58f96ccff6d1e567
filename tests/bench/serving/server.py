"""A server of one way, in a process of its own."""

from __future__ import annotations

import os
import re
import subprocess
import tempfile
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import grpc

from headrace.oip import open_inference_pb2 as pb
from headrace.oip.open_inference_pb2_grpc import GRPCInferenceServiceStub
from tests.bench.measuring.client_turn import client_turn
from tests.bench.measuring.turn import Turn, TurnFailed
from tests.bench.serving.ways import Way
from tests.e2e.serving import READY

METRICS = re.compile(r"headrace metrics on (\S+)\n")
START_SECONDS = 120.0
PRECISION = "--property=INFERENCE_PRECISION_HINT=f32"
"""References compute with f32, so servers do too."""


@dataclass(frozen=True, slots=True)
class Server:
    way: Way
    address: str
    pid: int
    metrics_url: str = ""
    """If it has a port for them."""

    def turn(self, client: str, seconds: float, *, processes: int = 1, **options: object) -> Turn:
        """A turn of a client with this server. Raises TurnFailed."""
        return client_turn(client, self.address, seconds, pid=self.pid, processes=processes, **options)

    def inferences(self, model: str) -> int:
        """How many it has done of a model so far. Raises TurnFailed."""
        with grpc.insecure_channel(self.address) as channel:
            stub = GRPCInferenceServiceStub(channel)
            try:
                answer = stub.ModelStatistics(pb.ModelStatisticsRequest(name=model), timeout=10)
            except grpc.RpcError as error:
                raise TurnFailed(f"the server does not say what it has done: {error}") from None
        return sum(each.inference_count for each in answer.model_stats)


@contextmanager
def running(way: Way, arguments: Sequence[str]) -> Iterator[Server]:
    """A server that is ready inside the block. Raises TurnFailed."""
    command = [*way.command, *arguments, PRECISION, "--port=0", "--log-level=warning"]
    environment = {**os.environ, **way.environment}
    with tempfile.TemporaryFile("w+") as log:
        try:
            process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=log, text=True, env=environment)
        except OSError as error:
            raise TurnFailed(f"{way.text} cannot be run: {error.strerror}") from None
        with process:
            try:
                metrics_url, address = _addresses(process)
                yield Server(way, address, process.pid, metrics_url)
            except _NotReady:
                process.kill()
                process.wait()
                log.seek(0)
                raise TurnFailed(f"{way.text} did not become ready: {_last_line(log.read())}") from None
            finally:
                process.kill()


class _NotReady(Exception):
    pass


def _addresses(process: subprocess.Popen[str]) -> tuple[str, str]:
    """Of the metrics, empty without a port for them, and of the server."""
    assert process.stdout is not None
    watchdog = threading.Timer(START_SECONDS, process.kill)
    watchdog.start()
    line, metrics = process.stdout.readline(), ""
    if match := METRICS.fullmatch(line):
        line, metrics = process.stdout.readline(), match[1]
    watchdog.cancel()
    match = READY.fullmatch(line)
    if match is None:
        raise _NotReady
    return metrics, match[1]


def _last_line(log: str) -> str:
    return log.strip().rpartition("\n")[2] or "it has logged nothing"
