"""What is known of a model: its versions on disk, which of them are loaded, and why others are not."""

from __future__ import annotations

import asyncio
from collections.abc import Collection
from dataclasses import dataclass, field
from typing import NamedTuple

from headrace.server.core.specs import ModelSpec
from headrace.server.repository.scan import FoundModel, FoundVersion
from headrace.server.repository.source import MissingError, SourceError
from headrace.server.services.api import ModelState
from headrace.wire.errors import FailedPrecondition, HeadraceError, NotFound, Unavailable, quote


class Failure(NamedTuple):
    """Why something was not loaded. The message of the error is for the operator. `number` is None for all versions."""

    error: Exception
    number: int | None = None


@dataclass(slots=True)
class ManagedVersion:
    """A version. `loaded` are the files that `spec` was loaded from, `failed` those that could not be loaded.

    `due` from the decision to load it until that has ended. `reason` is a sentence for clients, empty if all is well.
    """

    number: int
    spec: ModelSpec | None = None
    loaded: FoundVersion | None = None
    failed: FoundVersion | None = None
    problem: str = ""
    """What the operator was told about its files."""
    due: bool = False
    reason: str = ""

    def is_usable(self, found: FoundVersion | None) -> bool:
        """Whether it serves, or may do so once these files are loaded."""
        return self.spec is not None or (found is not None and self.failed != found)

    def needs(self, found: FoundVersion) -> bool:
        """Whether these files are yet to be loaded."""
        return found not in (self.loaded, self.failed)


