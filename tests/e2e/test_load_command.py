"""`headrace load` and `headrace report`, as users run them, against servers whose latencies are known."""

from __future__ import annotations

import asyncio
import json
import signal
import socket
import sys
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest

from headrace.client.load.record.record_file import read_record
from tests import models
from tests.client.load.scripted_oip_server import ScriptedOipServer, oip_server_process, scripted_oip_server
from tests.disturbances import retried_if_disturbed
from tests.e2e.serving import Serve

COMMAND = [sys.executable, "-m", "headrace.client"]
OIP = ("--protocol", "oip", "--model", "echo", "--warmup", "0")
ESCAPE = "\x1b"


class Ended(NamedTuple):
    code: int
    out: str
    err: str

    @property
    def search(self) -> dict[str, Any]:
        """The result of the search that the run was."""
        return dict(json.loads(self.out)["runs"][0]["search"])

    @property
    def phases(self) -> list[dict[str, Any]]:
        """Of the only run of the JSON on standard output."""
        (run,) = json.loads(self.out)["runs"]
        return list(run["phases"])


async def headrace(*arguments: str, interrupted: Awaitable[object] | None = None) -> Ended:
    """How the command ended, without a terminal; with Ctrl-C after `interrupted`."""
    pipe = asyncio.subprocess.PIPE
    process = await asyncio.create_subprocess_exec(*COMMAND, *arguments, stdout=pipe, stderr=pipe)
    try:
        if interrupted is not None:
            await interrupted
            process.send_signal(signal.SIGINT)
        out, err = await process.communicate()
    finally:
        with suppress(ProcessLookupError):
            process.kill()
    assert process.returncode is not None
    ended = Ended(process.returncode, out.decode(), err.decode())
    assert "Traceback" not in ended.out + ended.err
    assert ESCAPE not in ended.out + ended.err
    return ended


async def loaded(latency: Callable[[int], float], *arguments: str) -> dict[str, Any]:
    """The one phase of a load on a server with these latencies."""
    async with scripted_oip_server(ScriptedOipServer(latency)) as server:
        return await phase_of(server.target, *arguments)


async def phase_of(target: str, *arguments: str) -> dict[str, Any]:
    """The one phase of a load."""
    ended = await headrace("load", target, *OIP, "--json", *arguments)
    assert (ended.code, ended.err) == (0, "")
    (phase,) = ended.phases
    return phase


@retried_if_disturbed
async def test_a_stall_shows_in_latency_and_hides_in_service_time() -> None:
    """One request of 500 takes 1.4 s, and there is room for one at a time, so that others wait for it in the client.

    They were due every 10 ms. Those behind it wait 1.39 s, 1.38 s, ... less what is caught up: some 150 of them.
    """
    window_of_one = ("--window", "1", "--rate", "100/s", "--duration", "5")
    phase = await loaded(lambda number: 1.4 if number == 200 else 0.0, *window_of_one)
    assert phase["planned"] == phase["sent"] == phase["ok"] == 500
    latency, service = phase["latency"], phase["service"]
    assert 1400 <= latency["max_ms"] <= 1500
    assert 1250 <= latency["p99_ms"] <= 1420
    assert latency["p50_ms"] < 50
    assert service["p99_ms"] < 100
    assert 1400 <= service["max_ms"] <= 1500
    assert 140 <= phase["late"] <= 250
    assert phase["plan_kept_percent"] == pytest.approx(100 * (1 - phase["late"] / 500))


@retried_if_disturbed
async def test_a_rate_that_the_server_cannot_hold_is_not_lowered() -> None:
    """It takes 20 ms for each request, one at a time: 50/s at most."""
    phase = await loaded(lambda _: 0.02, "--window", "1", "--rate", "100/s", "--duration", "3")
    assert phase["rate_planned_per_s"] == pytest.approx(100, rel=0.01)
    assert phase["planned"] == 300
    assert phase["throughput_per_s"] <= 50
    assert phase["unsent"] == 300 - phase["sent"] >= 149
    assert phase["plan_kept_percent"] < 10
    delays = phase["delays"]
    assert delays["window"]["requests"] >= phase["late"] + phase["unsent"] - 5
    # The request that is due at t is sent at 2t, or later, as long as there is time for it.
    assert delays["window"]["total_ms"] >= 0.95 * 2 * 1e3 * sum(at / 100 for at in range(150))
    assert delays["processor"]["total_ms"] < 0.05 * delays["window"]["total_ms"]
    assert phase["growth"]["last_ms"] > 1000 > phase["growth"]["first_ms"]
    assert any(warning.startswith("the server handled only") for warning in phase["warnings"])
    assert not any("client" in warning for warning in phase["warnings"])


