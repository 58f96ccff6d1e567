"""Models are loaded and unloaded, whichever client asks for it and however loading ends."""

from __future__ import annotations

import asyncio
import threading
from pathlib import Path

import pytest

from headrace.server.control import Control
from headrace.server.core.core import Core
from headrace.server.core.events import Done
from headrace.server.core.limits import Limits
from headrace.server.core.specs import Dimension, ModelSpec, Port
from headrace.server.dispatcher.dispatcher import Dispatcher
from headrace.server.engine.fake import AT_ONCE, FakeEngine, Script
from headrace.server.repository.named import NamedModel
from headrace.server.services.api import ModelState
from headrace.wire.dtypes import Datatype
from headrace.wire.errors import FailedPrecondition, HeadraceError, NotFound, PermissionDenied, Unavailable
from tests.server.dispatcher.single_infers import event_of, submit

ONE = (Dimension(1, 1),)
HELD = Script(held=True)


class House:
    """Models `a` and `b`, loaded; `changes` is what was said of them.

    Loading waits for `gate`, which is open, and then fails with `error`, if there is one.
    """

    def __init__(self, *, allowed: bool = True) -> None:
        self.engine = FakeEngine()
        self.core = Core(Limits())
        self.dispatcher = Dispatcher(self.core, self.engine)
        self.changes: list[tuple[str, bool]] = []
        self.script = AT_ONCE
        self.error: Exception | None = None
        self.gate = threading.Event()
        self.gate.set()
        self.began = asyncio.Event()
        self._loop = asyncio.get_running_loop()
        models = [NamedModel(name, "1", Path(f"/secret/{name}.xml")) for name in "ba"]
        for model in models:
            self.core.models.add(self._load(model))
        self.control = Control(
            models,
            self._load,
            self.core,
            self.dispatcher.tell,
            lambda name, serving: self.changes.append((name, serving)),
            allowed=allowed,
        )

    def _load(self, model: NamedModel) -> ModelSpec:
        self._loop.call_soon_threadsafe(self.began.set)
        assert self.gate.wait(10)
        if self.error is not None:
            raise self.error
        ports = (Port(0, ("x",), Datatype.FP32, ONE),), (Port(0, ("y",), Datatype.FP32, ONE),)
        spec = ModelSpec(model.name, model.version, *ports, has_variables=False, slots=1)
        return self.engine.add(spec, lambda inputs: {"y": inputs["x"]}, self.script)

    def spec(self, name: str = "a") -> ModelSpec:
        return self.core.models.find(name).spec

    def state(self, name: str = "a") -> tuple[str, str]:
        (state,) = (state for state in self.control.index() if state.name == name)
        return state.state, state.reason

    async def behind_the_gate(self, name: str = "a") -> asyncio.Task[None]:
        """A load that has begun and waits for the gate."""
        self.gate.clear()
        began = self.began = asyncio.Event()
        task = asyncio.create_task(self.control.load(name))
        await began.wait()
        return task

    async def runs_on(self, name: str = "a") -> ModelSpec:
        """What an inference runs on."""
        stream = submit(self.dispatcher, self.spec(name), (1,), bytes(4))
        self.dispatcher.act()
        assert isinstance(await event_of(stream), Done)
        return self.engine.started[-1].spec


async def test_without_permission_nothing_changes() -> None:
    house = House(allowed=False)
    for change in (house.control.load, house.control.unload):
        for name in ("a", "nope"):
            with pytest.raises(PermissionDenied, match="start it with --model-control"):
                await change(name)
    assert house.control.index() == [ModelState("a", "1", "READY", ""), ModelState("b", "1", "READY", "")]
    assert house.changes == []


async def test_only_models_of_the_command_line_are_controlled() -> None:
    house = House()
    for change in (house.control.load, house.control.unload):
        with pytest.raises(NotFound, match="there is no model 'nope'"):
            await change("nope")


