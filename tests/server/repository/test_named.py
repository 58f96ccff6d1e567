"""Models named on the command line."""

from __future__ import annotations

from pathlib import Path

import pytest

from headrace.server.engine.compilation import Compilation
from headrace.server.repository.named import NamedModel, NamedModelError, named_models

LATENCY = Compilation(hint="latency")


def test_a_model_is_named_after_its_file_unless_it_has_a_name(tmp_path: Path) -> None:
    file = tmp_path / "resnet.v2.onnx"
    file.touch()
    assert named_models([str(file), f"other={file}"], LATENCY) == [
        NamedModel("resnet.v2", "1", file, LATENCY),
        NamedModel("other", "1", file, LATENCY),
    ]


def test_arguments_that_name_no_model(tmp_path: Path) -> None:
    file = tmp_path / "m.onnx"
    file.touch()
    with pytest.raises(NamedModelError, match=r"^model 'm': file '.*none/m\.onnx' does not exist$"):
        named_models([str(tmp_path / "none" / "m.onnx")], LATENCY)
    with pytest.raises(NamedModelError, match=r"^'a b' is not a valid model name: use up to 128 letters, digits, and"):
        named_models([f"a b={file}"], LATENCY)
    with pytest.raises(NamedModelError, match=r"^two models have the name 'm': .* Rename one with NAME=.*m\.onnx$"):
        named_models([str(file), str(file)], LATENCY)