@retried_if_disturbed
async def test_a_known_distribution_is_reported_within_two_percent(tmp_path: Path) -> None:
    """1,200 latencies on a grid of a Pareto distribution from 0.2 s on, in an order of no meaning."""
    count = 1200
    grid = 0.2 * (1 - (np.arange(count) + 0.5) / count) ** -0.3
    np.save(tmp_path / "latencies.npy", np.random.default_rng(1).permutation(grid))
    async with oip_server_process(tmp_path / "latencies.npy") as target:
        phase = await phase_of(target, "--mode", "unary", "--rate", "300/s", "--count", str(count))
    assert phase["ok"] == count
    assert phase["unsent"] == 0
    for name, rank in (("p50", 600), ("p90", 1080), ("p99", 1188), ("p99_9", 1199)):
        assert phase["latency"][f"{name}_ms"] == pytest.approx(1e3 * grid[rank - 1], rel=0.02)
        assert phase["service"][f"{name}_ms"] == pytest.approx(1e3 * grid[rank - 1], rel=0.02)


async def test_a_broken_condition_is_the_exit_code() -> None:
    async with scripted_oip_server(ScriptedOipServer(lambda _: 0.05)) as server:
        asked = ("load", server.target, *OIP, "--concurrency", "2", "--count", "10")
        held = await headrace(*asked, "--fail-if", "errors>0", "--fail-if", "p90>30s")
        broken = await headrace(*asked, "--fail-if", "errors>0", "--fail-if", "p50>10ms")
    assert (held.code, held.err) == (0, "")
    assert broken.code == 3
    assert "2 in flight" in broken.out
    assert broken.err.startswith("headrace: p50 is ")
    assert broken.err.endswith(" ms, which is > 10 ms (2 in flight)\n")


async def test_a_load_is_repeated(tmp_path: Path) -> None:
    record = tmp_path / "run.jsonl"
    async with scripted_oip_server(ScriptedOipServer(lambda _: 0.002)) as server:
        asked = ("--sweep", "1,3", "--count", "50", "--repeat", "3", "--record", str(record))
        ended = await headrace("load", server.target, *OIP, *asked)
    assert (ended.code, ended.err) == (0, "")
    assert "3 times 1 in flight" in ended.out
    report = await headrace("report", str(record), "--json")
    assert [phase["load"]["concurrency"] for phase in report.phases] == [1, 3] * 3
    compared = await headrace("report", str(record), str(record))
    assert "B against A" in compared.out
    assert "~" not in compared.out


@retried_if_disturbed
async def test_a_search_finds_the_capacity_of_a_server(tmp_path: Path) -> None:
    """It takes 5 ms for each request, one after the other: 200/s, and beyond that a second adds 50 ms for every 5 %."""
    loop, free = asyncio.get_running_loop(), 0.0

    def latency(_: int) -> float:
        nonlocal free
        free = max(free, loop.time()) + 0.005
        return free - loop.time()

    record = tmp_path / "search.jsonl"
    async with scripted_oip_server(ScriptedOipServer(latency)) as server:
        trials = ("--search", "p90<40ms", "--rate", "60/s", "--duration", "1", "--warmup", "0.2")
        ended = await headrace("load", server.target, *OIP[:4], *trials, "--record", str(record))
    assert (ended.code, ended.err) == (0, "")
    found = (await headrace("report", str(record), "--json")).search
    assert 160 <= found["holds_per_s"] <= 210
    assert found["holds_per_s"] < found["fails_per_s"] <= 230
    assert f"p90 < 40 ms holds up to {found['holds_per_s']:.3g}/s" in ended.out


async def test_a_search_without_a_result_fails() -> None:
    async with scripted_oip_server(ScriptedOipServer(lambda _: 0.05)) as server:
        trials = ("--search", "p50<10ms", "--rate", "100/s", "--duration", "0.3", "--warmup", "0")
        ended = await headrace("load", server.target, *OIP[:4], *trials)
    assert ended.code == 3
    assert ended.err == "headrace: p50 < 10 ms does not hold even at 12.5/s\n"