@dataclass(slots=True)
class ManagedModel:
    """A model. `lock` is held while it changes. `scanned` is the number of the scan that has `found` it.

    `unloaded` by a client: nothing is loaded until a client asks for that.
    """

    found: FoundModel
    scanned: int = 0
    versions: dict[int, ManagedVersion] = field(default_factory=dict)
    problem: str = ""
    """What the operator was told about the model as a whole."""
    unloaded: bool = False
    published: set[int] = field(default_factory=set)
    """The versions that probes have been told of."""
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)

    @property
    def name(self) -> str:
        return self.found.name

    @property
    def serving(self) -> list[ManagedVersion]:
        """The versions that are loaded, the oldest first."""
        return [version for _, version in sorted(self.versions.items()) if version.spec is not None]

    def take(self, found: FoundModel, scanned: int) -> list[str]:
        """What is on disk now. Returns sentences for the operator about what is wrong and was not before.

        If something is wrong with the model as a whole, its versions stay as they are known.
        """
        self.scanned = scanned
        said: list[str] = []
        problem, self.problem = self.problem, str(found.problem or "")
        if found.problem is not None:
            said += [self.problem] if self.problem != problem else []
            # What is loaded stays, and its files are not known any more.
            self.found = FoundModel(found.name, found.policy, problem=found.problem, required=found.required)
        else:
            self.found = found
            self.discard_gone()
            for number in self._on_disk:
                self.versions.setdefault(number, ManagedVersion(number))
        for number, version in self.versions.items():
            wrong = found.problem or found.problems.get(number)
            before, version.problem = version.problem, str(wrong or "")
            if wrong is not None:
                version.reason = self.reason(wrong, number)
                said += [version.problem] if version.problem not in (before, self.problem) else []
            elif before:
                version.reason = ""
        return said

    @property
    def _on_disk(self) -> set[int]:
        return self.found.versions.keys() | self.found.problems.keys()

    def discard_gone(self) -> None:
        """Forget versions that are neither loaded nor on disk."""
        if self.found.problem is None:
            for number in self.versions.keys() - self._on_disk:
                if self.versions[number].spec is None:
                    del self.versions[number]

    def chosen(self) -> list[int]:
        """The versions to serve, the oldest first: as the policy chooses among those that can be."""
        found = self.found.versions
        return self.found.policy.choose(
            [number for number in self._on_disk if self.versions[number].is_usable(found.get(number))]
        )

    def due(self, done: Collection[int], *, again: bool) -> list[int]:
        """The versions to load, the oldest first: those that are not loaded as they are on disk, or, `again`, all that
        are not `done`."""
        found = self.found.versions
        return [
            number
            for number in self.chosen()
            if number in found and number not in done and (again or self.versions[number].needs(found[number]))
        ]

    def try_again(self) -> None:
        """A client asks for a load: forget that it has unloaded the model, and which versions have failed."""
        self.unloaded = False
        for version in self.versions.values():
            version.failed = None

    def failures(self) -> list[str]:
        """Why versions do not serve that the policy would choose, for clients."""
        if self.found.problem is not None:
            return [] if self.serving else [self.reason(self.found.problem)]
        wanted = self.found.policy.choose(self._on_disk)
        if not wanted:
            return [self.reason(self.nothing_to_load().error)]
        return [self.versions[number].reason for number in wanted if self.versions[number].reason]

    def problem_of_wanted(self) -> Failure | None:
        """What is wrong with the files of a version that the policy would choose."""
        if self.found.problem is not None:
            return Failure(self.found.problem)
        for number in reversed(self.found.policy.choose(self._on_disk)):
            if number in self.found.problems:
                return Failure(self.found.problems[number], number)
        return None

    def nothing_to_load(self) -> Failure:
        """Why a load has found no files, although there is no problem with them."""
        return Failure(SourceError(f"model {self.name!r}: {(why := self._none_chosen())}", why))

    def _none_chosen(self) -> str:
        return f"only {self.found.policy} may be served, which it does not have"

    def states(self, retired: Collection[tuple[str, str]]) -> list[ModelState]:
        """The state of each version, the oldest first, or of the model if it has no version."""
        if not self.versions:
            reason = self.reason(self.found.problem) if self.found.problem is not None else self._none_chosen()
            return [ModelState(self.name, "", "UNAVAILABLE", reason)]
        return [self._state(version, retired) for _, version in sorted(self.versions.items())]

    def _state(self, version: ManagedVersion, retired: Collection[tuple[str, str]]) -> ModelState:
        number = str(version.number)
        reason = "loading" if version.due else version.reason
        if version.spec is not None:
            # Even while it is being reloaded.
            state = "READY"
        elif version.due:
            state = "LOADING"
        else:
            reason = "unloaded" if self.unloaded else reason or f"not served, only {self.found.policy}"
            state = "UNLOADING" if (self.name, number) in retired else "UNAVAILABLE"
        return ModelState(self.name, number, state, reason)

    def why(self, version: ManagedVersion) -> str:
        """Completes the error of a request: "model 'x' version 1 <why>"."""
        if version.due:
            return "is loading"
        if self.unloaded:
            return "has been unloaded"
        if version.reason:
            return "could not be loaded"
        return f"is not served, only {self.found.policy}"

    def why_none(self) -> str:
        """The same for a request of the newest version, when there is none."""
        if self.unloaded:
            return "has been unloaded"
        whys = [self.why(version) for version in self.versions.values()]
        return "is loading" if "is loading" in whys else "could not be loaded"

    def reason(self, error: Exception, number: int | None = None) -> str:
        """A message for clients. The error's own message is for the operator, since it names files."""
        why = "see the server's log"
        if isinstance(error, SourceError):
            why = error.told
        elif isinstance(error, NotFound):
            why = "its file is missing"
        elif isinstance(error, Unavailable):
            why = "the server is stopping"
        version = f" version {number}" if number is not None and self.found.in_folders else ""
        return f"model {quote(self.name)}{version} could not be loaded: {why}"

    def told(self, failure: Failure) -> Exception:
        """The error for a client that has asked for a load. What is unexpected is the same, and gets an id."""
        error = failure.error
        if isinstance(error, SourceError):
            kind = NotFound if isinstance(error, MissingError) else FailedPrecondition
            return kind(self.reason(error, failure.number))
        return type(error)(self.reason(error, failure.number)) if isinstance(error, HeadraceError) else error
