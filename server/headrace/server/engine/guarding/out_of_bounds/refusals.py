"""Operations that cannot be guarded, so that their models are refused."""

from __future__ import annotations

from collections.abc import Callable

import openvino as ov

from headrace.server.engine.graph.traversal import follows
from headrace.wire.errors import FailedPrecondition, quote

Guard = Callable[[ov.Node], None]
"""Changes the inputs of an operation. Raises FailedPrecondition."""


def refusal(node: ov.Node, what: str, why: str = "the runtime does not check them") -> FailedPrecondition:
    return FailedPrecondition(f"{node.get_type_name()} {quote(node.get_friendly_name())} {what}, and {why}")


def refuse(what: str) -> Guard:
    """Refuse the operation in any case."""

    def guard(node: ov.Node) -> None:
        raise refusal(node, what)

    return guard


def not_from_data(**inputs: int) -> Guard:
    """Refuse the operation if one of these inputs, by name and index, depends on data."""

    def guard(node: ov.Node) -> None:
        for name, index in inputs.items():
            if index < node.get_input_size() and not follows(node.input_value(index)):
                raise refusal(node, f"takes its {name.replace('_', ' ')} from data")

    return guard


def refuse_pad_value(node: ov.Node) -> None:
    """Refuse a Pad of dynamic shape whose pad value depends on data: all runs of a shape use the first run's value."""
    if node.get_input_size() < 4 or node.get_output_partial_shape(0).is_static or follows(node.input_value(3)):
        return
    raise refusal(node, "takes its pad value from data", "the runtime keeps using the first value that it was given")
