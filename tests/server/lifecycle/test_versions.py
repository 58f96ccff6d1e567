"""Which versions are loaded and dropped, as the disk changes."""

from __future__ import annotations

import asyncio

import pytest

from headrace.server.repository.scan import FoundModel
from headrace.server.repository.source import SourceError, VersionPolicy
from headrace.wire.errors import NotFound, Unavailable
from tests.server.lifecycle.house import ALL, BROKEN, House, four, is_loaded, on_disk


async def test_the_policy_chooses_what_is_loaded() -> None:
    house = House()
    house.disk = {
        "newest": on_disk("newest", v1=1, v2=1, v10=1),
        "two": on_disk("two", VersionPolicy(latest=2), v1=1, v2=1, v10=1),
        "all": on_disk("all", ALL, v1=1, v2=1, v10=1),
        "listed": on_disk("listed", VersionPolicy(listed=frozenset({1, 7})), v1=1, v2=1),
        "none": on_disk("none", VersionPolicy(listed=frozenset({7})), v1=1),
    }
    await house.lifecycle.start(house.scan())
    assert house.loaded == ["newest/10", "two/10", "two/2", "all/10", "all/2", "all/1", "listed/1"]
    assert {name: house.spec(name).version for name in ("newest", "two", "all", "listed")} == {
        "newest": "10",
        "two": "10",
        "all": "10",
        "listed": "1",
    }
    assert house.spec("two", "2").version == "2"
    with pytest.raises(Unavailable, match=r"^model 'two' version 1 is not served, only the newest 2 versions$"):
        house.spec("two", "1")
    with pytest.raises(NotFound, match="model 'two' has no version '3'"):
        house.spec("two", "3")
    assert house.states("newest") == {
        "1": "UNAVAILABLE: not served, only the newest version",
        "2": "UNAVAILABLE: not served, only the newest version",
        "10": "READY",
    }
    assert house.statuses["two/2"]
    assert not house.statuses["two/1"]
    assert not house.statuses["none"]
    (failure,) = house.lifecycle.failures
    assert failure == "model 'none' could not be loaded: only versions 7 may be served, which it does not have"


async def test_a_new_version_is_loaded_before_the_old_one_is_dropped() -> None:
    house = await House().start()
    house.gate.clear()
    house.began.clear()
    refreshing = asyncio.create_task(house.refresh(four("a", v3=1)))
    await house.began.wait()
    assert house.states() == {
        "1": "READY",
        "2": "UNAVAILABLE: not served, only the newest version",
        "3": "LOADING: loading",
    }
    assert (await house.runs_on()).version == "1"
    with pytest.raises(Unavailable, match="model 'a' version 3 is loading"):
        house.spec("a", "3")
    house.gate.set()
    await refreshing
    assert (await house.runs_on()).version == "3"
    assert house.changes == [("a/2", False), ("a/3", False), ("a/3", True), ("a/1", False)]
    assert len(house.engine._models) == 2


async def test_a_broken_version_counts_as_absent_until_its_files_change() -> None:
    house = await House().start()
    await house.refresh(on_disk("a", v1=1, v2=BROKEN, v3=0))
    assert house.states() == {
        "1": "READY",
        "2": "UNAVAILABLE: model 'a' version 2 could not be loaded: see the server's log",
        "3": "UNAVAILABLE: model 'a' version 3 could not be loaded: it is empty",
    }
    assert house.lifecycle.failures == ["model 'a' version 3 could not be loaded: it is empty"]
    with pytest.raises(Unavailable, match="model 'a' version 2 could not be loaded"):
        house.spec("a", "2")
    assert house.spec().version == "1"
    house.loaded.clear()
    await house.refresh(on_disk("a", v1=1, v2=BROKEN, v3=0, v4=0))
    assert house.loaded == []
    await house.refresh(on_disk("a", v1=1, v2=2, v3=0))
    assert house.loaded == ["a/2"]
    assert house.spec().version == "2"
    await house.refresh(on_disk("a", v1=1, v2=2, v3=1))
    assert house.states() == {
        "1": "UNAVAILABLE: not served, only the newest version",
        "2": "UNAVAILABLE: not served, only the newest version",
        "3": "READY",
    }


async def test_files_that_change_replace_what_serves_and_broken_ones_do_not() -> None:
    house = await House().start()
    old = house.spec()
    await house.refresh(on_disk("a", v1=2))
    new = house.spec()
    assert new is not old
    await house.refresh(on_disk("a", v1=BROKEN))
    assert house.spec() is new
    assert house.state() == ("READY", "model 'a' could not be loaded: see the server's log")
    await house.refresh(on_disk("a", v1=0))
    assert house.spec() is new
    assert house.state() == ("READY", "model 'a' could not be loaded: it is empty")
    await house.refresh(on_disk("a", v1=3))
    assert house.state() == ("READY", "")
    assert house.spec() is not new
    assert ("a", False) not in house.changes


async def test_a_version_that_vanishes_is_dropped_when_another_serves() -> None:
    house = await House().start()
    await house.refresh(on_disk("a", ALL, v1=1, v2=1))
    await house.refresh(on_disk("a", ALL, v2=1))
    assert house.states() == {"2": "READY"}
    assert "a/1" not in house.statuses
    with pytest.raises(NotFound, match="model 'a' has no version '1'"):
        house.spec("a", "1")
    await house.refresh(FoundModel("a", ALL, problem=SourceError("nothing in '/secret'", "its folder has no model")))
    assert house.states() == {"2": "READY: model 'a' could not be loaded: its folder has no model"}
    await house.refresh(on_disk("a", ALL, v3=BROKEN))
    assert house.spec().version == "2"
    await house.refresh(on_disk("a", ALL, v3=1))
    assert house.states() == {"3": "READY"}


async def test_a_model_whose_folder_goes_is_unloaded_and_unknown() -> None:
    house = await House().start()
    old = house.spec()
    await house.remove("a")
    assert not is_loaded(house, old)
    with pytest.raises(NotFound, match="there is no model 'a'"):
        house.spec()
    assert not house.states()
    assert house.statuses.keys() == {"b", "b/1"}
    await house.refresh(on_disk("a", v1=1))
    assert house.state() == ("READY", "")
