"""What is read is what the catalogue has, with the labels that it has, and nothing else."""

from __future__ import annotations

import asyncio
import re
import threading

import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families

from headrace.server.core.limits import Limits
from headrace.server.telemetry.metrics.answers import ServerAnswers
from headrace.server.telemetry.metrics.asking import Asker, NoAnswerError
from headrace.server.telemetry.metrics.catalogue import METRICS, Kind
from headrace.server.telemetry.metrics.exposition import Exposition
from headrace.server.telemetry.metrics.loop_lag import INTERVAL_SECONDS, LoopLag
from headrace.server.telemetry.metrics.readings import Readings, read_core
from tests.server.core.scenario import Scenario

OPEN_METRICS = "application/openmetrics-text; version=1.0.0"
ELSEWHERE = {
    "headrace_ready",
    "headrace_event_loop_lag_seconds",
    "headrace_log_lines_dropped",
    "headrace_workers",
    "headrace_workers_replaced",
    "headrace_worker_resident_bytes",
    "headrace_build",
}
"""Those that the core knows nothing of."""


def test_the_core_gives_what_the_catalogue_has() -> None:
    world = Scenario(limits=Limits())
    client = world.client()
    client.infer(1)
    client.infer(2, timeout=0.5)
    world.runs()
    client.receives()
    readings = read_core(world.core)
    assert readings.keys() == {metric.name for metric in METRICS} - ELSEWHERE
    for metric in METRICS:
        for labels, _ in readings.get(metric.name, ()):
            assert len(labels) == len(metric.labels), metric
        assert len({labels for labels, _ in readings.get(metric.name, ())}) == len(readings.get(metric.name, ()))


@pytest.mark.parametrize("accept", ["", OPEN_METRICS])
def test_a_parser_reads_it(accept: str) -> None:
    world = Scenario()
    world.client().infer(1, "add")
    world.runs()
    text, _ = Exposition(lambda: read_core(world.core), {"version": '1"\\\n'}, pause=0).text(accept)
    if accept:
        families = {family.name: family for family in text_string_to_metric_families(text.decode())}  # type: ignore[no-untyped-call]
        assert families.keys() >= {metric.name for metric in METRICS}
        (build,) = families["headrace_build"].samples
        assert build.labels == {"version": '1"\\\n'}
    explained = re.findall(r"^# HELP (headrace\S+) ", text.decode(), re.MULTILINE)
    assert explained == [metric.name if accept else metric.shown for metric in METRICS]


def test_names_follow_the_conventions() -> None:
    assert len({metric.name for metric in METRICS}) == len(METRICS)
    for metric in METRICS:
        assert re.fullmatch(r"headrace(_[a-z]+)+", metric.name)
        assert not metric.name.endswith(("_total", "_count", "_sum", "_bucket", "_info"))
        assert not re.search(r"_(ms|us|milliseconds|kb|mb|time|percent)\b", metric.name)
        assert metric.help.endswith(".")
        if metric.kind is Kind.HISTOGRAM:
            assert metric.name.endswith(("_seconds", "_size", "_commands", "_events"))


async def test_answers_come_from_the_event_loop() -> None:
    world = Scenario()
    readers: list[threading.Thread] = []

    def read() -> Readings:
        readers.append(threading.current_thread())
        return read_core(world.core)

    answers = ServerAnswers(read, lambda: False, {})
    text, kind = await asyncio.to_thread(answers.metrics, "")
    assert b"headrace_requests_total" in text
    assert kind.startswith("text/plain")
    assert readers == [threading.current_thread()]
    assert await asyncio.to_thread(answers.is_alive)
    assert not await asyncio.to_thread(answers.is_ready)


async def test_a_loop_that_is_busy_for_long_gives_no_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("headrace.server.telemetry.metrics.asking.MAX_SECONDS", 0.01)
    asker, errors = Asker(), list[NoAnswerError]()

    def ask() -> None:
        try:
            asker.ask(lambda: 1)
        except NoAnswerError as error:
            errors.append(error)

    thread = threading.Thread(target=ask)
    thread.start()
    thread.join(60)  # the loop waits for it
    assert [str(error) for error in errors] == ["the event loop has done nothing for 0.01 s"]


def test_a_loop_that_has_ended_gives_no_answer() -> None:
    async def made() -> Asker:
        return Asker()

    asker = asyncio.run(made())
    with pytest.raises(NoAnswerError, match="the server has stopped"):
        asker.ask(lambda: 1)


async def test_the_lag_of_a_loop_is_how_late_it_is() -> None:
    due = asyncio.get_running_loop().time() + INTERVAL_SECONDS
    lag = LoopLag()
    busy = threading.Event()
    busy.wait(INTERVAL_SECONDS + 0.3)  # the loop does nothing meanwhile
    await asyncio.sleep(1e-6)  # what is due before is done first
    assert lag.seconds.count == 1
    late = asyncio.get_running_loop().time() - due
    assert 0.29 <= lag.longest() <= late
    lag.close()
    assert 0.29 <= lag.seconds.sum <= late