async def test_a_model_is_unloaded_and_loaded_again() -> None:
    house = House()
    old = house.spec()
    await house.control.unload("a")
    with pytest.raises(Unavailable, match="model 'a' has been unloaded"):
        house.spec()
    assert house.state() == ("UNAVAILABLE", "unloaded")
    assert house.state("b") == ("READY", "")
    await house.control.unload("a")
    assert house.changes == [("a", False)]
    assert not is_loaded(house, old)
    await house.control.load("a")
    assert house.state() == ("READY", "")
    assert house.changes == [("a", False), ("a", True)]
    assert await house.runs_on() is house.spec()


def is_loaded(house: House, spec: ModelSpec) -> bool:
    """Whether the engine still has a load of a model."""
    return id(spec) in house.engine._models


async def test_the_old_model_serves_until_the_new_one_is_loaded() -> None:
    house = House()
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
    house = House()
    house.script = HELD
    await house.control.load("a")
    old = house.spec()
    house.script = AT_ONCE
    stream = submit(house.dispatcher, old, (1,), bytes(4))
    house.dispatcher.act()
    (run,) = house.engine.running
    if replaced:
        await house.control.load("a")
        assert await house.runs_on() is house.spec()
    else:
        await house.control.unload("a")
        assert house.state() == ("UNLOADING", "unloaded")
    assert is_loaded(house, old)
    house.engine.finish(run)
    assert isinstance(await event_of(stream), Done)
    assert not is_loaded(house, old)
    assert house.state() == (("READY", "") if replaced else ("UNAVAILABLE", "unloaded"))


async def test_a_request_for_a_model_that_is_loading_says_so() -> None:
    house = House()
    await house.control.unload("a")
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
    house = House()
    old = house.spec()
    if not loaded:
        await house.control.unload("a")
        house.changes.clear()
    house.error = error
    with pytest.raises(type(error)) as raised:
        await house.control.load("a")
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
    await house.control.load("a")
    assert house.state() == ("READY", "")
    assert await house.runs_on() is house.spec() is not old


async def test_loads_and_unloads_take_turns() -> None:
    house = House()
    loading = await house.behind_the_gate()
    unloading = asyncio.create_task(house.control.unload("a"))
    again = asyncio.create_task(house.control.load("a"))
    await house.control.unload("b")  # another model does not wait
    assert house.state("b") == ("UNAVAILABLE", "unloaded")
    assert house.state() == ("READY", "loading")
    house.gate.set()
    await asyncio.gather(loading, unloading, again)
    assert house.changes == [("b", False), ("a", True), ("a", False), ("a", True)]
    assert len(house.engine._models) == 1


async def test_nothing_is_loaded_while_the_server_drains() -> None:
    house = House()
    loading = await house.behind_the_gate()
    waiting = asyncio.create_task(house.control.load("a"))
    house.core.drain(house.dispatcher.now())
    house.gate.set()
    await loading
    with pytest.raises(Unavailable, match="the server is stopping and no longer loads models"):
        await waiting
    assert house.changes == [("a", True)]
    assert house.state() == ("READY", "")


async def test_a_load_goes_on_though_its_client_has_vanished() -> None:
    house = House()
    old = house.spec()
    loading = await house.behind_the_gate()
    waiting = [asyncio.create_task(house.control.load("a")) for _ in range(3)]
    last = asyncio.create_task(house.control.unload("a"))
    for task in (loading, *waiting):
        await asyncio.sleep(0)
        task.cancel()
    assert house.state() == ("READY", "loading")
    house.gate.set()
    await last
    # One load was begun. The calls that waited have left nothing.
    assert house.changes == [("a", True), ("a", False)]
    assert not is_loaded(house, old)
    assert len(house.engine._models) == 1
    assert repr(house.control) == "<Control 1 of 2 models loaded, 0 loading>"


async def test_a_failure_that_no_client_waits_for_is_in_the_index(caplog: pytest.LogCaptureFixture) -> None:
    house = House()
    loading = await house.behind_the_gate()
    loading.cancel()
    house.error = FailedPrecondition("no")
    house.gate.set()
    await house.control.unload("b")
    await house.control._models["a"].lock.acquire()
    assert house.state() == ("READY", "model 'a' could not be loaded: see the server's log")
