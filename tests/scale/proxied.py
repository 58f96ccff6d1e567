"""Servers behind Envoy, with the configurations of deploy/envoy."""

from __future__ import annotations

import itertools
import json
import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any, Literal
from urllib.request import urlopen

import yaml

import headrace.client as hc
from tests.e2e.authority import Authority
from tests.e2e.pair import free_port
from tests.e2e.serving import F32, Served
from tests.waiting import until

ROOT = Path(__file__).parents[2]
ENVOY = Path(sys.executable).with_name("envoy")
SECONDS = 60.0
TICKS = os.sysconf("SC_CLK_TCK")

Kind = Literal["tls", "plain", "passthrough"]


class Servers:
    """Servers of the same models, each at a port of its own, which it gets back when it is started again."""

    def __init__(self, folder: Path, count: int, *arguments: str, cache: Path | None = None) -> None:
        """They start faster with the `cache` of others that have the same models."""
        self._folder = folder
        self.cache = cache or folder / "cache"
        self._arguments = [*arguments, F32, f"--cache-dir={self.cache}"]
        self._numbers = itertools.count()
        self.ports = [free_port() for _ in range(count)]
        self.served = [self._start(port) for port in self.ports]
        with ThreadPoolExecutor() as threads:
            list(threads.map(Served.ready, self.served))

    def _start(self, port: int) -> Served:
        log = self._folder / f"server-{next(self._numbers)}.log"
        return Served([*self._arguments, f"--port={port}"], log)

    def start_again(self, index: int) -> None:
        """Once it has ended, which is waited for."""
        self.served[index].process.wait(SECONDS)
        self.served[index].__exit__(None, None, None)
        self.served[index] = self._start(self.ports[index])
        self.served[index].ready()

    def processor_seconds(self) -> float:
        return sum(processor_seconds(served.process.pid) for served in self.served)

    def close(self) -> None:
        for served in self.served:
            served.__exit__(None, None, None)


class Envoy:
    """`with Envoy(folder, ports, "tls") as envoy`: a file of deploy/envoy, at work once all servers are healthy.

    `ports` are those of the servers, on 127.0.0.1. `plain` is the one with TLS at the edge, without its TLS. `change`
    makes the configuration another one.
    """

    def __init__(
        self,
        folder: Path,
        ports: Sequence[int],
        kind: Kind,
        authority: Authority | None = None,
        *,
        change: Callable[[Any], None] = lambda _: None,
    ) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.port, self._admin = free_port(), free_port()
        self.authority = authority or Authority(folder / "tls")
        self.target = f"127.0.0.1:{self.port}"
        self._servers = len(ports)
        file = folder / "envoy.yaml"
        configuration = self._configuration(kind, ports)
        change(configuration)
        file.write_text(yaml.safe_dump(configuration))
        self._command = [
            str(ENVOY),
            "-c",
            str(file),
            "--concurrency",
            "2",
            "--use-dynamic-base-id",
            "--log-level",
            "warning",
        ]
        self._log = folder / "envoy.log"
        self._starter = ThreadPoolExecutor(1)
        """Envoy ends with the thread that has started it."""
        self.process = self._start()

    def _start(self) -> subprocess.Popen[bytes]:
        with self._log.open("ab") as log:
            return self._starter.submit(subprocess.Popen, self._command, stdout=log, stderr=log).result()

    def restart(self, number: int) -> None:
        """End it by a signal, and start it again at its port. Returns when all servers are healthy."""
        self.process.send_signal(number)
        self.process.wait(SECONDS)
        self.process = self._start()
        self.wait_until_healthy(self._servers)

    def connect(self, kind: Kind = "tls") -> hc.Server:
        """A client that waits for a machine which has other things to do."""
        tls = None if kind == "plain" else hc.Tls(ca=self.authority.file)
        return hc.connect(self.target, tls=tls, connect_timeout=SECONDS)

    def _configuration(self, kind: Kind, ports: Sequence[int]) -> Any:
        name = "envoy-passthrough.yaml" if kind == "passthrough" else "envoy.yaml"
        text = (ROOT / "deploy/envoy" / name).read_text()
        certificate, key = self.authority.issue("edge", "127.0.0.1")
        for path, real in (("tls.crt", certificate), ("tls.key", key), ("ca.crt", self.authority.file)):
            text = text.replace(f"/etc/headrace/tls/{path}", str(real))
        found = yaml.safe_load(text)
        found["admin"]["address"]["socket_address"]["port_value"] = self._admin
        (listener,), (cluster,) = found["static_resources"]["listeners"], found["static_resources"]["clusters"]
        listener["address"]["socket_address"] = {"address": "127.0.0.1", "port_value": self.port}
        (chain,) = listener["filter_chains"]
        if kind == "plain":
            del chain["transport_socket"]
        (locality,) = cluster["load_assignment"]["endpoints"]
        locality["lb_endpoints"] = [
            {"endpoint": {"address": {"socket_address": {"address": "127.0.0.1", "port_value": port}}}}
            for port in ports
        ]
        return found

    @property
    def memory(self) -> int:
        """What its heap holds, in bytes."""
        with urlopen(f"http://127.0.0.1:{self._admin}/memory", timeout=10) as answer:
            return int(json.load(answer)["allocated"])

    @property
    def healthy(self) -> int:
        """How many servers it sends streams to."""
        with urlopen(f"http://127.0.0.1:{self._admin}/clusters?format=json", timeout=10) as answer:
            (cluster,) = json.load(answer)["cluster_statuses"]
        hosts = [host["health_status"] for host in cluster["host_statuses"]]
        return sum(not set(host) - {"eds_health_status"} and host["eds_health_status"] == "HEALTHY" for host in hosts)

    def wait_until_healthy(self, count: int) -> None:
        def look() -> bool:
            assert self.process.poll() is None, self._log.read_text()
            with suppress(OSError):  # it does not listen yet
                return self.healthy == count
            return False

        until(look, lambda: f"not {count} servers are healthy:\n{self._log.read_text()}", SECONDS)

    def __enter__(self) -> Envoy:
        try:
            self.wait_until_healthy(self._servers)
        except BaseException:
            self.process.kill()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.process.kill()
        self.process.wait()
        self._starter.shutdown()


def processor_seconds(pid: int) -> float:
    """What a process has taken of the processor, all its threads together."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICKS
