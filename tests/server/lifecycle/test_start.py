"""Models are loaded at the start, one after another."""

from __future__ import annotations

import asyncio

import pytest

from headrace.server.repository.scan import FoundModel
from headrace.server.repository.source import SourceError, VersionPolicy
from headrace.wire.errors import HeadraceError, Unavailable
from tests.server.lifecycle.house import BROKEN, House, four, on_disk


async def test_at_start_an_older_version_serves_where_the_newest_is_broken() -> None:
    """So that a server that is started again serves what it served before."""
    house = House()
    house.disk = {"a": four("a", v2=BROKEN, v3=BROKEN), "b": on_disk("b", v1=BROKEN)}
    await house.lifecycle.start(house.scan())
    assert house.loaded == ["a/1"]
    assert house.state("b") == ("UNAVAILABLE", "model 'b' could not be loaded: see the server's log")
    assert len(house.lifecycle.failures) == 2


async def test_a_model_that_the_operator_names_must_load_as_it_is() -> None:
    for found, error in (
        (on_disk("m", required=True, v1=1, v2=BROKEN), "cannot be read from '/secret'"),
        (on_disk("m", required=True, v1=1, v2=0), "folder '/secret' is empty"),
        (FoundModel("m", problem=SourceError("no '/secret'"), required=True), "no '/secret'"),
        (on_disk("m", VersionPolicy(listed=frozenset({5})), required=True, v1=1), "only versions 5 may be served"),
    ):
        house = House()
        house.disk["m"] = found
        with pytest.raises((SourceError, HeadraceError), match=error):
            await house.lifecycle.start(house.scan())


async def test_what_is_loaded_serves_while_others_are_to_come() -> None:
    house = House()
    house.disk = {"a": on_disk("a", v1=1), "b": on_disk("b", v1=1)}
    house.gate.clear()
    starting = asyncio.create_task(house.lifecycle.start(house.scan()))
    await house.began.wait()
    for name in "ab":
        assert house.state(name) == ("LOADING", "loading")
        with pytest.raises(Unavailable, match=f"model '{name}' is loading"):
            house.spec(name)
    house.gate.set()
    await house.until(lambda: house.state("a")[0] == "READY")
    assert (await house.runs_on("a")).name == "a"
    await starting
    assert house.statuses == {"a": True, "a/1": True, "b": True, "b/1": True}


async def test_what_a_client_unloads_during_the_start_is_not_loaded() -> None:
    house = House()
    house.gate.clear()
    starting = asyncio.create_task(house.lifecycle.start(house.scan()))
    await house.began.wait()
    await house.lifecycle.unload("a")
    house.gate.set()
    await starting
    assert house.loaded == ["b/1"]
    assert house.state("a") == ("UNAVAILABLE", "unloaded")
