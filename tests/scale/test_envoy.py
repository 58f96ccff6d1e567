"""Three servers behind Envoy, as deploy/envoy configures it."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import AsyncExitStack

import pytest

import headrace.client as hc
from tests import models
from tests.scale.numbers import homes
from tests.scale.proxied import Envoy, Servers

STREAMS = 300


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


async def test_streams_of_one_connection_are_spread(envoy: Envoy) -> None:
    async with envoy.connect() as server, AsyncExitStack() as stack:
        streams: list[hc.Stream] = []
        for _ in range(STREAMS // 10):
            opened = [server.stream() for _ in range(10)]
            await asyncio.gather(*[stack.enter_async_context(stream) for stream in opened])
            streams += opened
        spread = homes(streams)
    print(f"\n{STREAMS} streams of one connection: {spread}")
    assert len(spread) == 3
    assert all(abs(count - STREAMS / 3) <= STREAMS / 30 for count in spread)
