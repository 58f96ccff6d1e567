"""Calls as they are used: each with the plan that it is bound to."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from headrace.server.core.calls import Call, Plan
from headrace.server.core.model_queue import ModelQueue
from headrace.wire.errors import HeadraceError


@dataclass(slots=True)
class DefinedCall:
    """A call, and the plan that it is bound to in one generation of the models, or why it cannot be bound.

    `nbytes` is the size of its description, `charged` what it is charged to the stream that has defined it.
    `Models.bind` changes the rest. Without the error a call that is used again and again would be checked each time.
    """

    call: Call
    nbytes: int
    charged: int = 0
    bound: tuple[ModelQueue[Any], Plan] | None = None
    error: HeadraceError | None = None
    generation: int = -1