async def test_a_sweep_is_recorded_reported_and_compared(serve: Serve, tmp_path: Path) -> None:
    target = serve(f"am={models.add_multiply(tmp_path)}").address
    records = [tmp_path / "a.jsonl", tmp_path / "b.jsonl"]
    for record, ways in zip(records, ("--processes=1", "--processes=2"), strict=True):
        sweep = ("--sweep", "1,4", "--count", "200", "--warmup", "0.1", ways)
        ended = await headrace("load", target, "--model", "am", *sweep, "--record", str(record))
        assert (ended.code, ended.err) == (0, "")
        assert "1 in flight" in ended.out
        assert "4 in flight" in ended.out
    report = await headrace("report", str(records[0]), "--json")
    assert [phase["ok"] for phase in report.phases] == [200, 200]
    where = report.phases[0]["where"]
    assert min(where["queue_ms"], where["inference_ms"], where["network_ms"]) > 0
    page = tmp_path / "page.html"
    compared = await headrace("report", *map(str, records), "--html", str(page))
    assert (compared.code, compared.out, compared.err) == (0, "", f"written to {page}\n")
    assert "4 in flight" in page.read_text()


@pytest.mark.parametrize("protocol", ["headrace", "oip"])
async def test_a_record_has_the_load_of_the_server_and_the_time_of_day(
    serve: Serve, tmp_path: Path, protocol: str
) -> None:
    target = serve(f"am={models.add_multiply(tmp_path)}").address
    record = tmp_path / "run.jsonl"
    before = time.time()
    asked = ("--protocol", protocol, "--rate", "20/s", "--duration", "2.5", "--warmup", "0", "--record", str(record))
    assert (await headrace("load", target, "--model", "am", *asked)).code == 0
    (outcome,) = read_record(record).outcomes
    assert outcome.began is not None
    assert before < outcome.began < time.time()
    assert len(outcome.server_loads) >= 2
    assert all(0 <= load.moment <= 5 for load in outcome.server_loads)
    assert all(load.resident_bytes > 10**7 and load.slots >= 1 for load in outcome.server_loads)


async def test_a_server_that_is_not_there_leaves_an_old_record_alone(tmp_path: Path) -> None:
    record = tmp_path / "run.jsonl"
    async with scripted_oip_server(ScriptedOipServer(lambda _: 0.0)) as server:
        asked = (server.target, *OIP, "--count", "20", "--record", str(record))
        assert (await headrace("load", *asked)).code == 0
        first = record.read_text()
        assert (await headrace("load", *asked)).code == 0
        assert record.read_text().count('"settings"') == 1
    second = record.read_text()
    assert (await headrace("load", *asked)).code == 1
    assert record.read_text() == second != first


async def test_an_interrupt_reports_what_there_is() -> None:
    async def twenty_requests() -> None:
        while server.count < 20:  # noqa: ASYNC110 - nothing tells when
            await asyncio.sleep(0.01)

    async with scripted_oip_server(ScriptedOipServer(lambda _: 0.01)) as server:
        asked = ("load", server.target, *OIP, "--rate", "50/s", "--duration", "60", "--json")
        ended = await headrace(*asked, interrupted=twenty_requests())
    assert (ended.code, ended.err) == (130, "")
    (phase,) = ended.phases
    assert phase["interrupted"]
    assert 10 <= phase["ok"] == phase["planned"] < 60 * 50


