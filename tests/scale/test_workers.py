"""Workers: one port, one server; what ends is replaced, and nothing is left when the parent ends."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

import numpy as np
import pytest

import headrace.client as hc
import headrace.client.blocking as blocking
from tests import models
from tests.e2e.serving import Serve, Served, run_server
from tests.scale.processes import lives, pids_of, wait_until

STREAMS = 8


def scaled(address: str, value: float) -> float:
    """What a connection of its own gets for a number."""
    with blocking.connect(address) as server:
        y = server.infer("scale", {"x": np.full(4, value, np.float32)})["y"]
        assert (y == y[0]).all()
        return float(y[0])


def test_a_port_is_one_servers_only(serve: Serve, tmp_path: Path) -> None:
    model = f"scale={models.scale(tmp_path)}"
    served = serve(model, "--workers=2")
    port = served.address.rpartition(":")[2]
    for workers in ("1", "2"):
        other = run_server(model, f"--port={port}", f"--workers={workers}")
        assert other.returncode == 4, other.stderr
        assert "already in use" in other.stderr
    with socket.socket() as stranger, pytest.raises(OSError, match="in use"):
        stranger.bind(("127.0.0.1", int(port)))
    assert {scaled(served.address, i) for i in range(8)} == {2.0 * i + 1 for i in range(8)}
    assert served.stop() == 0


@pytest.mark.parametrize("transport", ["completion-queue", "aio"])
def test_connections_are_spread_over_workers(transport: str, serve: Serve, tmp_path: Path) -> None:
    served = serve(f"scale={models.scale(tmp_path)}", "--workers=2", f"--transport={transport}")
    before = [processor_seconds(pid) for pid in pids_of(served.process.pid)]
    for value in range(24):
        assert scaled(served.address, value) == 2 * value + 1
    spent = [processor_seconds(pid) - old for pid, old in zip(pids_of(served.process.pid), before, strict=True)]
    assert min(spent) > 0, spent  # the chance that one gets nothing is 1 in 8 million


def processor_seconds(pid: int) -> float:
    times = Path(f"/proc/{pid}/schedstat").read_text().split()
    return int(times[0]) / 1e9


@pytest.mark.timeout(180)
async def test_workers_are_killed_under_load_and_nothing_is_lost(serve: Serve, tmp_path: Path) -> None:
    served = serve(f"scale={models.scale(tmp_path)}", "--workers=2")
    parent, breaks, answers = served.process.pid, list[hc.Resumed](), list[float]()
    stop = asyncio.Event()

    async def load(number: int) -> int:
        """Numbers on a stream of a connection of its own, four in flight, until it is enough."""
        count = 0
        async with (
            hc.connect(served.address) as server,
            server.stream(resume=True, on_resume=breaks.append) as stream,
        ):
            while not stop.is_set():
                values = [number * 1e5 + count + i for i in range(4)]
                tickets = [await stream.submit("scale", {"x": np.full(4, each, np.float32)}) for each in values]
                for value, ticket in zip(values, tickets, strict=True):
                    y = (await ticket)["y"]
                    assert (y == np.float32(2 * value + 1)).all()
                    answers.append(value)
                count += 4
                await asyncio.sleep(0.005)
        return count

    async with asyncio.TaskGroup() as tasks:
        loads = [tasks.create_task(load(number)) for number in range(STREAMS)]
        seconds: list[float] = []
        for _ in range(3):
            pids = pids_of(parent)
            assert len(pids) == 2
            await answered(answers, 50)
            os.kill(pids[0], signal.SIGKILL)
            # Meanwhile the other one serves, and in the end there are two again.
            seconds.append(await asyncio.to_thread(wait_until, back(served, len(seconds) + 1), "replaced"))
            await answered(answers, 50)
        stop.set()
    sent = sum(each.result() for each in loads)
    assert len(answers) == sent == len(set(answers))  # none is lost, none is given twice
    assert breaks
    longest = max(each.seconds for each in breaks)
    print(
        f"\nkill -9 of a worker of 2, three times: {sent} answers, 0 lost, {len(breaks)} breaks, the longest "
        f"{longest * 1e3:.0f} ms; replaced in {', '.join(f'{each:.1f}' for each in seconds)} s"
    )
    assert served.stop() == 0


async def answered(answers: list[float], more: int) -> None:
    """Wait until there are so many more answers."""
    enough = len(answers) + more
    await asyncio.to_thread(wait_until, lambda: len(answers) > enough, "served")


def back(served: Served, times: int) -> Callable[[], bool]:
    """Whether workers have been replaced so often."""
    return lambda: served.log.count(" is back") >= times


def test_a_parent_that_is_killed_leaves_nothing(serve: Serve, tmp_path: Path) -> None:
    served = serve(f"scale={models.scale(tmp_path)}", "--workers=2")
    pids = pids_of(served.process.pid)
    assert len(pids) == 2
    served.process.kill()
    assert wait_until(lambda: not any(map(lives, pids)), "gone", 5) < 5


def test_a_server_that_cannot_load_says_why_and_ends_as_one_process_does(tmp_path: Path) -> None:
    broken = tmp_path / "broken.onnx"
    broken.write_bytes(b"nothing")
    ended = run_server(f"broken={broken}", "--port=0", "--workers=2")
    assert ended.returncode == 3
    assert "broken" in ended.stderr
    assert ended.stderr.count("headrace-server: ") == 1


def test_a_socket_file_cannot_be_shared(tmp_path: Path) -> None:
    ended = run_server(f"scale={models.scale(tmp_path)}", f"--host=unix:{tmp_path}/socket", "--workers=2")
    assert ended.returncode == 2
    assert "--workers" in ended.stderr


def test_draining_lets_tickets_finish_in_all_workers(serve: Serve, tmp_path: Path) -> None:
    served = serve(f"slow={models.slow(tmp_path)}", "--workers=2", "--grace=120")
    with ExitStack() as stack:
        servers = [stack.enter_context(blocking.connect(served.address)) for _ in range(6)]
        streams = [stack.enter_context(server.stream()) for server in servers]
        tickets = [stream.submit("slow", {"x": np.ones(1, np.float32)}) for stream in streams for _ in range(2)]
        # They take long enough that all are in flight, in whichever worker.
        wait_until(lambda: servers[0].status().tickets_in_flight >= len(tickets), "all in flight")
        served.process.send_signal(signal.SIGTERM)
        assert all(ticket.result()["y"] == 1 for ticket in tickets)
    assert served.process.wait(60) == 0


def test_a_server_that_stops_while_a_worker_is_replaced_has_not_failed(serve: Serve, tmp_path: Path) -> None:
    served = serve(f"scale={models.scale(tmp_path)}", "--workers=2")
    left, killed = pids_of(served.process.pid)
    os.kill(killed, signal.SIGKILL)
    wait_until(lambda: len({*pids_of(served.process.pid)} - {left, killed}) == 1, "started again")
    served.process.send_signal(signal.SIGTERM)  # the new one takes seconds until it serves
    assert served.process.wait(60) == 0
