"""The context of the trace that a program is in, if it uses OpenTelemetry: the client passes it on, and needs nothing.

It is not imported here: a program without it has no trace, and one that has imported it decides what is traced.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

TRACE_PARENT = "traceparent"


def trace_metadata() -> tuple[tuple[str, str], ...]:
    """The metadata of a call that begins now, by the program's propagator."""
    propagate: Any = sys.modules.get("opentelemetry.propagate")
    if propagate is None:
        return ()
    carrier: dict[str, str] = {}
    propagate.inject(carrier)
    return tuple(carrier.items()) if TRACE_PARENT in carrier else ()


def trace_parents() -> Callable[[], str] | None:
    """What gives the W3C `traceparent` of this moment, empty without a span; None in a program that has no traces."""
    trace: Any = sys.modules.get("opentelemetry.trace")
    if trace is None:
        return None

    def parent() -> str:
        context = trace.get_current_span().get_span_context()
        if not context.is_valid:
            return ""
        return f"00-{context.trace_id:032x}-{context.span_id:016x}-{context.trace_flags & 1:02x}"

    return parent
