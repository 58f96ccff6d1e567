"""The models that are served, by name and version, and those that are no longer, until their last ticket lets go."""

from __future__ import annotations

from collections.abc import Iterator

from headrace.server.core.model_queue import ModelQueue
from headrace.server.core.specs import ModelSpec
from headrace.server.core.state import Ticket
from headrace.wire.errors import NotFound, Unavailable, quote


class Models:
    """`generation` changes with every change: what was bound to a model before is looked up again."""

    def __init__(self) -> None:
        self._models: dict[str, dict[str, ModelQueue[Ticket]]] = {}
        self._withheld: dict[str, str] = {}
        """Why a name has no version, or had none."""
        self.retired: dict[ModelQueue[Ticket], None] = {}
        """Those that no new ticket gets, while some still need them."""
        self.unneeded: list[ModelSpec] = []
        """Those that none needs any more, until somebody was told."""
        self.generation = 0

    def add(self, spec: ModelSpec) -> None:
        """Serve a model from now on, in place of what has the same name and version."""
        versions = self._models.setdefault(spec.name, {})
        old = versions.get(spec.version)
        versions[spec.version] = ModelQueue(spec)
        self.generation += 1
        if old is not None:
            self._retire(old)

    def remove(self, name: str, version: str, why: str) -> None:
        """Give a version to no new ticket. `why` is what they are told if it was the last of its name."""
        versions = self._models[name]
        old = versions.pop(version)
        if not versions:
            del self._models[name]
            self._withheld[name] = why
        self.generation += 1
        self._retire(old)

    def withhold(self, name: str, why: str) -> None:
        """Say why a known name has no version, until one is added."""
        self._withheld[name] = why

    def _retire(self, model: ModelQueue[Ticket]) -> None:
        self.retired[model] = None
        model.holders -= 1
        if not model.holders:
            self.let_go(model)

    def let_go(self, model: ModelQueue[Ticket]) -> None:
        """Nobody holds a model any more."""
        del self.retired[model]
        self.unneeded.append(model.spec)

    def find(self, name: str, version: str = "") -> ModelQueue[Ticket]:
        """A model by name, in its newest version when none is named.

        Raises NotFound, and Unavailable for a known name that has no version now.
        """
        versions = self._models.get(name)
        if versions is None:
            why = self._withheld.get(name)
            if why is not None:
                raise Unavailable(f"model {quote(name)} {why}")
            raise NotFound(f"there is no model {quote(name)}")
        if not version:
            return versions[max(versions, key=_age)]
        if version not in versions:
            known = ", ".join(quote(each, 40) for each in sorted(versions, key=_age, reverse=True)[:8])
            raise NotFound(f"model {quote(name)} has no version {quote(version)}; the newest are {known}")
        return versions[version]

    def __iter__(self) -> Iterator[ModelQueue[Ticket]]:
        """By name, then version."""
        for _, versions in sorted(self._models.items()):
            yield from (versions[version] for version in sorted(versions, key=_age))

    def __len__(self) -> int:
        return sum(map(len, self._models.values()))

    def __repr__(self) -> str:
        return f"<Models {list(self)}, {len(self.retired)} retired>"


def _age(version: str) -> tuple[int, str]:
    """Versions are numbers; anything else sorts before them."""
    return (int(version), version) if version.isdecimal() else (-1, version)
