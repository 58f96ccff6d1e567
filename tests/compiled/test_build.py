"""What is installed says how it was built, and serves: the checkout, in place or pure, or a wheel."""

from __future__ import annotations

import os
import subprocess
import sys
from importlib import import_module
from importlib.machinery import EXTENSION_SUFFIXES
from pathlib import Path

import numpy as np
import pytest

from headrace.client.blocking import connect
from headrace.server.version import BUILD, VERSION
from tests import models
from tests.compiled.sources import ROOT, compiled_modules
from tests.e2e.serving import Served
from tests.e2e.stubs import StubStream

EXPECTED = os.environ.get("HEADRACE_TEST_BUILD") or BUILD
"""`make test-compiled` says what it has installed."""


def module_name(source: str) -> str:
    return ".".join(Path(source).with_suffix("").parts[1:])


@pytest.mark.parametrize("source", compiled_modules())
def test_all_modules_are_compiled_or_none(source: str) -> None:
    file = import_module(module_name(source)).__file__
    assert file is not None
    assert file.endswith(tuple(EXTENSION_SUFFIXES)) == (EXPECTED == "compiled"), file


def test_what_is_compiled_is_not_older_than_its_source() -> None:
    for source in compiled_modules() if BUILD == "compiled" else []:
        file = import_module(module_name(source)).__file__
        assert file is not None
        if Path(file).is_relative_to(ROOT) and Path(file).parent == (ROOT / source).parent:
            is_fresh = Path(file).stat().st_mtime >= (ROOT / source).stat().st_mtime
            assert is_fresh, f"{source} has changed since it was compiled: run 'make compile' or 'make pure'"


def test_the_server_says_how_it_was_built_and_serves(tmp_path: Path) -> None:
    command = Path(sys.executable).with_name("headrace-server")
    version = subprocess.run([command, "--version"], capture_output=True, text=True, check=True, timeout=60).stdout
    assert version == f"{VERSION} ({EXPECTED})\n"
    with Served([f"am={models.add_multiply(tmp_path)}"], tmp_path / "log") as served:
        with StubStream(served.address) as stub:
            assert stub.hello.build == EXPECTED
        with connect(served.address) as server, server.stream() as stream:
            assert stream.hello.build == EXPECTED
            x = np.arange(16, dtype=np.float32).reshape(1, 16)
            result = stream.submit("am", {"x": x, "y": x}).result()
            np.testing.assert_array_equal(result["sum"], x + x)
            np.testing.assert_array_equal(result["product"], x * x)
