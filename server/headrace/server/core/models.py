"""The models that are served, by name and version."""

from __future__ import annotations

from collections.abc import Iterator

from headrace.server.core.scheduler import Model
from headrace.server.core.specs import ModelSpec
from headrace.wire.errors import NotFound, quote


class Models:
    """`generation` changes with every change: what was bound to a model before is looked up again."""

    def __init__(self) -> None:
        self._models: dict[str, dict[str, Model]] = {}
        self.generation = 0

    def add(self, spec: ModelSpec) -> None:
        self._models.setdefault(spec.name, {})[spec.version] = Model(spec)
        self.generation += 1

    def find(self, name: str, version: str = "") -> Model:
        """A model by name, in its newest version when none is named. Raises NotFound."""
        versions = self._models.get(name)
        if versions is None:
            raise NotFound(f"there is no model {quote(name)}")
        if not version:
            return versions[max(versions, key=_age)]
        if version not in versions:
            known = ", ".join(quote(each, 40) for each in sorted(versions, key=_age, reverse=True)[:8])
            raise NotFound(f"model {quote(name)} has no version {quote(version)}; the newest are {known}")
        return versions[version]

    def __iter__(self) -> Iterator[Model]:
        """By name, then version."""
        for _, versions in sorted(self._models.items()):
            yield from (versions[version] for version in sorted(versions, key=_age))

    def __len__(self) -> int:
        return sum(map(len, self._models.values()))

    def __repr__(self) -> str:
        return f"<Models {list(self)}>"


def _age(version: str) -> tuple[int, str]:
    """Versions are numbers; anything else sorts before them."""
    return (int(version), version) if version.isdecimal() else (-1, version)
