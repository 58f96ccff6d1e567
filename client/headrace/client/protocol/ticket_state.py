"""A ticket, pure: what was asked, how it ended, and its result."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy.typing as npt

from headrace.client.protocol.call import Call
from headrace.client.protocol.layouts import Layout, TensorSpec
from headrace.wire.errors import HeadraceError, quote, rebuild
from headrace.wire.tensors import Buffer


class TicketState:
    """An Infer (with its call) or a Fetch (without), from when it is queued to beyond its end.

    It ends with a layout and its tensors, or with an error. The result belongs to it and is made of
    the bytes when it is first looked at.
    """

    __slots__ = (
        "_outputs",
        "_released",
        "call",
        "cancelling",
        "error",
        "layout",
        "owner",
        "tag",
        "tensors",
        "times",
        "waiters",
    )

    def __init__(self, owner: object) -> None:
        self.owner = owner
        self.waiters: list[Any] | None = None
        """Both are the caller's: nothing here looks at them."""
        self.tag = 0
        self.call: Call | None = None
        self.layout: Layout | None = None
        self.tensors: Sequence[Buffer] = ()
        self.times: tuple[int, int, int] | None = None
        """Waiting, queued and running, in microseconds."""
        self.error: HeadraceError | None = None
        self.cancelling = False
        self._outputs: Mapping[str, npt.NDArray[Any]] | None = None
        self._released: set[str] | None = None

    @property
    def ended(self) -> bool:
        return self.layout is not None or self.error is not None

    def outputs(self) -> Mapping[str, npt.NDArray[Any]]:
        """The result of a ticket that has ended. Raises its error: a new exception each time."""
        if self._outputs is None:
            if self.layout is None:
                assert self.error is not None, "the ticket has not ended"
                raise again(self.error)
            names = None if self.call is None else self.call.outputs
            self._outputs = self.layout.arrays(names, self.tensors)
            self.tensors = ()
        return self._outputs

    @property
    def keep(self) -> tuple[str, ...]:
        return () if self.call is None else self.call.keep

    def check_kept(self, name: str) -> None:
        """Raises KeyError for an output that was not to be kept, or was released."""
        if name not in self.keep:
            raise KeyError(f"ticket {self.tag} does not keep output {quote(name)}")
        if self._released is not None and name in self._released:
            raise KeyError(f"output {quote(name)} of ticket {self.tag} was released")

    def let_go(self, names: Sequence[str]) -> tuple[str, ...]:
        """Release these outputs, or all when none is named. Gives those that were not yet released.

        Raises KeyError for an output that was not to be kept.
        """
        for name in names:
            if name not in self.keep:
                raise KeyError(f"ticket {self.tag} does not keep output {quote(name)}")
        if self._released is None:
            self._released = set()
        new = tuple(name for name in names or self.keep if name not in self._released)
        self._released.update(new)
        return new

    def kept_spec(self, name: str) -> TensorSpec | None:
        """What a kept output is; None as long as that is not known."""
        return None if self.layout is None else self.layout.kept_spec(name, self.keep)

    def __repr__(self) -> str:
        what = f"of model {quote(self.call.model)}" if self.call else "(fetch)"
        return f"<{type(self).__name__} {self.tag} {what}: {self._story()}>"

    def _story(self) -> str:
        if self.error is not None:
            return f"failed, {self.error.code.name}"
        if self.layout is None:
            return "in flight"
        took = f" in {sum(self.times) / 1000:.3g} ms" if self.times else ""
        kept = [name for name in self.keep if name not in (self._released or ())]
        return f"done{took}" + (f", keeps {', '.join(map(quote, kept))}" if kept else "")


def again(error: HeadraceError) -> HeadraceError:
    """The same error as a new exception.

    One that is raised in several tasks would gather all their tracebacks, and keep alive what those
    hold.
    """
    return rebuild(error.code, error.message, error.retryable)
