"""The state of a ticket: its call, how it ended, and its result. Pure."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple, Protocol

from headrace.client.protocol.errors import copy_error
from headrace.client.protocol.inputs import KeepsOutputs
from headrace.client.protocol.layouts import Layout, Outputs, TensorSpec
from headrace.wire.errors import HeadraceError, quote
from headrace.wire.tensors import Buffer


class Asked(Protocol):
    """What an Infer asks for: its call, for instance."""

    @property
    def model(self) -> str: ...
    @property
    def outputs(self) -> tuple[str, ...] | None: ...
    @property
    def keep(self) -> tuple[str, ...]: ...


class Unsent(NamedTuple):
    """What an Infer asks for that is not sent."""

    model: str
    outputs: tuple[str, ...] | None
    keep: tuple[str, ...]


class TicketState(KeepsOutputs):
    """An Infer (with a call) or a Fetch (without one), from when it is queued until it is dropped.

    It ends with a layout and its tensors, or with an error. The arrays of the result are made from the bytes when they
    are first asked for. `StreamProtocol` changes its state; `owner` and `waiters` belong to the caller.
    """

    __slots__ = (
        "_outputs",
        "_released",
        "call",
        "cancelling",
        "deadline",
        "error",
        "input_bytes",
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
        self.tag = 0
        self.call: Asked | None = None
        self.input_bytes = 0
        """What the Infer takes in a message."""
        self.layout: Layout | None = None
        self.tensors: Sequence[Buffer] = ()
        self.times: tuple[int, int, int] | None = None
        """The time that the ticket was waiting, queued and running, in microseconds."""
        self.error: HeadraceError | None = None
        self.cancelling = False
        self.deadline = math.inf
        """When the ticket ends here if the server has not ended it, by the caller's clock."""
        self._outputs: Outputs | None = None
        self._released: set[str] | None = None

    @property
    def ended(self) -> bool:
        """Whether the ticket has ended, with a result or an error."""
        return self.layout is not None or self.error is not None

    def outputs(self) -> Outputs:
        """The result of a ticket that has ended. Raises its error, as a new exception each time."""
        if self._outputs is None:
            if self.layout is None:
                assert self.error is not None, "the ticket has not ended"
                raise copy_error(self.error)
            names = None if self.call is None else self.call.outputs
            self._outputs = self.layout.arrays(names, self.tensors)
            self.tensors = ()
        return self._outputs

    def set_outputs(self, outputs: Outputs) -> None:
        """Set the result of a ticket that has ended, instead of tensors."""
        self._outputs = outputs

    @property
    def keep(self) -> tuple[str, ...]:
        return () if self.call is None else self.call.keep

    @property
    def kept(self) -> tuple[str, ...]:
        """The outputs in `keep` that were not released; none once the ticket has failed."""
        if self.error is not None:
            return ()
        return tuple(name for name in self.keep if name not in (self._released or ()))

    def check_kept(self, name: str) -> None:
        """Raise KeyError for an output that is not in `keep`, or was released."""
        if name not in self.keep:
            raise KeyError(f"ticket {self.tag} does not keep output {quote(name)}")
        if self._released is not None and name in self._released:
            raise KeyError(f"output {quote(name)} of ticket {self.tag} was released")

    def mark_released(self, names: Sequence[str]) -> tuple[str, ...]:
        """Mark these outputs as released, or all if `names` is empty. Returns those that were not released before.

        Raises KeyError for an output that is not in `keep`.
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
        """The spec of a kept output; None until the ticket is done."""
        return None if self.layout is None else self.layout.kept_spec(name, self.keep)

    def kept_shape(self, name: str) -> tuple[int, ...] | None:
        """The shape of a kept output; None until the ticket is done, or if it was released by then."""
        spec = self.kept_spec(name)
        return None if spec is None else spec.shape

    def __repr__(self) -> str:
        what = f"of model {quote(self.call.model)}" if self.call else "(fetch)"
        return f"<{type(self).__name__} {self.tag} {what}: {self._progress()}>"

    def _progress(self) -> str:
        if self.error is not None:
            return f"failed, {self.error.code.name}"
        if self.layout is None:
            return "in flight"
        took = f" in {sum(self.times) / 1000:.3g} ms" if self.times else ""
        return f"done{took}" + (f", keeps {', '.join(map(quote, self.kept))}" if self.kept else "")
