"""The bytes of requests, encoded once: a run sends the same sets of inputs over and over."""

from __future__ import annotations

from collections.abc import Callable

from headrace.client.load.callers.caller import Inputs


class RequestCache:
    """The encoded request of each set of inputs, shared by the callers of a process.

    It is bounded because a run has at most 1,024 sets of inputs (`input_sets.MAX_SETS`), which all live as long as it.
    """

    def __init__(self, encode: Callable[[Inputs], bytes]) -> None:
        self._encode = encode
        # Keyed by identity. The set is held too, so that its id is not reused.
        self._encoded: dict[int, tuple[Inputs, bytes]] = {}

    def get(self, inputs: Inputs) -> bytes:
        entry = self._encoded.get(id(inputs))
        if entry is None:
            entry = self._encoded[id(inputs)] = inputs, self._encode(inputs)
        return entry[1]
