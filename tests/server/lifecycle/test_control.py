"""Clients load and unload models, however loading ends."""

from __future__ import annotations

import asyncio

import pytest

from headrace.server.core.events import Done
from headrace.server.engine.fake import AT_ONCE
from headrace.server.services.api import ModelState
from headrace.wire.errors import FailedPrecondition, HeadraceError, NotFound, PermissionDenied, Unavailable
from tests.server.dispatcher.single_infers import event_of, submit
from tests.server.lifecycle.house import ALL, BROKEN, HELD, House, four, is_loaded, on_disk


async def test_without_permission_nothing_changes() -> None:
    house = await House(allowed=False).start()
    for change in (house.lifecycle.load, house.lifecycle.unload):
        for name in ("a", "nope"):
            with pytest.raises(PermissionDenied, match="start it with --model-control"):
                await change(name)
    assert house.lifecycle.index() == [ModelState("a", "1", "READY", ""), ModelState("b", "1", "READY", "")]
    assert house.changes == []


async def test_only_models_on_disk_are_controlled() -> None:
    house = await House().start()
    for change in (house.lifecycle.load, house.lifecycle.unload):
        with pytest.raises(NotFound, match="there is no model 'nope'"):
            await change("nope")


async def test_a_model_is_unloaded_and_loaded_again() -> None:
    house = await House().start()
    old = house.spec()
    await house.lifecycle.unload("a")
    with pytest.raises(Unavailable, match="model 'a' has been unloaded"):
        house.spec()
    assert house.state() == ("UNAVAILABLE", "unloaded")
    assert house.state("b") == ("READY", "")
    await house.lifecycle.unload("a")
    assert house.changes == [("a/1", False), ("a", False)]
    assert not is_loaded(house, old)
    await house.lifecycle.load("a")
    assert house.state() == ("READY", "")
    assert house.changes == [("a/1", False), ("a", False), ("a/1", True), ("a", True)]
    assert await house.runs_on() is house.spec()


async def test_the_old_model_serves_until_the_new_one_is_loaded() -> None:
    house = await House().start()
    old = house.spec()
    loading = await house.behind_the_gate()
    assert house.state() == ("READY", "loading")
    assert await house.runs_on() is old
    house.gate.set()
    await loading
    assert house.state() == ("READY", "")
    assert house.spec() is not old
    assert await house.runs_on() is house.spec()
    assert not is_loaded(house, old)
    assert is_loaded(house, house.spec())


@pytest.mark.parametrize("replaced", [True, False])
async def test_tickets_in_flight_end_on_the_old_model(replaced: bool) -> None:
    house = await House().start()
    house.script = HELD
    await house.lifecycle.load("a")
    old = house.spec()
    house.script = AT_ONCE
    stream = submit(house.dispatcher, old, (1,), bytes(4))
    house.dispatcher.act()
    (run,) = house.engine.running
    if replaced:
        await house.lifecycle.load("a")
        assert await house.runs_on() is house.spec()
    else:
        await house.lifecycle.unload("a")
        assert house.state() == ("UNLOADING", "unloaded")
    assert is_loaded(house, old)
    house.engine.finish(run)
    assert isinstance(await event_of(stream), Done)
    assert not is_loaded(house, old)
    assert house.state() == (("READY", "") if replaced else ("UNAVAILABLE", "unloaded"))


async def test_a_request_for_a_model_that_is_loading_says_so() -> None:
    house = await House().start()
    await house.lifecycle.unload("a")
    loading = await house.behind_the_gate()
    assert house.state() == ("LOADING", "loading")
    with pytest.raises(Unavailable, match="model 'a' is loading"):
        house.spec()
    house.gate.set()
    await loading
    assert house.state() == ("READY", "")


@pytest.mark.parametrize("loaded", [True, False])
@pytest.mark.parametrize(
    ("error", "told"),
    [
        (FailedPrecondition("model 'a' cannot be read from '/secret/a.xml'"), "see the server's log"),
        (NotFound("model 'a': file '/secret/a.xml' does not exist"), "its file is missing"),
        (MemoryError("/secret"), "see the server's log"),
    ],
)
async def test_a_load_that_fails_leaves_the_old_model(
    loaded: bool, error: Exception, told: str, caplog: pytest.LogCaptureFixture
) -> None:
    house = await House().start()
    old = house.spec()
    if not loaded:
        await house.lifecycle.unload("a")
        house.changes.clear()
    house.error = error
    with pytest.raises(type(error)) as raised:
        await house.lifecycle.load("a")
    reason = f"model 'a' could not be loaded: {told}"
    if isinstance(error, HeadraceError):
        assert str(raised.value) == reason
    assert house.state() == ("READY" if loaded else "UNAVAILABLE", reason)
    assert "/secret" in caplog.text
    if loaded:
        assert await house.runs_on() is old
    else:
        with pytest.raises(Unavailable, match="model 'a' could not be loaded"):
            house.spec()
    assert house.changes == []
    house.error = None
    await house.lifecycle.load("a")
    assert house.state() == ("READY", "")
    assert await house.runs_on() is house.spec() is not old


