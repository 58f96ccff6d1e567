from collections.abc import AsyncIterator

import pytest

import headrace.client as hc
from tests.client.aio.scripted_server import ScriptedServer, scripted_server


@pytest.fixture
async def server() -> AsyncIterator[ScriptedServer]:
    async with scripted_server() as server:
        yield server


@pytest.fixture
async def client(server: ScriptedServer) -> AsyncIterator[hc.Server]:
    async with hc.connect(server.target) as client:
        yield client
