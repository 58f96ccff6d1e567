"""What several workers answer to the same call, as one answer of the server that they are."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeAlias, TypeVar

from google.protobuf.message import Message

from headrace.wire.errors import Unavailable

M = TypeVar("M", bound=Message)


@dataclass(frozen=True, slots=True)
class Answers:
    """`responses` are by number of the worker, the one first that was called. `problems` say why others have none."""

    request: bytes
    responses: Sequence[tuple[int, bytes]]
    problems: Sequence[tuple[int, str]] = ()

    def complete(self) -> Sequence[tuple[int, bytes]]:
        """Those of all workers. Raises Unavailable, which names one that has not answered."""
        for number, problem in self.problems:
            raise Unavailable(f"worker {number} {problem}")
        return self.responses

    def parsed(self, message: type[M]) -> list[M]:
        """The same, as messages."""
        return [message.FromString(response) for _, response in self.complete()]


Merge: TypeAlias = Callable[[Answers], bytes]

_WORST = ("UNAVAILABLE", "LOADING", "UNLOADING", "READY")


@dataclass(frozen=True, slots=True)
class VersionState:
    """As `api.ModelState` has it, in one worker."""

    state: str
    reason: str


def merged_state(states: Sequence[tuple[int, VersionState | None]]) -> VersionState:
    """The state of a version in all workers, by number: the worst, and which worker that is, if they differ."""
    known = [(number, state or VersionState("UNAVAILABLE", "it is not there")) for number, state in states]
    number, worst = min(known, key=lambda each: _WORST.index(each[1].state))
    if all(state == worst for _, state in known):
        return worst
    return VersionState(worst.state, f"worker {number}: {worst.reason or worst.state.lower()}")
