"""The bytes of requests, made once: a run sends the same sets of inputs again and again."""

from __future__ import annotations

from collections.abc import Callable

from headrace.client.load.calling import Inputs

MOST = 1024
"""Sets whose bytes are held; a run has no more."""


class Written:
    """Gives the bytes of a set of inputs. All callers of a process share one."""

    def __init__(self, write: Callable[[Inputs], bytes]) -> None:
        self._write = write
        # By the object, which is held so that none takes its place.
        self._made: dict[int, tuple[Inputs, bytes]] = {}

    def of(self, inputs: Inputs) -> bytes:
        made = self._made.get(id(inputs))
        if made is None:
            if len(self._made) >= MOST:
                self._made.clear()
            made = self._made[id(inputs)] = inputs, self._write(inputs)
        return made[1]