async def test_a_load_goes_on_though_its_client_has_vanished() -> None:
    house = await House().start()
    old = house.spec()
    loading = await house.behind_the_gate()
    waiting = [asyncio.create_task(house.lifecycle.load("a")) for _ in range(3)]
    last = asyncio.create_task(house.lifecycle.unload("a"))
    for task in (loading, *waiting):
        await asyncio.sleep(0)
        task.cancel()
    assert house.state() == ("READY", "loading")
    house.gate.set()
    await last
    # One load was begun. The calls that waited have left nothing.
    assert house.changes == [("a/1", False), ("a", False)]
    assert not is_loaded(house, old)
    assert len(house.engine._models) == 1
    assert repr(house.lifecycle) == "<Lifecycle 1 versions of 2 models serve, 0 loading>"


async def test_a_failure_that_no_client_waits_for_is_in_the_index(caplog: pytest.LogCaptureFixture) -> None:
    house = await House().start()
    loading = await house.behind_the_gate()
    loading.cancel()
    house.error = FailedPrecondition("no")
    house.gate.set()
    await house.lifecycle.unload("b")
    await house.lifecycle._models["a"].lock.acquire()
    assert house.state() == ("READY", "model 'a' could not be loaded: see the server's log")


async def test_a_new_model_is_loaded_by_name_without_being_watched() -> None:
    house = await House().start()
    with pytest.raises(NotFound, match="there is no model 'new'"):
        await house.lifecycle.load("new")
    house.disk["new"] = on_disk("new", v1=1, v2=1)
    await house.lifecycle.load("new")
    assert house.spec("new").version == "2"
    house.disk["new"] = on_disk("new", v1=1, v2=1, v3=BROKEN)
    with pytest.raises(FailedPrecondition, match=r"^model 'new' version 3 could not be loaded: see the server's log$"):
        await house.lifecycle.load("new")
    assert house.spec("new").version == "2"
    del house.disk["new"]
    with pytest.raises(NotFound, match="model 'new' could not be loaded: its file is missing"):
        await house.lifecycle.load("new")
    assert house.spec("new").version == "2"


async def test_what_a_client_has_unloaded_stays_so_whatever_changes_on_disk() -> None:
    house = await House().start()
    await house.lifecycle.unload("a")
    await house.refresh(four("a"))
    assert set(house.states().values()) == {"UNAVAILABLE: unloaded"}
    with pytest.raises(Unavailable, match="model 'a' version 3 has been unloaded"):
        house.spec("a", "3")
    await house.lifecycle.load("a")
    assert house.spec().version == "3"


async def test_a_load_says_so_if_the_newest_version_is_not_clear() -> None:
    house = await House().start()
    house.disk["a"] = on_disk("a", v1=1, v2=0)
    with pytest.raises(FailedPrecondition, match=r"^model 'a' version 2 could not be loaded: it is empty$"):
        await house.lifecycle.load("a")
    assert house.spec().version == "1"


async def test_what_a_client_has_unloaded_stays_so_when_its_folder_goes_and_comes_back() -> None:
    house = await House().start()
    await house.lifecycle.unload("a")
    for _ in range(2):
        folder = house.disk["a"]
        await house.remove("a")
        await house.refresh(folder)
        assert house.state() == ("UNAVAILABLE", "unloaded")
    await house.lifecycle.load("a")
    folder = house.disk["a"]
    await house.remove("a")
    await house.refresh(folder)
    assert house.state() == ("READY", "")


async def test_a_load_that_fails_does_not_load_again_what_serves() -> None:
    house = await House().start()
    old = house.spec()
    house.disk["a"] = on_disk("a", v1=1, v2=BROKEN)
    with pytest.raises(FailedPrecondition, match="model 'a' version 2 could not be loaded"):
        await house.lifecycle.load("a")
    assert house.spec() is old
    assert house.loaded == []


async def test_versions_are_unloaded_all_at_once() -> None:
    """What is done for each version looks at all of them, or at all models, while the event loop does nothing else."""
    house = await House().start()
    await house.refresh(on_disk("many", ALL, required=False, **{f"v{number}": 1 for number in range(1, 51)}))
    house.told = house.decisions = 0
    await house.lifecycle.unload("many")
    assert (house.told, house.decisions) == (50 + 1, 1)
    assert len(house.engine._models) == 2
