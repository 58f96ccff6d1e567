"""The sets of inputs of a run: where they come from, how many there are, and what is refused."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from headrace.client.load.inputs import input_sets
from headrace.client.load.inputs.input_sets import RequestInputs, request_inputs
from headrace.client.protocol.models import Model, Port
from headrace.client.terminal.usage_error import UsageError

X = Port("x", "FP32", (None, 4), ("x", "alias"))
Y = Port("y", "INT32", (2,), ("y",))
WORDS = Port("words", "BYTES", (None,), ("words",))


def of(
    *inputs: str,
    ports: tuple[Port, ...] = (X, Y),
    shapes: Sequence[str] = (),
    jsonl: Path | None = None,
    seed: int = 1,
) -> RequestInputs:
    return request_inputs(Model("m", "1", ports, (), has_variables=False, slots=1), inputs, shapes, jsonl, seed)


def saved(folder: Path, *sizes: int) -> Path:
    """A folder with a file of `x` for each size, filled with that number and named in this order."""
    folder.mkdir()
    for number, size in enumerate(sizes):
        np.save(folder / f"{number:02}.npy", np.full((size, 4), size, np.float32))
    return folder


def lines(file: Path, *rows: object) -> Path:
    file.write_text("\n".join(json.dumps(row) for row in rows))
    return file


def test_inputs_that_are_not_specified_are_random_and_differ() -> None:
    sets, texts = of()
    assert texts == ("x FP32[1,4] random", "y INT32[2] random")
    assert [(each["x"].shape, each["x"].dtype, each["y"].dtype) for each in sets] == [
        ((1, 4), np.dtype(np.float32), np.dtype(np.int32))
    ] * 8
    assert len({each["x"].tobytes() for each in sets}) == 8


def test_the_same_seed_gives_the_same_inputs() -> None:
    first, again, other = ([each["x"].tolist() for each in of(seed=seed).sets] for seed in (5, 5, 6))
    assert first == again
    assert not {str(x) for x in first} & {str(x) for x in other}


@pytest.mark.parametrize(("rows", "count"), [(1 << 10, 8), (1 << 19, 4), (1 << 20, 2), (1 << 21, 1), (1 << 22, 1)])
def test_large_random_inputs_have_fewer_sets(rows: int, count: int) -> None:
    assert len(of(ports=(X,), shapes=[f"x:{rows},4"]).sets) == count


def test_zeros_and_literal_values_are_one_set() -> None:
    sets, texts = of("x=zeros", "y=[7, 8]", shapes=["x:3,4"])
    assert texts == ("x FP32[3,4] zeros", "y INT32[2] as given")
    assert len(sets) == 1
    assert sets[0]["x"].tolist() == [[0] * 4] * 3
    assert sets[0]["y"].tolist() == [7, 8]


def test_a_file_is_one_set(tmp_path: Path) -> None:
    file = saved(tmp_path / "frames", 5) / "00.npy"
    sets, texts = of(f"alias={file}", "y=zeros")
    assert texts[0] == f"x FP32[5,4] {file}"
    assert [each["x"][0, 0] for each in sets] == [5]


def test_a_folder_gives_one_set_per_file_in_order_of_names(tmp_path: Path) -> None:
    folder = saved(tmp_path / "frames", 3, 1, 2)
    (folder / "readme.txt").write_text("not this")
    sets, texts = of(f"x={folder}")
    assert texts == (f"x FP32[1..3,4] 3 files of {folder}", "y INT32[2] random")
    assert [each["x"][0, 0] for each in sets] == [3, 1, 2]
    assert len({each["y"].tobytes() for each in sets}) > 1


def test_json_lines_give_one_set_each_beside_constant_inputs(tmp_path: Path) -> None:
    file = lines(tmp_path / "in.jsonl", {"alias": [[1, 2, 3, 4]]}, {"x": [[5, 6, 7, 8], [9, 9, 9, 9]]})
    file.write_text(file.read_text() + "\n\n")
    sets, texts = of("y=zeros", jsonl=file)
    assert texts == (f"x FP32[1..2,4] 2 lines of {file}", "y INT32[2] zeros")
    assert [each["x"].tolist() for each in sets] == [[[1, 2, 3, 4]], [[5, 6, 7, 8], [9, 9, 9, 9]]]
    assert sets[0]["x"].dtype == np.float32
    assert [each["y"].tolist() for each in sets] == [[0, 0]] * 2


def test_text_in_json_lines_may_contain_unicode_separators(tmp_path: Path) -> None:
    file = tmp_path / "in.jsonl"
    file.write_text(json.dumps({"words": ["one\u2028line"]}, ensure_ascii=False))
    ((only,), _) = of(ports=(WORDS,), jsonl=file)
    assert only["words"].tolist() == ["one\u2028line"]


def test_a_folder_and_json_lines_are_matched_one_by_one(tmp_path: Path) -> None:
    folder = saved(tmp_path / "frames", 1, 2)
    sets, _ = of(f"x={folder}", jsonl=lines(tmp_path / "in.jsonl", {"y": [1, 1]}, {"y": [2, 2]}))
    assert [(each["x"][0, 0], each["y"][0]) for each in sets] == [(1, 1), (2, 2)]


def test_json_lines_may_have_different_ranks(tmp_path: Path) -> None:
    anything = Port("x", "FP32", None, ("x",))
    file = lines(tmp_path / "in.jsonl", {"x": [1, 2]}, {"x": 3})
    sets, texts = of(ports=(anything,), jsonl=file)
    assert texts == (f"x FP32[various] 2 lines of {file}",)
    assert [each["x"].shape for each in sets] == [(2,), ()]


def test_a_model_without_inputs_gets_one_empty_set() -> None:
    assert of(ports=()) == ([{}], ())


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([], "contains no lines"),
        ([[1]], "line 1 of in.jsonl is not an object of inputs"),
        ([{}], "line 1 of in.jsonl is not an object of inputs"),
        ([{"z": 1}], "line 1 of in.jsonl names an input 'z' that the model does not have"),
        ([{"x": [[1]], "alias": [[1]]}], "line 1 of in.jsonl names input 'x' twice"),
        ([{"y": [1, 2]}, {"x": [[1]]}], "line 2 of in.jsonl does not name the same inputs as the first line"),
        ([{"y": [1, 2]}, {"y": ["a"]}], "input 'y': line 2 of in.jsonl does not hold values of INT32"),
        ([{"y": [1, 2]}] * 1025, "in.jsonl contains 1025 lines, more than the 1024 allowed"),
    ],
)
def test_invalid_json_lines_are_usage_errors(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, rows: list[object], message: str
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UsageError, match=message):
        of(jsonl=lines(Path("in.jsonl"), *rows))


def test_unreadable_json_lines_files_are_usage_errors(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("bytes.jsonl").write_bytes(b"\xff")
    Path("words.jsonl").write_text("{'x': 1}")
    Path("deep.jsonl").write_text("[" * 100_000)
    for name, message in {
        "none.jsonl": "none.jsonl cannot be read: No such file",
        "bytes.jsonl": "bytes.jsonl is not valid UTF-8",
        "words.jsonl": "line 1 of words.jsonl is not JSON",
        "deep.jsonl": "line 1 of deep.jsonl is not JSON",
    }.items():
        with pytest.raises(UsageError, match=message):
            of(jsonl=Path(name))


def test_conflicting_sources_are_usage_errors(tmp_path: Path) -> None:
    two, three = saved(tmp_path / "two", 1, 1), lines(tmp_path / "three", *[{"y": [1, 2]}] * 3)
    with pytest.raises(
        UsageError, match=r"3 lines of .*three and 2 files of .*two do not match: their numbers must be equal"
    ):
        of(f"x={two}", jsonl=three)
    with pytest.raises(UsageError, match=r"input 'y' is in .*three, so it cannot be specified on its own too"):
        of("y=zeros", jsonl=three)
    with pytest.raises(UsageError, match=r"input 'y' is in .*three, so it cannot be specified on its own too"):
        of(shapes=["y:3"], jsonl=three)


def test_an_empty_folder_is_a_usage_error(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"input 'x': folder .* contains no .npy files"):
        of(f"x={tmp_path}")


def test_oversized_inputs_are_refused_before_they_are_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = saved(tmp_path / "frames", 1, 2)
    for number in range(1025):
        (folder / f"{number}.npy").touch()
    with pytest.raises(UsageError, match="contains 1027 files, more than the 1024 allowed"):
        of(f"x={folder}")
    monkeypatch.setattr(input_sets, "MAX_TOTAL_BYTES", 1 << 20)
    large = tmp_path / "large"
    large.mkdir()
    with (large / "0.npy").open("wb") as file:
        file.truncate(2 << 20)  # not a .npy file
    with pytest.raises(UsageError, match="take 2 MiB in all, more than the 1 MiB allowed"):
        of(f"x={large}")
    with pytest.raises(UsageError, match="lines is larger than 1 MiB"):
        of(jsonl=(large / "0.npy").rename(tmp_path / "lines"))


def test_the_limit_covers_all_sets_together(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(input_sets, "MAX_TOTAL_BYTES", 1 << 20)
    file = lines(tmp_path / "in.jsonl", *[{"y": [1, 2]}] * 1000)
    assert len(of(jsonl=file, shapes=["x:64,4"]).sets) == 1000
    with pytest.raises(UsageError, match="take 3 MiB in all"):
        of(jsonl=file, shapes=["x:256,4"])


def test_an_unknown_datatype_is_a_usage_error(tmp_path: Path) -> None:
    new = Port("x", "99", (1,), ("x",))
    for jsonl in (None, lines(tmp_path / "in.jsonl", {"x": [1]})):
        with pytest.raises(UsageError, match="datatype 99, unknown to this client"):
            of(ports=(new,), jsonl=jsonl)
