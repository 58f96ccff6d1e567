"""Models named on the command line."""

from __future__ import annotations

from pathlib import Path

import pytest

from headrace.server.engine.compilation import Compilation
from headrace.server.repository.arguments import sources_of
from headrace.server.repository.source import NEWEST, ModelSource, SourceError

LATENCY = Compilation(hint="latency")


@pytest.mark.parametrize(
    ("path", "name"),
    [
        ("resnet.v2.onnx", "resnet.v2"),
        ("a/model.xml", "a"),
        ("a/model.onnx", "a"),
        ("a/3/model.onnx", "a"),
        ("a/0007/saved_model.pb", "a"),
        ("a/inference.pdmodel", "a"),
        ("a/3/resnet.onnx", "resnet"),
        ("folder/", "folder"),
        ("folder/3/", "folder"),
        ("folder/3/../3/.", "folder"),
        ("folder.v2/", "folder.v2"),
    ],
)
def test_a_model_is_named_after_its_file_or_folder(tmp_path: Path, path: str, name: str) -> None:
    place = tmp_path / path
    if path.endswith(("/", ".")):
        (tmp_path / path.split("/")[0] / "3").mkdir(parents=True)
    else:
        place.parent.mkdir(parents=True, exist_ok=True)
        place.touch()
    assert sources_of([str(place)], LATENCY) == [ModelSource(name, place, NEWEST, LATENCY)]


def test_a_relative_folder_is_named_after_what_it_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "resnet" / "2").mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "resnet" / "2")
    for path in (".", "..", "../", "../2"):
        assert sources_of([path], LATENCY)[0].name == "resnet"


def test_a_link_keeps_its_name(tmp_path: Path) -> None:
    (tmp_path / "blob").touch()
    (tmp_path / "resnet.onnx").symlink_to("blob")
    assert sources_of([str(tmp_path / "resnet.onnx")], LATENCY)[0].name == "resnet"


def test_a_name_before_the_path_wins(tmp_path: Path) -> None:
    path = tmp_path / "a=b" / "model.onnx"
    assert sources_of([f"other={path}", f"x={path}"], LATENCY) == [
        ModelSource("other", path, NEWEST, LATENCY),
        ModelSource("x", path, NEWEST, LATENCY),
    ]


def test_two_files_called_model_in_two_folders_do_not_clash(tmp_path: Path) -> None:
    paths = [tmp_path / name / "model.xml" for name in ("a", "b")]
    assert [source.name for source in sources_of(map(str, paths), LATENCY)] == ["a", "b"]


def test_arguments_that_name_no_model(tmp_path: Path) -> None:
    file = tmp_path / "m.onnx"
    with pytest.raises(SourceError, match=r"^'a b' is not a valid model name: use up to 128 letters, digits, and"):
        sources_of([f"a b={file}"], LATENCY)
    with pytest.raises(SourceError, match=r"^two models have the name 'm': .* Rename one with NAME=.*m\.onnx$"):
        sources_of([str(file), str(file)], LATENCY)
