"""Extensions are found without importing them, and one that cannot be used is a sentence that names it."""

from __future__ import annotations

import sys
from pathlib import Path

import openvino as ov
import pytest

from headrace.server.engine.compilation import Compilation
from headrace.server.engine.extensions import add_extensions, extension_libraries
from headrace.server.engine.models import compile_model
from headrace.wire.errors import FailedPrecondition
from tests import models


def test_a_package_is_found_but_not_imported() -> None:
    (library,) = extension_libraries(["openvino_tokenizers"])
    assert library.is_file()
    assert library.name.startswith("libopenvino_tokenizers.")
    assert extension_libraries([str(library)]) == [library]
    core = ov.Core()
    add_extensions(core, ["openvino_tokenizers"])
    add_extensions(core, [str(library)])  # again
    assert "openvino_tokenizers" not in sys.modules


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("no_such_package", "extension 'no_such_package' is not installed; give an installed package, or a library"),
        ("numpy", r"package 'numpy' is not an extension of openvino: it has no file lib/libnumpy\."),
        ("json", r"package 'json' is not an extension"),
        ("headrace", r"package 'headrace' is not an extension"),
        ("os.path", "extension 'os.path' is not installed"),
        ("", "extension '' is not installed"),
        ("/none/lib.so", "extension '/none/lib.so' does not exist"),
        ("none.so", "extension 'none.so' does not exist"),
    ],
)
def test_what_is_not_an_extension(tmp_path: Path, name: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        extension_libraries([name])
    with pytest.raises(FailedPrecondition, match=f"^model 'm' cannot be read: {message}"):
        compile_model(ov.Core(), "m", "1", models.scale(tmp_path), Compilation(extensions=(name,)))


def test_a_file_that_is_not_a_library(tmp_path: Path) -> None:
    library = tmp_path / "broken.so"
    library.write_bytes(b"not a library")
    with pytest.raises(
        ValueError, match=r"^extension '.*broken\.so' cannot be loaded by openvino 20\S+, whose version"
    ):
        add_extensions(ov.Core(), [str(library)])
