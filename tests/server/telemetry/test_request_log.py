"""Lines about requests: what they say, at which level, and how many of them there are."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Hashable, Iterator, Sequence

import pytest

from headrace.server.core.calls import Plan
from headrace.server.core.clients import Client, ClientLimits
from headrace.server.core.events import Done, Failed
from headrace.server.core.specs import ModelSpec
from headrace.server.telemetry.formats import JsonFormatter
from headrace.server.telemetry.line_rate import MAX_KINDS, LineRate
from headrace.server.telemetry.request_log import LINES_IN_TOTAL, LINES_OF_A_KIND, SAMPLES, RequestLog, logger
from headrace.wire.errors import (
    Cancelled,
    DeadlineExceeded,
    FailedPrecondition,
    HeadraceError,
    Internal,
    InvalidArgument,
    NotFound,
    PermissionDenied,
    ResourceExhausted,
    Unauthenticated,
    Unavailable,
    Unimplemented,
)

STREAM, UNARY = "headrace.v1.Inference/Stream", "headrace.v1.Inference/Infer"


class Caller:
    client: Hashable = "ipv4:10.0.0.1:5000"

    def __init__(self, identity: str | None = None) -> None:
        if identity is not None:
            self.client = Client(identity, ClientLimits())

    def peer(self) -> str:
        return "ipv4:10.0.0.1:5000"


class Lines(logging.Handler):
    """Keeps what is logged, as objects."""

    def __init__(self) -> None:
        super().__init__()
        self.objects: list[dict[str, object]] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.objects.append(json.loads(JsonFormatter().format(record)))


class World:
    """A log at a time that the test sets, which also says what is to be called later."""

    def __init__(self, lines: Lines, ratio: float = 0.0) -> None:
        self.now = 100.0
        self.later: list[tuple[float, Callable[[], None]]] = []
        self.lines = lines.objects
        self.log = RequestLog(ratio, lambda: self.now, lambda after, call: self.later.append((self.now + after, call)))

    def wait(self, seconds: float) -> None:
        self.now += seconds
        due, self.later = (
            [call for at, call in self.later if at <= self.now],
            [each for each in self.later if each[0] > self.now],
        )
        for call in due:
            call()


@pytest.fixture
def lines() -> Iterator[Lines]:
    lines = Lines()
    logger.addHandler(lines)
    logger.setLevel(logging.DEBUG)
    logger.propagate = False
    yield lines
    logger.removeHandler(lines)
    logger.setLevel(logging.NOTSET)
    logger.propagate = True


def failed(error: HeadraceError, tag: int = 7, model: str = "scale", version: str = "1") -> Failed:
    return Failed(tag, error, True, 0, model, version, 0.001, 0.0025, 0.25)


def done(tag: int = 7) -> Done:
    spec = ModelSpec("scale", "2", (), (), False, 1)
    plan = Plan.__new__(Plan)
    object.__setattr__(plan, "spec", spec)
    return Done(tag, plan, (), (), 0, 0, 0.001, 0.0025, 0.25, 4, True)


def test_a_failure_says_everything_that_helps(lines: Lines) -> None:
    world = World(lines)
    error = Internal("the server failed; its log has the details under abc")
    error.incident = "abc"
    world.log.failed(Caller("team-a"), STREAM, failed(error))
    (line,) = world.lines
    del line["time"]
    assert line == {
        "level": "error",
        "logger": "headrace.requests",
        "message": "a request failed: the server failed; its log has the details under abc",
        "code": "INTERNAL",
        "rpc": STREAM,
        "model": "scale",
        "version": "1",
        "tag": 7,
        "peer": "ipv4:10.0.0.1:5000",
        "identity": "team-a",
        "incident": "abc",
        "waiting_ms": 1.0,
        "queued_ms": 2.5,
        "running_ms": 250.0,
    }


def test_the_id_of_a_request_counts_more_than_a_number_that_its_client_does_not_know(lines: Lines) -> None:
    world = World(lines)
    for request, rpc in ((b"r-1", STREAM), (b"r-2", UNARY), (b"", UNARY)):
        world.log.failed(Caller(), rpc, failed(NotFound("there is none")), request)
    assert [(line.get("request_id"), line.get("tag"), "identity" in line) for line in world.lines] == [
        ("r-1", None, False),
        ("r-2", None, False),
        (None, None, False),
    ]


LEVELS: Sequence[tuple[HeadraceError, str]] = (
    (Internal("m"), "error"),
    (ResourceExhausted("m"), "warning"),
    (ResourceExhausted("m", retryable=False), "info"),
    (Unavailable("m"), "warning"),
    (DeadlineExceeded("m"), "warning"),
    (Unauthenticated("m"), "warning"),
    (PermissionDenied("m"), "warning"),
    (InvalidArgument("m"), "info"),
    (NotFound("m"), "info"),
    (FailedPrecondition("m"), "info"),
    (Unimplemented("m"), "info"),
    (Cancelled("m"), "debug"),
)


def test_the_level_says_whose_fault_it_is(lines: Lines) -> None:
    world = World(lines)
    for error, _ in LEVELS:
        world.log.failed(Caller(), STREAM, failed(error))
        world.log.ended(Caller(), STREAM, error)
    assert [line["level"] for line in world.lines] == [level for _, level in LEVELS for _ in range(2)]


def test_a_server_that_stops_is_expected_to_be_unavailable(lines: Lines) -> None:
    world = World(lines)
    world.log.draining = True
    world.log.ended(Caller(), STREAM, Unavailable("the server is stopping"))
    assert [line["level"] for line in world.lines] == ["info"]


def test_what_is_not_shown_is_not_counted(lines: Lines) -> None:
    world = World(lines)
    logger.setLevel(logging.WARNING)
    for _ in range(5000):
        world.log.failed(Caller(), STREAM, failed(NotFound("m")))
    world.wait(1)
    assert (world.lines, world.later) == ([], [])


def test_a_flood_has_some_lines_a_second_and_then_a_count(lines: Lines) -> None:
    world = World(lines)
    for _ in range(LINES_OF_A_KIND + 4512):
        world.log.failed(Caller(), STREAM, failed(ResourceExhausted("full")))
    assert len(world.lines) == LINES_OF_A_KIND
    world.wait(1)
    last = world.lines[-1]
    assert last["message"] == (
        "and 4,512 more requests failed within a second: 4,512 RESOURCE_EXHAUSTED of model scale"
    )
    assert (last["level"], last["count"]) == ("warning", 4512)
    world.wait(1)
    world.log.failed(Caller(), STREAM, failed(ResourceExhausted("full")))
    assert len(world.lines) == LINES_OF_A_KIND + 2


def test_a_flood_that_goes_on_has_a_count_each_second(lines: Lines) -> None:
    world = World(lines)
    for _ in range(300):
        for _ in range(10):
            world.log.failed(Caller(), STREAM, failed(ResourceExhausted("full")))
        world.wait(0.01)
    world.log.flush()
    counts = [line["count"] for line in world.lines if "count" in line]
    assert len(counts) in (3, 4)
    assert sum(map(int, map(str, counts))) + len(world.lines) - len(counts) == 3000


def test_a_flood_does_not_hide_other_failures(lines: Lines) -> None:
    world = World(lines)
    for number in range(1000):
        world.log.failed(Caller(), STREAM, failed(NotFound("m"), model=f"made-up-{number}", version=""))
    world.log.failed(Caller(), STREAM, failed(Internal("a fault")))
    world.log.failed(Caller(), STREAM, failed(InvalidArgument("wrong"), model="other"))
    assert len(world.lines) == LINES_OF_A_KIND + 2
    assert [line["code"] for line in world.lines[-2:]] == ["INTERNAL", "INVALID_ARGUMENT"]


def test_many_floods_at_once_are_bounded_too(lines: Lines) -> None:
    world = World(lines)
    for number in range(100):
        for _ in range(100):
            world.log.failed(Caller(), STREAM, failed(Internal("m"), model=f"model-{number}"))
    assert len(world.lines) == LINES_IN_TOTAL
    world.wait(1)
    assert len(world.lines) == LINES_IN_TOTAL + 1
    assert str(world.lines[-1]["message"]).startswith(
        "and 9,900 more requests failed within a second: 100 INTERNAL of "
    )
    assert str(world.lines[-1]["message"]).endswith(", and 95 other kinds")


def test_methods_that_do_not_exist_are_one_kind(lines: Lines) -> None:
    world = World(lines)
    for number in range(1000):
        world.log.ended(Caller(), f"made.up/Method{number}", Unimplemented("Method not found!"))
    assert [line["rpc"] for line in world.lines] == [f"made.up/Method{number}" for number in range(LINES_OF_A_KIND)]
    world.log.ended(Caller(), STREAM, InvalidArgument("wrong"))
    assert world.lines[-1]["rpc"] == STREAM
    world.wait(1)
    assert world.lines[-1]["message"] == (
        "and 990 more requests failed within a second: 990 UNIMPLEMENTED of methods that this server does not have"
    )


def test_the_kinds_that_are_counted_are_bounded() -> None:
    now, reports = 0.0, list[tuple[dict[int, int], int]]()
    rate = LineRate[int](2, 3, lambda left_out, more: reports.append((left_out, more)), lambda: now, lambda *_: None)
    kinds = [*range(10_000), 3]
    assert [kind for kind in kinds if rate.admits(kind)] == [0, 1, 2]
    rate.flush()
    ((left_out, more),) = reports
    assert left_out == {kind: 2 if kind == 3 else 1 for kind in range(3, 3 + MAX_KINDS)}
    assert sum(left_out.values()) + more == len(kinds) - 3
    now = 1.0
    assert rate.admits(5)
    rate.flush()
    assert len(reports) == 1


def test_kinds_beyond_those_that_are_counted_are_in_the_sum(lines: Lines) -> None:
    world = World(lines)
    for number in range(LINES_IN_TOTAL + MAX_KINDS + 700):
        world.log.ended(Caller(), f"rpc-{number}", InvalidArgument("wrong"))
    world.wait(1)
    assert world.lines[-1]["count"] == MAX_KINDS + 700
    assert str(world.lines[-1]["message"]).endswith(f", and more than {MAX_KINDS - 5} other kinds")


@pytest.mark.parametrize("ratio", [0.0, 0.1, 1.0])
def test_a_sample_of_what_succeeds(lines: Lines, ratio: float) -> None:
    world = World(lines, ratio)
    assert world.log.samples == (ratio > 0)
    for _ in range(2000):
        world.log.done(Caller(), STREAM, done())
        world.wait(0.01)
    assert abs(len(world.lines) - 2000 * ratio) <= 2000 * ratio * (1 - ratio)  # 13 standard deviations
    if world.lines:
        line = world.lines[0]
        del line["time"]
        assert line == {
            "level": "info",
            "logger": "headrace.requests",
            "message": "a request succeeded",
            "code": "OK",
            "rpc": STREAM,
            "model": "scale",
            "version": "2",
            "tag": 7,
            "peer": "ipv4:10.0.0.1:5000",
            "waiting_ms": 1.0,
            "queued_ms": 2.5,
            "running_ms": 250.0,
            "batch": 4,
            "direct": True,
        }


def test_samples_are_bounded_too(lines: Lines) -> None:
    world = World(lines, 1.0)
    for _ in range(SAMPLES + 3000):
        world.log.done(Caller(), STREAM, done())
    world.log.flush()
    assert len(world.lines) == SAMPLES + 1
    assert world.lines[-1]["message"] == "and 3,000 more sampled requests succeeded within a second"
