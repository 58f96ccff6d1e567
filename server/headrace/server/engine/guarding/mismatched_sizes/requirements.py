"""What an operation requires of the sizes of its inputs: that they match, or that they are static."""

from __future__ import annotations

from collections.abc import Callable

import openvino as ov

from headrace.server.engine.guarding.mismatched_sizes.sizes import cut_to_shortest, size_of
from headrace.wire.errors import FailedPrecondition, quote

Guard = Callable[[ov.Node], None]
"""Changes the inputs of an operation. Raises FailedPrecondition."""
Place = tuple[int, int]
"""The index of an input, and an axis of it; a negative axis counts from the end."""


def refusal(node: ov.Node, name: str) -> FailedPrecondition:
    named = f"{node.get_type_name()} {quote(node.get_friendly_name())}"
    return FailedPrecondition(f"{named} takes {name} of dynamic size, and the runtime does not check it")


def matching(*groups: tuple[Place, ...]) -> Guard:
    """Cut the axes of each group to the shortest of them."""

    def guard(node: ov.Node) -> None:
        for group in groups:
            cut_to_shortest(*((node.input(index), axis) for index, axis in group if index < node.get_input_size()))

    return guard


def require_static(node: ov.Node, index: int, axis: int, name: str) -> None:
    """Refuse the operation if this size is dynamic."""
    if size_of(node.input_value(index), axis) is None:
        raise refusal(node, name)


def static(then: Guard, **places: Place) -> Guard:
    """Refuse the operation if one of these sizes, by the name of the input, is dynamic; then apply another guard."""

    def guard(node: ov.Node) -> None:
        for name, (index, axis) in places.items():
            if index < node.get_input_size():
                require_static(node, index, axis, name.replace("_", " "))
        then(node)

    return guard


def all_static(node: ov.Node) -> None:
    """Refuse the operation if any of its inputs is dynamic."""
    for index in range(node.get_input_size()):
        if node.get_input_partial_shape(index).is_dynamic:
            raise refusal(node, "an input")
