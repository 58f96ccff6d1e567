"""Records become lines at a bounded rate: of each kind the first few, and then a count."""

from __future__ import annotations

import logging
from collections.abc import Iterator

import pytest

from headrace.server.telemetry.formats import MAX_CHARACTERS
from headrace.server.telemetry.incidents import MAX_IDS, IncidentIds
from headrace.server.telemetry.logging import MAX_LINES, MAX_TRACEBACKS, PERIOD_SECONDS, LogHandler
from headrace.server.telemetry.output import Output


class Lines(Output):
    """Keeps what is written."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def write(self, line: str) -> None:
        self.lines.append(line)

    def flush(self, seconds: float) -> bool:
        return True


class Log:
    """A logger whose handler is tested, at a time that the test sets."""

    def __init__(self) -> None:
        self.now = 0.0
        self.output = Lines()
        self.handler = LogHandler(self.output, lambda: self.now)
        self.logger = logging.getLogger("tests.telemetry")
        self.logger.setLevel(logging.DEBUG)
        self.logger.propagate = False
        self.logger.addHandler(self.handler)

    def fail(self, error: BaseException, number: int = 0) -> None:
        try:
            raise error
        except type(error):
            self.logger.exception("incident %d", number)

    def count(self, text: str) -> int:
        return sum(text in line for line in self.output.lines)


@pytest.fixture
def log() -> Iterator[Log]:
    log = Log()
    yield log
    log.logger.removeHandler(log.handler)
    if log.handler._timer is not None:
        log.handler._timer.cancel()


def test_a_kind_of_error_has_a_few_tracebacks_then_lines_then_a_count(log: Log) -> None:
    for number in range(1000):
        log.fail(ValueError(f"bad {number}\nin detail"), number)
    assert log.count("Traceback") == MAX_TRACEBACKS
    assert log.count("incident") == MAX_LINES
    assert f"incident {MAX_TRACEBACKS} (traceback left out): ValueError: bad {MAX_TRACEBACKS} in detail" in str(
        log.output.lines
    )
    log.handler.flush()
    assert log.output.lines[-1].endswith(
        f"WARNING headrace.server.telemetry.logging: {1000 - MAX_LINES} more of these were left out within "
        f"60 s: incident {MAX_LINES - 1}"
    )


def test_another_period_begins_with_the_count_of_the_last_one(log: Log) -> None:
    for _ in range(2):
        for number in range(MAX_LINES + 1):
            log.fail(ValueError(), number)
        log.now += PERIOD_SECONDS
    assert log.count("Traceback") == 2 * MAX_TRACEBACKS
    assert log.count("1 more of these") == 1
    log.handler.flush()
    assert log.count("1 more of these") == 2
    log.handler.flush()
    assert log.count("1 more of these") == 2


def test_the_timer_writes_the_count_when_no_message_follows(log: Log) -> None:
    for _ in range(MAX_LINES + 5):
        log.logger.info("again")
    timer = log.handler._timer
    assert timer is not None
    timer.function()
    assert log.output.lines[-1].endswith("5 more of these were left out within 60 s: again")


def test_one_kind_does_not_hide_another(log: Log) -> None:
    for _ in range(1000):
        log.fail(ValueError())
    log.fail(KeyError("another class"))
    log.logger.warning("another message")
    assert log.count("Traceback") == MAX_TRACEBACKS + 1
    assert log.count("another message") == 1


def test_the_level_debug_shows_everything(log: Log) -> None:
    for _ in range(1000):
        log.logger.debug("again")
    assert log.count("again") == 1000


def test_a_message_of_any_length_is_one_of_bounded_length(log: Log) -> None:
    log.logger.info("begin%send", "x" * 10 * MAX_CHARACTERS)
    (line,) = log.output.lines
    assert len(line) < MAX_CHARACTERS + 100
    assert "begin" in line
    assert "characters left out" in line
    assert line.endswith("end")


def test_a_message_that_cannot_be_formatted_is_reported(log: Log, capfd: pytest.CaptureFixture[str]) -> None:
    log.handler.handle(log.logger.makeRecord("tests", logging.INFO, __file__, 1, "%d", ("text",), None))
    assert "test_logging.py" in log.output.lines[0]
    assert "cannot be formatted: TypeError" in log.output.lines[0]
    assert capfd.readouterr() == ("", "")


def test_an_id_is_shared_where_the_log_no_longer_shows_each_incident() -> None:
    now = 0.0
    ids = IncidentIds(lambda: now)

    def incident(kind: type[Exception]) -> str:
        try:
            raise kind
        except kind as error:
            return ids(error)

    given = [incident(ValueError) for _ in range(1000)]
    assert len(set(given)) == MAX_IDS < MAX_LINES
    assert set(given[MAX_IDS:]) == {given[MAX_IDS - 1]}
    assert incident(KeyError) not in given
    now = PERIOD_SECONDS
    assert incident(ValueError) not in given
