"""Models on a disk that tests make up, loaded by a lifecycle into a fake engine."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from pathlib import Path

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
from headrace.wire.dtypes import Datatype
from headrace.wire.errors import FailedPrecondition
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
    `told` counts what was said, changes or not, `decisions` what the core was told.

    Loading waits for `gate`, which is open, and then fails with `error`, if there is one, or for files of BROKEN bytes.
    """

    def __init__(self, *, allowed: bool = True) -> None:
        self.engine = FakeEngine()
        self.core = Core(Limits())
        self.dispatcher = Dispatcher(self.core, self.engine)
        self.statuses: dict[str, bool] = {}
        self.changes: list[tuple[str, bool]] = []
        self.told = self.decisions = 0
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
        self.lifecycle = Lifecycle(self.scan, self._load, self.core, self._change, self, allowed=allowed)

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

    def _change(self, change: Callable[[Core, float], None]) -> None:
        self.decisions += 1
        self.dispatcher.tell(change)

    def set(self, service: str, serving: bool) -> None:
        self.told += 1
        if self.statuses.get(service) is not serving:
            self.changes.append((service, serving))
        self.statuses[service] = serving

    def forget(self, service: str) -> None:
        del self.statuses[service]

    def _load(self, model: NamedModel, more: bool) -> ModelSpec:
        self._loop.call_soon_threadsafe(self.began.set)
        assert self.gate.wait(30)
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


def is_loaded(house: House, spec: ModelSpec) -> bool:
    """Whether the engine still has a load of a model."""
    return id(spec) in house.engine._models


def four(name: str, *, v1: int = 1, v2: int = 1, v3: int = 1) -> FoundModel:
    return on_disk(name, v1=v1, v2=v2, v3=v3)