async def test_an_interrupt_before_anything_was_sent_says_nothing() -> None:
    """Something accepts the connection and does not answer, so it is still trying to connect."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        silent.setblocking(False)
        accepting = asyncio.create_task(asyncio.get_running_loop().sock_accept(silent))
        ended = await headrace("load", f"127.0.0.1:{silent.getsockname()[1]}", *OIP, interrupted=accepting)
        accepting.result()[0].close()
    assert ended == (130, "", "")


async def test_the_self_test_measures_every_way() -> None:
    ended = await headrace("load", "--self-test")
    assert (ended.code, ended.err) == (0, "")
    for way in ("no transport", "headrace --mode stream", "headrace --mode unary", "oip --mode stream"):
        assert f"{way} " in ended.out


@pytest.mark.parametrize("mode", ["stream", "unary"])
async def test_a_load_without_any_success_is_no_result(mode: str) -> None:
    async with scripted_oip_server(ScriptedOipServer(lambda _: 0.001)) as server:
        failing = ("--protocol", "oip", "--model", "failing", "--warmup", "0", "--mode", mode, "--rate", "50/s")
        ended = await headrace("load", server.target, *failing, "--count", "20", "--fail-if", "p50>1s")
    assert ended.code == 1
    assert "! nothing was measured, as no request succeeded" in ended.out
    assert ended.err.splitlines()[-1] == "headrace: no request succeeded (50/s)"


async def test_a_search_without_any_success_is_no_result() -> None:
    async with scripted_oip_server(ScriptedOipServer(lambda _: 0.001)) as server:
        failing = ("--protocol", "oip", "--model", "failing", "--warmup", "0", "--search", "p50<1s")
        ended = await headrace("load", server.target, *failing, "--rate", "50/s", "--duration", "0.5")
    assert ended.code == 1
    assert ended.err.splitlines()[-1] == "headrace: no request succeeded at any rate"


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (("--outputs", "z"), "--outputs: model 'echo' has no output 'z'; its outputs: y FP32[?,16]"),
        (("--shape", "x:2,3"), "input 'x' has shape [2,3], but model 'echo' takes x FP32[?,16]"),
        (("--shape", "x:16"), "input 'x' has shape [16], but model 'echo' takes x FP32[?,16]"),
        (("--input", "x=[[1, 2]]"), "input 'x' has shape [1,2], but model 'echo' takes x FP32[?,16]"),
    ],
)
async def test_what_the_model_does_not_take_is_refused_before_any_load(
    arguments: tuple[str, ...], sentence: str
) -> None:
    async with scripted_oip_server(ScriptedOipServer(lambda _: 0.0)) as server:
        ended = await headrace("load", server.target, *OIP, *arguments)
        assert server.count == 0
    assert ended == (2, "", f"headrace: {sentence}\n")


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ((), "TARGET and MODEL are required"),
        (("127.0.0.1:1",), "TARGET and MODEL are required"),
        (("127.0.0.1:1", "--model", "m", "--rate", "fast"), '"fast" is not a rate'),
        (("127.0.0.1:1", "--model", "m", "--rate", "1/s", "--sweep", "1,2"), "--rate and --sweep cannot be combined"),
        (
            ("127.0.0.1:1", "--model", "m", "--duration", "1", "--count", "1"),
            "--duration and --count cannot be combined",
        ),
        (("127.0.0.1:1", "--model", "m", "--fail-if", "p42>1ms"), "p42"),
        (("127.0.0.1:1", "--model", "m", "--search", "errors<1%"), "is not an upper limit of a duration"),
        (("127.0.0.1:1", "--model", "m", "--search", "p99<1s", "--count", "9"), "--search and --count cannot be"),
        (("127.0.0.1:1", "--model", "m", "--search", "p99<1s", "--rate", "1..2/s"), "begins with one --rate"),
        (
            ("127.0.0.1:1", "--model", "m", "--search", "p99<1s", "--rate", "50/s", "--duration", "1"),
            "need 100 requests or more: begin with a --rate of 100/s or more, or try a longer --duration",
        ),
        (
            ("127.0.0.1:1", "--model", "m", "--concurrency", "9", "--window", "4"),
            "1 stream with a window of 4 cannot keep 9 requests in flight",
        ),
        (("127.0.0.1:1", "--model", "m", "--processes", "4", "--streams", "2"), "--streams is 2"),
        (("127.0.0.1:1", "--model", "m", "--record", "/nowhere/run.jsonl"), "/nowhere/run.jsonl cannot be written"),
    ],
)
async def test_what_makes_no_sense_is_refused(arguments: tuple[str, ...], sentence: str) -> None:
    ended = await headrace("load", *arguments)
    assert (ended.code, ended.out) == (2, "")
    assert ended.err.startswith("headrace: ")
    assert sentence in ended.err.replace("'", '"')
    assert ended.err.count("\n") == 1


@pytest.mark.parametrize("arguments", [(), ("nowhere.jsonl",)])
async def test_a_report_needs_a_record(arguments: tuple[str, ...]) -> None:
    ended = await headrace("report", *arguments)
    assert (ended.code, ended.out) == (2, "")
    assert ended.err.count("\n") == 1
