"""Three servers behind Envoy, as deploy/envoy configures it."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from collections import deque
from collections.abc import Iterator
from contextlib import AsyncExitStack
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

import numpy as np
import pytest
import yaml

import headrace.client as hc
from tests import models
from tests.e2e.authority import Authority
from tests.scale.numbers import homes
from tests.scale.proxied import ROOT, Envoy, Servers, processor_seconds
from tests.soak.findings import Findings
from tests.soak.rolling import roll_envoy

STREAMS, CONNECTIONS = 300, 8
ROUTE_SECONDS = 15
"""How long a call may take by default."""
ROUNDS = 3
ONE = np.ones(1, np.float32)


class Case(NamedTuple):
    """So many inferences of so many streams, each of which has a number in flight."""

    streams: int
    size: int
    inferences: int


FRAMED, LONE = Case(1, 256, 20_000), Case(64, 1, 80)
"""Frames, and messages with one inference."""
CASES = FRAMED, LONE


@pytest.fixture(scope="module")
def servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Servers]:
    folder = tmp_path_factory.mktemp("servers")
    servers = Servers(folder, 3, f"scale={models.scale(folder)}", "--drain-delay=3", "--grace=10")
    yield servers
    servers.close()


@pytest.fixture(scope="module")
def envoy(servers: Servers, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Envoy]:
    with Envoy(tmp_path_factory.mktemp("envoy"), servers.ports, "tls") as envoy:
        yield envoy


async def test_streams_of_one_connection_are_spread(servers: Servers, envoy: Envoy) -> None:
    async with envoy.connect() as server, AsyncExitStack() as stack:
        await server.models()
        memory, spent = envoy.memory, servers.processor_seconds() + processor_seconds(envoy.process.pid)
        streams: list[hc.Stream] = []
        for _ in range(STREAMS // 10):
            opened = [server.stream() for _ in range(10)]
            await asyncio.gather(*[stack.enter_async_context(stream) for stream in opened])
            streams += opened
        spread = homes(streams)
        spent = servers.processor_seconds() + processor_seconds(envoy.process.pid) - spent
        memory = envoy.memory - memory
    print(
        f"\n{STREAMS} streams of one connection: {spread}; to open one takes {spent / STREAMS * 1e3:.2f} ms of the "
        f"processor, and {memory / STREAMS / 1024:.0f} KiB of Envoy"
    )
    assert len(spread) == 3
    assert all(abs(count - STREAMS / 3) <= STREAMS / 30 for count in spread)


@pytest.mark.timeout(600)
def test_a_rolling_restart_of_everything_loses_nothing(servers: Servers, envoy: Envoy) -> None:
    """By turns the servers are stopped and killed, and then Envoy: once, of the ten times of `make rolling`."""
    findings = Findings()
    roll_envoy(servers, envoy, 1, findings)
    print(f"\n{findings}")
    findings.check()


def test_tritonclient_finds_its_server(envoy: Envoy) -> None:
    command = [sys.executable, "-m", "tests.scale.triton_calls", envoy.target, str(envoy.authority.file), "50"]
    ran = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert ran.returncode == 0, ran.stderr
    assert json.loads(ran.stdout) == {"unary": [3], "stream": [[str(each), [2 * each + 1]] for each in range(50)]}


async def test_a_silent_stream_lives(servers: Servers, tmp_path: Path) -> None:
    """There are two limits of silence, and of the length of a call: 300 and 15 seconds, unless they are 0.

    The configuration has 0 for both. One of its streams is silent for longer than the second limit; what the first one
    would do to it is seen where that is a second.
    """

    def soon(configuration: Any) -> None:
        manager_of(configuration)["stream_idle_timeout"] = "1s"

    manager = manager_of(yaml.safe_load((ROOT / "deploy/envoy/envoy.yaml").read_text()))
    assert manager["stream_idle_timeout"] == "0s"
    (host,) = manager["route_config"]["virtual_hosts"]
    assert [route["route"]["timeout"] for route in host["routes"]] == ["0s"]
    with (
        Envoy(tmp_path / "as-it-is", servers.ports, "plain") as envoy,
        Envoy(tmp_path / "impatient", servers.ports, "plain", change=soon) as impatient,
    ):
        async with envoy.connect("plain") as server, server.stream() as silent:
            began = asyncio.get_running_loop().time()
            async with impatient.connect("plain") as other, other.stream() as ended:
                with pytest.raises(hc.HeadraceError):
                    await ask_rarely(ended)
            await asyncio.sleep(ROUTE_SECONDS + 1 - (asyncio.get_running_loop().time() - began))
            await ask(silent, 1, 1)


async def ask_rarely(stream: hc.Stream) -> None:
    """Again and again, with more than a second in between."""
    while True:
        await asyncio.sleep(2)
        await ask(stream, 1, 1)


def manager_of(configuration: Any) -> Any:
    """The connection manager, which is about calls."""
    (listener,) = configuration["static_resources"]["listeners"]
    return listener["filter_chains"][0]["filters"][0]["typed_config"]


async def test_what_it_costs(servers: Servers, tmp_path: Path) -> None:
    """In processor time, which other programs change least: of the server alone, and of the server and Envoy."""
    alone: dict[Case, list[float]] = {case: [] for case in CASES}
    behind: dict[Case, list[float]] = {case: [] for case in CASES}
    port = servers.ports[0]
    with Envoy(tmp_path, [port], "plain") as envoy:

        def spent() -> float:
            return servers.processor_seconds() + processor_seconds(envoy.process.pid)

        async with hc.connect(f"127.0.0.1:{port}") as direct, envoy.connect("plain") as proxied:
            for _ in range(ROUNDS):
                for case in CASES:
                    for server, costs in ((direct, alone), (proxied, behind)):
                        opened = [server.stream() for _ in range(case.streams)]
                        await asyncio.gather(*[stream.__aenter__() for stream in opened])
                        before = spent()
                        await asyncio.gather(*[ask(stream, case.size, case.inferences) for stream in opened])
                        costs[case].append((spent() - before) / case.inferences / case.streams)
                        await asyncio.gather(*[stream.__aexit__(None, None, None) for stream in opened])
    for case in CASES:
        one, both = median(alone[case]) * 1e6, median(behind[case]) * 1e6
        print(f"\n{case}: {one:.1f} us of the processor alone, {both:.1f} us behind Envoy: {one / both:.2f}")
    assert median(alone[FRAMED]) >= 0.7 * median(behind[FRAMED])


async def ask(stream: hc.Stream, size: int, count: int) -> None:
    """So many inferences, so many of them in flight."""
    waiting: deque[hc.Ticket] = deque()
    for _ in range(count):
        if len(waiting) == size:
            assert (await waiting.popleft())["y"][0] == 3
        waiting.append(await stream.submit("scale", {"x": ONE}))
    for ticket in waiting:
        assert (await ticket)["y"][0] == 3


async def test_bytes_are_passed_through_to_servers_with_tls(servers: Servers, tmp_path: Path) -> None:
    """Which know their clients by certificates. Connections are spread, and streams stay on theirs."""
    authority = Authority(tmp_path / "tls")
    options = [*authority.options("server", "127.0.0.1", "headrace"), f"--tls-ca={authority.file}"]
    model = f"scale={models.scale(tmp_path)}"
    own = Servers(tmp_path, 2, model, *options, cache=servers.cache)
    try:
        with Envoy(tmp_path / "envoy", own.ports, "passthrough", authority) as envoy:
            tls = authority.client("somebody")
            async with AsyncExitStack() as stack:
                connections = [
                    await stack.enter_async_context(hc.connect(envoy.target, tls=tls)) for _ in range(CONNECTIONS)
                ]
                streams = [await stack.enter_async_context(each.stream()) for each in connections]
                for stream in streams:
                    await ask(stream, 8, 8)
                assert homes(streams) == [CONNECTIONS // 2] * 2
                more = [await stack.enter_async_context(connections[0].stream()) for _ in range(3)]
                assert {stream.hello.instance for stream in more} == {streams[0].hello.instance}
            with pytest.raises(hc.Unavailable):
                async with hc.connect(envoy.target, tls=hc.Tls(ca=authority.file), connect_timeout=5) as nobody:
                    await nobody.models()
    finally:
        own.close()
