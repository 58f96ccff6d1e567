"""What the core has decided, for whoever carries it out."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from headrace.server.core.engine_api import Run
from headrace.server.core.specs import ModelSpec
from headrace.server.core.state import Stream


class Decision(NamedTuple):
    """What is to be done, in the order of the fields.

    `stops`: runs to stop, whose tickets have all ended. `starts`: runs to start. `changed`: streams that have a new
    event, or have ended. `unload`: models that no ticket needs any more. `decide` is to be called again at `wake_at`,
    whatever happens until then (infinity for never), and `idle` if `waits_for_idle` and the event loop has nothing to
    do for IDLE_SECONDS.
    """

    stops: Sequence[Run]
    starts: Sequence[Run]
    changed: Sequence[Stream]
    unload: Sequence[ModelSpec]
    wake_at: float
    waits_for_idle: bool
