"""Which of several addresses a stream or a call goes to. Pure: the caller tells the time and what came of it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from headrace.client.protocol.backoff import backoff


@dataclass(slots=True)
class _State:
    streams: int = 0
    """Those that are open."""
    chosen: int = 0
    """When it was last chosen, by the count of choices; negative if it was not."""
    failures: int = 0
    """In a row."""
    avoided_until: float = 0.0
    avoided: bool = False


class AddressChoice:
    """Streams go to the address with the fewest open streams, calls to each address in turn.

    An address that fails is avoided, for longer each time. After that it is `due`: the caller finds out whether it
    answers again, without anything that waits for it, and says `restored` or `failed`.
    """

    def __init__(self, count: int, first: int, random: Callable[[], float]) -> None:
        self._states = [_State(chosen=(number - first) % count - count) for number in range(count)]
        self._random = random
        self._choices = 0

    def best(self, *, stream: bool) -> int | None:
        """The next address; None if all are avoided."""
        usable = [number for number, state in enumerate(self._states) if not state.avoided]
        return self._choose(usable, stream=stream) if usable else None

    def best_of(self, numbers: list[int], *, stream: bool) -> int:
        """The next of these, avoided or not: the one that has failed least often."""
        least = min(self._states[number].failures for number in numbers)
        return self._choose([number for number in numbers if self._states[number].failures == least], stream=stream)

    @property
    def has_usable(self) -> bool:
        return any(not state.avoided for state in self._states)

    def has_usable_beside(self, number: int) -> bool:
        return any(not state.avoided for other, state in enumerate(self._states) if other != number)

    def patience(self, number: int, longest: float) -> float:
        """How long an address may take to answer while there are others: less, the more often it has failed."""
        return longest / 2.0 ** min(self._states[number].failures, 3)

    def due(self, now: float) -> list[int]:
        """The avoided addresses that have been avoided for long enough."""
        return [number for number, state in enumerate(self._states) if state.avoided and state.avoided_until <= now]

    def failed(self, number: int, now: float) -> None:
        state = self._states[number]
        state.failures += 1
        state.avoided = True
        state.avoided_until = now + backoff(state.failures, self._random())

    def restored(self, number: int) -> None:
        """It is connected again. Whether it answers is not known yet, so its failures count on."""
        self._states[number].avoided = False

    def answered(self, number: int) -> None:
        state = self._states[number]
        state.failures = 0
        state.avoided = False

    def opened(self, number: int) -> None:
        self._states[number].streams += 1

    def closed(self, number: int) -> None:
        self._states[number].streams -= 1

    def _choose(self, numbers: list[int], *, stream: bool) -> int:
        def order(number: int) -> tuple[int, int]:
            state = self._states[number]
            return state.streams if stream else 0, state.chosen

        number = min(numbers, key=order)
        self._choices += 1
        self._states[number].chosen = self._choices
        return number

    def __repr__(self) -> str:
        parts = (f"{state.streams} streams" + (" (avoided)" if state.avoided else "") for state in self._states)
        return f"<AddressChoice: {', '.join(parts)}>"
