"""The log: records become lines on standard error, at a bounded rate, and without waiting for its reader."""

from __future__ import annotations

import copy
import logging
import sys
import threading
import time
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, TypeAlias

from headrace.server.telemetry.formats import UNCOUNTED, JsonFormatter, LogFormat, formatter
from headrace.server.telemetry.kinds import ErrorKind, error_kind
from headrace.server.telemetry.output import Output, descriptor_of, stop_blocking

if TYPE_CHECKING:
    from sys import UnraisableHookArgs

PERIOD_SECONDS = 60.0
MAX_TRACEBACKS = 3
"""Tracebacks of one kind in a period."""
MAX_LINES = 100
"""Messages of one kind in a period. Those of the level DEBUG are not counted."""
MAX_ERROR_CHARACTERS = 300
"""How much of an error is shown where its traceback is not."""
FLUSH_SECONDS = 0.5
"""How long the end of the process waits for standard error to be read."""

logger = logging.getLogger(__name__)

_Kind: TypeAlias = tuple[str, int, ErrorKind | None]
"""Where the message is logged, and the kind of its error."""


class LogHandler(logging.Handler):
    """Writes records to an output. In each period, the first few tracebacks and messages of each kind are shown.

    How many messages were left out is written when the period ends.
    """

    def __init__(
        self,
        output: Output,
        now: Callable[[], float] = time.monotonic,
        format: LogFormat = "text",
        constant: Mapping[str, str | float] | None = None,
    ) -> None:
        """`constant` are fields of every line."""
        super().__init__()
        self.setFormatter(formatter(format, constant))
        self._output = output
        self._now = now
        self._ends = now()
        self._counts: dict[_Kind, int] = {}
        """Messages of this period. There are finitely many kinds."""
        self._examples: dict[_Kind, str] = {}
        """The last message shown of each kind of which further ones are left out."""
        self._timer: threading.Timer | None = None
        self.left_out = 0
        """Messages that were left out in total."""

    def emit(self, record: logging.LogRecord) -> None:
        try:
            text = self._text(record)
        except Exception as error:  # the arguments of a message may not match it, or may fail to be printed
            text = self._line(
                f"{record.pathname}:{record.lineno} logs a message that cannot be formatted: {_summary(error)}"
            )
        if text is not None:
            self._output.write(text)

    @property
    def dropped(self) -> int:
        """Lines that could not be written, in total."""
        return self._output.dropped

    def flush(self) -> None:
        """Write what is queued, within FLUSH_SECONDS. `logging` calls this when the process ends."""
        self.acquire()
        try:
            self._report()
        finally:
            self.release()
        self._output.flush(FLUSH_SECONDS)

    def _text(self, record: logging.LogRecord) -> str | None:
        """The lines for a record, or None if it is left out."""
        if record.levelno <= logging.DEBUG or getattr(record, UNCOUNTED, False):
            return self.format(record)
        if self._now() >= self._ends:
            self._begin_period()
        error = record.exc_info[1] if record.exc_info else None
        kind = record.pathname, record.lineno, None if error is None else error_kind(error)
        count = self._counts[kind] = self._counts.get(kind, 0) + 1
        if count > MAX_LINES:
            self.left_out += 1
            return None
        if count == MAX_LINES:
            self._examples[kind] = record.getMessage()
            self._start_timer()
        if error is not None and count > MAX_TRACEBACKS:
            record = copy.copy(record)
            record.msg, record.args = f"{record.getMessage()} (traceback left out): {_summary(error)}", ()
            record.exc_info = record.exc_text = None
        return self.format(record)

    def _begin_period(self) -> None:
        self._report()
        self._counts.clear()
        self._ends = self._now() + PERIOD_SECONDS

    def _start_timer(self) -> None:
        """Without further messages, the end of the period would go unnoticed."""
        if self._timer is None:
            self._timer = threading.Timer(self._ends - self._now(), self._on_timer)
            self._timer.daemon = True
            self._timer.start()

    def _on_timer(self) -> None:
        self.acquire()
        try:
            self._timer = None
            self._begin_period()
        finally:
            self.release()

    def _report(self) -> None:
        """Say how many messages of each kind were left out, and count from there on."""
        while self._examples:
            kind, example = self._examples.popitem()
            count = self._counts.get(kind, 0) - MAX_LINES
            if count > 0:
                self._output.write(
                    self._line(f"{count} more of these were left out within {PERIOD_SECONDS:g} s: {example}")
                )

    def _line(self, message: str) -> str:
        """What the log has to say about itself."""
        return self.format(_record(logger.name, logging.WARNING, message))


class Log:
    """The log of the process, on standard error."""

    def __init__(self, output: Output, format: LogFormat) -> None:
        self._output = output
        self._json = JsonFormatter() if format == "json" else None

    def say(self, sentence: str) -> None:
        """Tell the operator why the server does not start: as the command says it, unless programs read the log."""
        if self._json is None:
            self._output.write(f"headrace-server: {sentence}")
        else:
            self._output.write(self._json.format(_record("headrace.server", logging.ERROR, sentence)))


def start_logging(level: str, format: LogFormat = "text", worker: int = 0) -> Log:
    """Log messages from `level` up to standard error, and also warnings and what no code catches.

    With a number, each line says from which worker it is.
    """
    descriptor = descriptor_of(sys.stderr)
    stop_blocking(descriptor)
    output = Output(descriptor, "standard error", dropped=_as_json if format == "json" else str)
    root = logging.getLogger()
    root.setLevel(level.upper())
    # A package that logs while it is imported has made one of its own: OpenVINO's, where it finds no home folder.
    root.handlers[:] = [LogHandler(output, format=format, constant={"worker": worker} if worker else None)]
    logging.captureWarnings(True)
    sys.unraisablehook = _log_unraisable
    threading.excepthook = _log_end_of_thread
    return Log(output, format)


def _record(name: str, level: int, message: str) -> logging.LogRecord:
    return logging.LogRecord(name, level, __file__, 0, "%s", (message,), None)


def _as_json(sentence: str) -> str:
    return JsonFormatter().format(_record(logger.name, logging.WARNING, sentence))


def dropped_lines() -> dict[str, int]:
    """How many lines the log does not have: `unread` in time, or `repeated` too often."""
    handlers = [each for each in logging.getLogger().handlers if isinstance(each, LogHandler)]
    return {
        "unread": sum(each.dropped for each in handlers),
        "repeated": sum(each.left_out for each in handlers),
    }


def _log_unraisable(hook: UnraisableHookArgs) -> None:
    error = hook.exc_value or hook.exc_type()
    logger.error("%s %.300r", hook.err_msg or "exception ignored in", hook.object, exc_info=error)


def _log_end_of_thread(hook: threading.ExceptHookArgs) -> None:
    if hook.exc_type is not SystemExit:
        error = hook.exc_value or hook.exc_type()
        logger.error("thread %s ended", hook.thread.name if hook.thread else "", exc_info=error)


def _summary(error: BaseException) -> str:
    """An error on one line."""
    text = " ".join(str(error)[:MAX_ERROR_CHARACTERS].split())
    return f"{type(error).__name__}: {text}"
