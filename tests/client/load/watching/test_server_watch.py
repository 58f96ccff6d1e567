"""What a server says about itself during a load: of a real server, and of those that do not say anything."""

from __future__ import annotations

import asyncio

import pytest

from headrace.client.load.record.run import ServerLoad
from headrace.client.load.watching.server_watch import server_load, watched_server
from headrace.client.protocol.connection_settings import ConnectionSettings
from headrace.client.protocol.status import ModelStatus, ServerStatus
from tests.client.load.scripted_oip_server import ScriptedOipServer, scripted_oip_server


def test_the_load_is_that_of_all_versions_of_the_model() -> None:
    models = (
        ModelStatus("m", "1", slots_free=1, slots_running=2, slots_stopping=3, tickets_queued=4, inferences=0,
                    failures=0, executions=0, slots_restoring=5),
        ModelStatus("m", "2", slots_free=10, slots_running=20, slots_stopping=0, tickets_queued=40, inferences=0,
                    failures=0, executions=0),
        ModelStatus("other", "1", 100, 100, 100, 100, 0, 0, 0),
    )  # fmt: skip
    status = ServerStatus("0.1", False, 1, 77, 0, 0, models, resident_bytes=1 << 30)
    assert server_load(status, "m", 2.5) == ServerLoad(2.5, 1 << 30, 77, 44, 22, 41)
    assert server_load(status, "gone", 2.5) == ServerLoad(2.5, 1 << 30, 77, 0, 0, 0)


async def test_a_server_without_a_status_is_not_an_error(capfd: pytest.CaptureFixture[str]) -> None:
    found: list[ServerLoad] = []
    started = asyncio.Event()
    started.set()
    async with (
        scripted_oip_server(ScriptedOipServer(lambda _: 0.0)) as server,
        watched_server(ConnectionSettings(target=server.target), "echo", started, found.append),
    ):
        await asyncio.sleep(0.3)
    async with watched_server(ConnectionSettings(target=server.target), "echo", started, found.append):
        await asyncio.sleep(0.3)
    async with watched_server(ConnectionSettings(target="192.0.2.1:1"), "echo", asyncio.Event(), found.append):
        pass
    assert found == []
    assert capfd.readouterr() == ("", "")
