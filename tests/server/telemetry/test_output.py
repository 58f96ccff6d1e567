"""Lines that wait for their reader: in order, bounded, and those that are missing are counted."""

from __future__ import annotations

import os
import re
import time

from headrace.server.telemetry.output import Output, stop_blocking
from tests.e2e.pipes import Pipe, unread_pipe

MISSING = re.compile(r"(\d+) lines? (?:was|were) dropped here: the pipe could not be written")


def output_to(pipe: Pipe, max_bytes: int = 10_000) -> Output:
    return Output(os.dup(pipe.writing), "the pipe", max_bytes)


def test_lines_are_written_in_order() -> None:
    with unread_pipe() as pipe:
        pipe.read()
        output = output_to(pipe, 1 << 20)
        lines = [f"line {number}" for number in range(5000)]
        for line in lines:
            output.write(line)
        assert output.flush(10)
        os.close(output._descriptor)
    assert pipe.text.splitlines() == lines
    assert output.dropped == 0


def test_a_line_in_place_of_the_missing_ones_says_how_many_they_are() -> None:
    with unread_pipe() as pipe:
        pipe.fill()
        output = output_to(pipe)
        for number in range(1000):
            output.write(f"line {number}")
        assert not output.flush(0.01)
        pipe.read()
        assert output.flush(10)
        output.write("the last line")
        assert output.flush(10)
        os.close(output._descriptor)
    *first, notice, last = pipe.text.replace(".", "").split("\n")[-10_000:][:-1]
    written = [line for line in first if line.startswith("line")]
    assert written == [f"line {number}" for number in range(len(written))]
    found = MISSING.fullmatch(notice)
    assert found
    assert len(written) + int(found[1]) == 1000
    assert output.dropped == int(found[1])
    assert last == "the last line"


def test_what_waits_is_bounded_in_bytes() -> None:
    with unread_pipe() as pipe:
        pipe.fill()
        output = output_to(pipe)
        for _ in range(1000):
            output.write("x" * 500)
            assert output._queued <= 10_000
        output.write("x" * 20_000)
        assert output.dropped > 900
        pipe.read()
        assert output.flush(10)
        os.close(output._descriptor)


def test_a_slow_reader_does_not_read_of_missing_lines_all_the_time() -> None:
    """Lines are accepted again once half the queue is free."""
    with unread_pipe() as pipe:
        pipe.fill()
        output = output_to(pipe)
        for number in range(1000):
            output.write(f"{number:0500}")
        before = output.dropped
        pipe.read()
        for number in range(200):
            output.write(f"{number:0500}")
            time.sleep(0.0001)
        assert output.flush(10)
        os.close(output._descriptor)
    assert len(MISSING.findall(pipe.text)) <= 3
    assert before > 900


def test_lines_that_the_system_does_not_accept_are_counted() -> None:
    """As when a disk is full, or the reader has gone."""
    descriptor = os.open("/dev/full", os.O_WRONLY)
    output = Output(descriptor, "the pipe")
    for number in range(10):
        output.write(f"line {number}")
        assert output.flush(10)
    assert output.dropped == 10
    with unread_pipe() as pipe:
        pipe.read()
        os.dup2(pipe.writing, descriptor)
        output.write("there is room again")
        assert output.flush(10)
        os.close(descriptor)
    assert output.dropped == 10
    assert pipe.text == "10 lines were dropped here: the pipe could not be written\nthere is room again\n"


def test_a_pipe_of_another_process_keeps_its_mode() -> None:
    """What no longer blocks is the descriptor, and not the pipe for everybody who has it."""
    with unread_pipe() as pipe:
        descriptor = os.dup(pipe.writing)
        stop_blocking(descriptor)
        assert not os.get_blocking(descriptor)
        assert os.get_blocking(pipe.writing)
        pipe.fill()
        pipe.read()
        os.close(descriptor)
