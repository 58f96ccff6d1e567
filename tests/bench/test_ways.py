"""How ways of serving are written."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from tests.bench.serving import ways
from tests.bench.serving.ways import HERE, Way, builds, parsed_way


def test_a_way_is_a_name_with_a_command_and_its_environment() -> None:
    way = parsed_way("quiet=HEADRACE_BUSY_POLL=0 GREETING='a b' /opt/server --transport aio")
    assert (way.name, way.command) == ("quiet", ("/opt/server", "--transport", "aio"))
    assert way.environment == {"HEADRACE_BUSY_POLL": "0", "GREETING": "a b"}


def test_the_server_without_a_path_is_that_of_this_environment() -> None:
    assert parsed_way("aio=headrace-server --transport aio").command[0] == str(HERE)


@pytest.mark.parametrize("text", ["headrace-server", "name=", "a name=server", "name=KEY=1"])
def test_what_is_no_way_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="is not a way to serve"):
        parsed_way(text)


def test_a_build_is_known_by_what_the_version_says() -> None:
    named = [
        Way(name, (sys.executable, "-c", f"print({text!r})"))
        for name, text in (("old", "1.0"), ("here", "1.0 (pure)"), ("fast", "1.0 (compiled)"), ("same", "1.0 (pure)"))
    ]
    assert builds(named) == {"pure": "here", "compiled": "fast"}


def test_options_that_a_server_lacks_are_known() -> None:
    way = Way("here", (sys.executable, "-c", "print('  --prune CHOICE  Drops outputs')"))
    assert way.has_option("--prune")
    assert not way.has_option("--transport")
    assert Way("none", ("/nonexistent",)).output("--help") == ""


def test_a_checkout_that_is_compiled_in_place_has_a_pure_way(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for root in ways.ROOTS:
        (tmp_path / root / "headrace").mkdir(parents=True)
        (tmp_path / root / "headrace" / f"{root}.py").touch()
        (tmp_path / root / "headrace" / f"{root}.cpython-311.so").touch()
    script = tmp_path / "headrace-server"
    script.write_text("#!/bin/sh\necho '1.0 (compiled) --transport CHOICE'\n")
    script.chmod(0o755)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(ways, "HERE", script)
    here, aio, pure = ways.ways_of_this_checkout()
    assert here.command == (str(script),)
    assert aio.command == (str(script), "--transport", "aio")
    copies = [Path(folder) for folder in pure.environment["PYTHONPATH"].split(":")]
    assert [[file.name for file in copy.rglob("*.*")] for copy in copies] == [[f"{root}.py"] for root in ways.ROOTS]
