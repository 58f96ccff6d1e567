"""Models and versions are loaded and unloaded, whoever asks for it and however loading ends."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from headrace.server.core.core import Core
from headrace.server.core.events import Done
from headrace.server.core.limits import Limits
from headrace.server.core.specs import Dimension, ModelSpec, Port
from headrace.server.dispatcher.dispatcher import Dispatcher
from headrace.server.engine.fake import AT_ONCE, FakeEngine, Script
from headrace.server.lifecycle.lifecycle import Lifecycle
from headrace.server.repository.named import NamedModel
from headrace.server.repository.scan import FoundModel, FoundVersion, Scan
from headrace.server.repository.source import NEWEST, SourceError, VersionPolicy
from headrace.server.repository.watching import Changes
from headrace.server.services.api import ModelState
from headrace.wire.dtypes import Datatype
from headrace.wire.errors import FailedPrecondition, HeadraceError, NotFound, PermissionDenied, Unavailable
from tests.server.dispatcher.single_infers import event_of, submit

ONE = (Dimension(1, 1),)
HELD = Script(held=True)
ALL = VersionPolicy()
BROKEN = 666
"""The size of files that cannot be loaded."""


def on_disk(name: str, policy: VersionPolicy = NEWEST, *, required: bool = False, **sizes: int) -> FoundModel:
    """A model with versions such as `v1=5`: the folder of version 1, whose files have 5 bytes; 0 bytes for none."""
    versions, problems = {}, {}
    for version, size in sizes.items():
        number = int(version[1:])
        if size:
            named = NamedModel(name, str(number), Path(f"/secret/{name}/{number}/model.xml"))
            versions[number] = FoundVersion(named, ((str(named.path), 1, size, 1),))
        else:
            problems[number] = SourceError(f"model {name!r} version {number}: folder '/secret' is empty", "it is empty")
    return FoundModel(name, policy, versions, problems, in_folders=sizes.keys() != {"v1"}, required=required)


class House:
    """Models `a` and `b` with a version 1 each, started with `start`; `changes` is what was said of them to probes.

    Loading waits for `gate`, which is open, and then fails with `error`, if there is one, or for files of BROKEN bytes.
    """

    def __init__(self, *, allowed: bool = True) -> None:
        self.engine = FakeEngine()
        self.core = Core(Limits())
        self.dispatcher = Dispatcher(self.core, self.engine)
        self.statuses: dict[str, bool] = {}
        self.changes: list[tuple[str, bool]] = []
        self.script = AT_ONCE
        self.error: Exception | None = None
        self.gate = threading.Event()
        self.gate.set()
        self.began = asyncio.Event()
        self.loaded: list[str] = []
        self.disk = {name: on_disk(name, v1=1) for name in "ba"}
        self.scans = 0
        self._sizes: dict[tuple[str, int], int] = {}
        self._loop = asyncio.get_running_loop()
        self.lifecycle = Lifecycle(self.scan, self._load, self.core, self.dispatcher.tell, self, allowed=allowed)

    async def start(self) -> House:
        await self.lifecycle.start(self.scan())
        self.changes.clear()
        self.loaded.clear()
        return self

    def scan(self) -> Scan:
        self.scans += 1
        return Scan(self.scans, dict(self.disk))

    async def refresh(self, *models: FoundModel) -> None:
        """What is on disk changes, and is looked at."""
        self.disk.update({model.name: model for model in models})
        await self.lifecycle.refresh(Changes(self.scan().number, models, ()))

    async def remove(self, name: str) -> None:
        """The folder of a model goes, and that is noticed."""
        del self.disk[name]
        await self.lifecycle.refresh(Changes(self.scan().number, (), (name,)))

    def set(self, service: str, serving: bool) -> None:
        if self.statuses.get(service) is not serving:
            self.changes.append((service, serving))
        self.statuses[service] = serving

    def forget(self, service: str) -> None:
        del self.statuses[service]

    def _load(self, model: NamedModel, more: bool) -> ModelSpec:
        self._loop.call_soon_threadsafe(self.began.set)
        assert self.gate.wait(10)
        if self.error is not None:
            raise self.error
        stamp = self.disk[model.name].versions[int(model.version)].stamp
        if stamp[0][2] == BROKEN:
            raise FailedPrecondition(f"model {model.name!r} cannot be read from '/secret': no")
        self.loaded.append(f"{model.name}/{model.version}")
        ports = (Port(0, ("x",), Datatype.FP32, ONE),), (Port(0, ("y",), Datatype.FP32, ONE),)
        spec = ModelSpec(model.name, model.version, *ports, has_variables=False, slots=1)
        return self.engine.add(spec, lambda inputs: {"y": inputs["x"]}, self.script)

    def spec(self, name: str = "a", version: str = "") -> ModelSpec:
        return self.core.models.find(name, version).spec

    def state(self, name: str = "a") -> tuple[str, str]:
        (state,) = (state for state in self.lifecycle.index() if state.name == name)
        return state.state, state.reason

    def states(self, name: str = "a") -> dict[str, str]:
        """The state of each version, with the reason, if there is one."""
        states = [state for state in self.lifecycle.index() if state.name == name]
        return {each.version: ": ".join(filter(None, (each.state, each.reason))) for each in states}

    async def until(self, condition: Callable[[], bool]) -> None:
        for _ in range(10_000):
            if condition():
                return
            await asyncio.sleep(0.001)
        raise AssertionError("it does not come true")

    async def behind_the_gate(self, name: str = "a") -> asyncio.Task[None]:
        """A load that has begun and waits for the gate."""
        self.gate.clear()
        began = self.began = asyncio.Event()
        task = asyncio.create_task(self.lifecycle.load(name))
        await began.wait()
        return task

    async def runs_on(self, name: str = "a") -> ModelSpec:
        """What an inference runs on."""
        stream = submit(self.dispatcher, self.spec(name), (1,), bytes(4))
        self.dispatcher.act()
        assert isinstance(await event_of(stream), Done)
        return self.engine.started[-1].spec


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


def is_loaded(house: House, spec: ModelSpec) -> bool:
    """Whether the engine still has a load of a model."""
    return id(spec) in house.engine._models


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


def four(name: str, *, v1: int = 1, v2: int = 1, v3: int = 1) -> FoundModel:
    return on_disk(name, v1=v1, v2=v2, v3=v3)


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


async def test_a_load_says_so_if_the_newest_version_is_not_clear() -> None:
    house = await House().start()
    house.disk["a"] = on_disk("a", v1=1, v2=0)
    with pytest.raises(FailedPrecondition, match=r"^model 'a' version 2 could not be loaded: it is empty$"):
        await house.lifecycle.load("a")
    assert house.spec().version == "1"
