"""A run as a file and back: exact to the microsecond, for any run, and however the file ends."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from headrace.client.load.planning.phases import ClosedLoop, OpenLoop, Phase
from headrace.client.load.record.record_file import MAX_LINE_BYTES, RecordWriter, read_record
from headrace.client.load.record.run import Outcome, Run, ServerLoad, ServerMeans, Tail
from headrace.client.load.record.samples import COLUMNS, NO_SAMPLES, Samples
from headrace.client.terminal.usage_error import UsageError
from tests.client.load.synthetic_runs import SETTINGS, outcome, run, samples, steady, sweep

MICROSECONDS = st.integers(0, 10**12)
MAYBE = st.none() | MICROSECONDS
SAMPLES_PER_LINE = st.lists(
    st.tuples(MICROSECONDS, MAYBE, MICROSECONDS, st.integers(-1, 16), *[MAYBE] * 3, *[MICROSECONDS] * 4), max_size=30
)
LOADS = st.builds(ClosedLoop, st.integers(1, 10**6)) | st.builds(
    OpenLoop,
    st.floats(0.001, 1e6),
    st.floats(0.001, 1e6),
    st.sampled_from(["uniform", "poisson"]),
)
SERVERS = st.none() | st.builds(ServerMeans, st.integers(0, 10**9), st.floats(0, 1e6), st.floats(0, 1e6))
MESSAGES = st.dictionaries(st.integers(-1, 16), st.text(max_size=20), max_size=3)
TAILS = st.builds(Tail, *[st.integers(0, 99)] * 3, *[st.floats(0, 1e6)] * 2, *[st.floats(0, 1)] * 3)
TAIL_TUPLES = st.lists(TAILS, max_size=2).map(tuple)
SERVER_LOADS = st.lists(
    st.builds(ServerLoad, st.floats(0, 1e6), *[st.integers(0, 10**15)] * 2, *[st.integers(0, 10**6)] * 3), max_size=3
)
SEEN = st.tuples(st.none() | st.floats(0, 1e10), SERVER_LOADS)
OVERS = st.tuples(st.integers(0), st.integers(0), st.floats(0, 1e9), MESSAGES, SERVERS, st.booleans(), TAIL_TUPLES)


def columns(rows: list[tuple[int | None, ...]]) -> Samples:
    """Samples from rows in microseconds."""
    if not rows:
        return NO_SAMPLES
    array = np.array(rows, np.float64).T
    return Samples(*(array[at].astype(np.int16) if at == 3 else array[at] / 1e6 for at in range(len(COLUMNS))))


def text_of(whole: Run) -> str:
    file = io.StringIO()
    writer = RecordWriter(file, whole.settings)
    for at, each in enumerate(whole.outcomes):
        assert writer.begin_phase(each.phase, each.began) == at
        for load in each.server_loads:
            writer.add_server_load(at, load)
        writer.add(at, each.samples)
        writer.end_phase(at, each)
    return file.getvalue()


def read_text(folder: Path, text: str | bytes) -> Run:
    file = folder / "run.jsonl"
    file.write_bytes(text if isinstance(text, bytes) else text.encode())
    return read_record(file)


def assert_same(found: Run, whole: Run) -> None:
    assert found.settings == whole.settings
    assert len(found.outcomes) == len(whole.outcomes)
    for mine, other in zip(found.outcomes, whole.outcomes, strict=True):
        assert replace(mine, samples=NO_SAMPLES) == replace(other, samples=NO_SAMPLES)
        for name in COLUMNS:
            left, right = getattr(mine.samples, name), getattr(other.samples, name)
            assert left.dtype == right.dtype
            np.testing.assert_array_equal(left, right, name)


@given(st.lists(st.tuples(LOADS, SAMPLES_PER_LINE, OVERS, SEEN), min_size=1, max_size=3))
def test_a_record_reads_back_as_it_was_written(tmp_path_factory: Any, phases: list[Any]) -> None:
    outcomes = []
    for load, rows, (planned, unsent, elapsed, messages, server, interrupted, tails), (began, server_loads) in phases:
        phase = Phase(load, 0.5, None, 100) if isinstance(load, ClosedLoop) else Phase(load, 0.0, 2.5)
        outcomes.append(Outcome(phase, planned, unsent, elapsed, columns(rows), messages, server, interrupted, tails))
        outcomes[-1].began, outcomes[-1].server_loads = began, server_loads
    whole = Run(SETTINGS, outcomes)
    assert_same(read_text(tmp_path_factory.getbasetemp(), text_of(whole)), whole)


def test_settings_of_every_type_read_back(tmp_path: Path) -> None:
    whole = run(steady(), outputs=("y", "ż"), keep=("state",), timeout=None, mode="unary", protocol="oip", version="3")
    assert_same(read_text(tmp_path, text_of(whole)), rounded(whole))


def rounded(whole: Run) -> Run:
    """The run with the precision of a record."""
    for each in whole.outcomes:
        columns = {name: getattr(each.samples, name) for name in COLUMNS}
        each.samples = Samples(**{n: c if n == "code" else np.rint(c * 1e6) / 1e6 for n, c in columns.items()})
    return whole


def test_times_are_rounded_to_the_nearest_microsecond(tmp_path: Path) -> None:
    measured = samples([0.0, 1.0000004, 3599.9999996], 0.001)
    found = read_text(tmp_path, text_of(run(outcome(OpenLoop(1, 1), measured)))).outcomes[0].samples
    assert found.intended.tolist() == [0.0, 1.0, 3600.0]


def test_the_name_of_a_run_is_its_file(tmp_path: Path) -> None:
    assert read_text(tmp_path, text_of(sweep())).name == str(tmp_path / "run.jsonl")


def test_lines_hold_compact_json_columns() -> None:
    text = text_of(run(outcome(ClosedLoop(4), samples(np.arange(2500) / 1000, 0.002, code=0))))
    header, begin, *parts, over = map(json.loads, text.splitlines())
    assert header["headrace-load"] == 1
    assert header["settings"]["model"] == "resnet50"
    assert begin == {
        "phase": 0,
        "begin": {"load": {"concurrency": 4}, "warmup": 1.0, "duration": 10.0, "count": None},
        "began": None,
    }
    assert [len(part["intended"]) for part in parts] == [1000, 1000, 500]
    assert parts[1]["ended"][:2] == [1002000, 1003000]
    assert parts[0]["queued"] is None
    assert "code" not in parts[0]
    assert over["over"]["planned"] == 2500
    assert " " not in text.replace("x FP32[1,16] random", "").replace("headrace 0.1.0", "")


def test_samples_reach_the_file_at_once(tmp_path: Path) -> None:
    file = tmp_path / "run.jsonl"
    with file.open("w") as writing:
        writer = RecordWriter(writing, SETTINGS)
        writer.begin_phase(Phase(ClosedLoop(1), 0, 1))
        writer.add(0, samples([0.0, 0.5], 0.25))
        found = read_record(file).outcomes[0]
    assert found.interrupted
    assert (found.planned, found.unsent, found.elapsed) == (2, 0, 0.75)
    assert found.samples.count == 2


@pytest.mark.parametrize("kept", [0, 1, 10, 100])
def test_a_record_with_an_incomplete_last_line_is_of_an_interrupted_run(tmp_path: Path, kept: int) -> None:
    lines = text_of(sweep()).splitlines(keepends=True)
    over = max(at for at, line in enumerate(lines) if '"over"' in line)
    found = read_text(tmp_path, "".join(lines[:over]) + lines[over][:kept])
    assert [each.interrupted for each in found.outcomes] == [False] * 5 + [True]
    assert found.outcomes[-1].samples.count == 16_000


def test_a_missing_final_newline_is_accepted(tmp_path: Path) -> None:
    assert_same(read_text(tmp_path, text_of(sweep()).rstrip("\n")), rounded(sweep()))


GOOD = text_of(run(outcome(OpenLoop(2, 2), samples([0.0, 0.5], 0.25, code=[0, 8]))))


def changed(line: int, change: Callable[[Any], object]) -> str:
    lines: list[Any] = [json.loads(text) for text in GOOD.splitlines()]
    change(lines[line])
    return "\n".join(map(json.dumps, lines)) + "\n"


def without(line: int) -> str:
    lines = GOOD.splitlines(keepends=True)
    return "".join(lines[:line] + lines[line + 1 :])


BROKEN = {
    "empty": ("", "run.jsonl is empty"),
    "not JSON": ("P95 is fine\n", "line 1: this is not JSON"),
    "not text": (b"\x93NUMPY\x01\x00", "line 1: this is not JSON"),
    "not a record": ('{"a": 1}\n', "line 1: this is not a record of headrace load"),
    "a list": ("[1, 2]\n", "line 1: this is not a record of headrace load"),
    "nested": ("[" * 200_000 + "\n", "line 1: this is not JSON"),
    "from the future": (
        changed(0, lambda line: line.update({"headrace-load": 2})),
        "line 1: .*version 2, .* version 1",
    ),
    "no settings": (changed(0, lambda line: line.pop("settings")), "line 1: settings is not an object"),
    "a setting less": (changed(0, lambda line: line["settings"].pop("seed")), "line 1: settings lacks seed"),
    "a setting more": (
        changed(0, lambda line: line["settings"].update(a=1)),
        "line 1: settings has an unknown key 'a'",
    ),
    "another type": (
        changed(0, lambda line: line["settings"].update(streams="2")),
        "line 1: settings.streams is not a whole number",
    ),
    "another word": (
        changed(0, lambda line: line["settings"].update(mode="bulk")),
        "line 1: settings.mode must be one of stream, unary",
    ),
    "no phase": (GOOD.splitlines()[0], "contains no phase"),
    "another load": (
        changed(1, lambda line: line["begin"].update(load={"rate": 2})),
        "line 2: begin.load has an unknown key 'rate'|line 2: begin.load lacks",
    ),
    "an endless rate": (
        changed(1, lambda line: line["begin"].update(warmup=float("inf"))),
        "warmup is not a finite number",
    ),
    "no beginning": (without(1), "line 2: this line is out of place"),
    "two beginnings": (GOOD + GOOD.splitlines()[1] + "\n", "line 5: this line is out of place"),
    "after the end": (GOOD + GOOD.splitlines()[2] + "\n", "line 5: this line is out of place"),
    "another phase": (changed(2, lambda line: line.update(phase=1)), "line 3: this line is out of place"),
    "not a line": (changed(2, lambda line: line.clear()), "line 3: this is not a line of a record"),
    "ragged": (changed(2, lambda line: line["ended"].pop()), "line 3: ended is not a list as long as intended"),
    "a column less": (changed(2, lambda line: line.pop("sent")), "line 3: sent is missing"),
    "a column more": (changed(2, lambda line: line.update(size=[1, 2])), "line 3: 'size' is not a known column"),
    "no columns": (changed(2, lambda line: line.pop("intended")), "line 3: intended is not a list"),
    "unknown ends": (
        changed(2, lambda line: line.update(ended=[1, None])),
        "line 3: ended contains a value that is not a whole number",
    ),
    "fractions": (
        changed(2, lambda line: line.update(sent=[1, 1.5])),
        "line 3: sent contains a value that is not a whole number",
    ),
    "words": (
        changed(2, lambda line: line.update(queued=[1, "2"])),
        "line 3: queued contains a value that is not a whole",
    ),
    "truths": (
        changed(2, lambda line: line.update(queued=[1, True])),
        "line 3: queued contains a value that is not a whole",
    ),
    "eons": (
        changed(2, lambda line: line.update(ended=[1, 10**400])),
        "line 3: ended contains a number that is too large",
    ),
    "no code of gRPC": (
        changed(2, lambda line: line.update(code=[0, 40_000])),
        "line 3: code contains a value that is not a status code",
    ),
    "less than nothing": (changed(3, lambda line: line["over"].update(unsent=-1)), "line 4: a count is negative"),
    "a message of no code": (
        changed(3, lambda line: line["over"].update(messages={"BAD": "x"})),
        "line 4: over.messages has a key 'BAD' that is not a whole number",
    ),
    "cut in the middle": (
        GOOD[: GOOD.index('"sent"')] + "\n" + GOOD.splitlines()[3] + "\n",
        "line 3: this is not JSON",
    ),
}


@pytest.mark.parametrize(("text", "error"), BROKEN.values(), ids=BROKEN)
def test_the_error_for_a_bad_record_names_file_and_line(tmp_path: Path, text: str | bytes, error: str) -> None:
    with pytest.raises(UsageError, match=error) as caught:
        read_text(tmp_path, text)
    assert str(caught.value).startswith(str(tmp_path / "run.jsonl"))
    assert len(str(caught.value)) < 400 + len(str(tmp_path))


def test_a_missing_file_is_a_usage_error(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"nothing\.jsonl cannot be read: No such file"):
        read_record(tmp_path / "nothing.jsonl")
    with pytest.raises(UsageError, match=r"cannot be read: Is a directory"):
        read_record(tmp_path)


def test_a_file_without_newlines_is_not_read_to_its_end(tmp_path: Path) -> None:
    file = tmp_path / "weights.bin"
    with file.open("wb") as writing:
        writing.truncate(MAX_LINE_BYTES * 1000)
    with pytest.raises(
        UsageError, match=r"weights\.bin, line 1: this is not a record of headrace load: the line is too long"
    ):
        read_record(file)


def test_a_million_samples_take_less_than_50_bytes_each(tmp_path: Path) -> None:
    count = 1_000_000
    measured = samples(np.arange(count) / 1e5, 0.001, wait=0.0001, times=(0.0, 0.0002, 0.0005))
    text = text_of(run(outcome(OpenLoop(1e5, 1e5), measured)))
    assert len(text) < 50 * count
    assert read_text(tmp_path, text).outcomes[0].samples.count == count
