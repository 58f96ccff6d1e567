"""What happens to a model at once happens one after another."""

from __future__ import annotations

import asyncio

import pytest

from headrace.server.repository.watching import Changes
from headrace.wire.errors import NotFound, Unavailable
from tests.server.lifecycle.house import House, on_disk


async def test_loads_and_unloads_take_turns() -> None:
    house = await House().start()
    loading = await house.behind_the_gate()
    unloading = asyncio.create_task(house.lifecycle.unload("a"))
    again = asyncio.create_task(house.lifecycle.load("a"))
    await house.lifecycle.unload("b")  # another model does not wait
    assert house.state("b") == ("UNAVAILABLE", "unloaded")
    assert house.state() == ("READY", "loading")
    house.gate.set()
    await asyncio.gather(loading, unloading, again)
    assert [change for change in house.changes if "/" not in change[0]] == [("b", False), ("a", False), ("a", True)]
    assert len(house.engine._models) == 1


async def test_nothing_is_loaded_while_the_server_drains() -> None:
    house = await House().start()
    loading = await house.behind_the_gate()
    waiting = asyncio.create_task(house.lifecycle.load("a"))
    house.core.drain(house.dispatcher.now())
    house.gate.set()
    await loading
    with pytest.raises(Unavailable, match="the server is stopping and no longer loads models"):
        await waiting
    assert house.changes == []
    assert house.state() == ("READY", "")


async def test_what_a_later_look_has_found_is_not_undone_by_an_earlier_one() -> None:
    house = await House().start()
    early = house.scan()
    house.disk["new"] = on_disk("new", v1=1)
    await house.lifecycle.load("new")
    await house.lifecycle.refresh(Changes(early.number, [on_disk("a", v1=1)], ("new",)))
    assert house.state("new") == ("READY", "")


async def test_models_load_one_at_a_time() -> None:
    house = await House().start()
    loading = await house.behind_the_gate("a")
    other = asyncio.create_task(house.lifecycle.load("b"))
    await house.until(lambda: house.state("b") == ("READY", "loading"))
    assert repr(house.lifecycle) == "<Lifecycle 2 versions of 2 models serve, 1 loading>"
    house.gate.set()
    await asyncio.gather(loading, other)
    assert house.loaded == ["a/1", "b/1"]


async def test_a_version_that_vanishes_while_it_is_loaded_is_dropped_like_any_other() -> None:
    house = await House().start()
    house.gate.clear()
    house.began.clear()
    loading = asyncio.create_task(house.refresh(on_disk("a", v1=1, v2=1)))
    await house.began.wait()
    loaded = house.disk["a"]
    vanished = asyncio.create_task(house.lifecycle.refresh(Changes(99, [on_disk("a", v1=2)], ())))
    await asyncio.sleep(0)
    assert house.disk["a"] is loaded
    house.gate.set()
    await asyncio.gather(loading, vanished)
    assert house.states() == {"1": "READY"}
    assert len(house.engine._models) == 2
    assert [model.spec.version for model in house.core.models] == ["1", "1"]


async def test_a_model_that_is_removed_while_a_client_waits_to_load_it_is_known_again() -> None:
    house = await House().start()
    first = await house.behind_the_gate("a")
    removing = asyncio.create_task(house.lifecycle.refresh(Changes(99, (), ("a",))))
    second = asyncio.create_task(house.lifecycle.load("a"))
    await house.until(lambda: house.scans >= 3)
    house.gate.set()
    await asyncio.gather(first, removing, second)
    assert house.state() == ("READY", "")
    assert len(house.engine._models) == 2


async def test_an_unload_that_waits_for_a_removal_leaves_nothing_of_the_model() -> None:
    house = await House().start()
    loading = await house.behind_the_gate("a")
    removing = asyncio.create_task(house.lifecycle.refresh(Changes(99, (), ("a",))))
    await asyncio.sleep(0)
    unloading = asyncio.create_task(house.lifecycle.unload("a"))
    await asyncio.sleep(0)
    house.gate.set()
    await asyncio.gather(loading, removing)
    with pytest.raises(NotFound, match="there is no model 'a'"):
        await unloading
    with pytest.raises(NotFound, match="there is no model 'a'"):
        house.spec("a")
    assert house.statuses == {"b": True, "b/1": True}


async def test_a_client_is_told_that_the_model_was_removed_and_is_another_one_now() -> None:
    house = await House().start()
    first = await house.behind_the_gate("a")
    replacing = asyncio.create_task(house.lifecycle.refresh(Changes(99, [on_disk("a", v1=1)], ("a",))))
    second = asyncio.create_task(house.lifecycle.load("a"))
    await house.until(lambda: house.scans >= 3)
    house.gate.set()
    await asyncio.gather(first, replacing)
    with pytest.raises(Unavailable, match="model 'a' was removed while it was to be loaded; load it again"):
        await second
    assert house.state() == ("READY", "")


async def test_a_model_that_a_later_look_has_not_found_either_is_removed() -> None:
    house = await House().start()
    del house.disk["a"]
    early = house.scan()
    with pytest.raises(NotFound, match="model 'a' could not be loaded: its file is missing"):
        await house.lifecycle.load("a")
    await house.lifecycle.refresh(Changes(early.number, (), ("a",)))
    with pytest.raises(NotFound, match="there is no model 'a'"):
        house.spec("a")
