"""Attention: as an operation, and as the products and the Softmax of which the runtime makes that operation."""

from __future__ import annotations

import openvino as ov

from headrace.server.engine.guarding.mismatched_sizes.sizes import agree, inner_axis, rank_of, spread

_BETWEEN = {"Add", "Divide", "Multiply", "Reshape", "Select", "Softmax"}
_DEEPEST = 6


def attended(node: ov.Node) -> None:
    """The runtime may make one operation of two products with a Softmax between, which then checks less than they."""
    if node.input_value(0).get_node().get_type_name() != "Softmax":
        return
    found = _scores(node.input_value(0).get_node(), _DEEPEST)
    if found is None:
        return
    product, masks = found
    transposed = [bool(product.get_attributes()[name]) for name in ("transpose_a", "transpose_b")]
    queries, keys = product.input(0), product.input(1)
    inner = [inner_axis(index, transposed[index], rank_of(product.input_value(index))) for index in (0, 1)]
    agree((queries, inner[0]), (keys, inner[1]))
    along = -2 if transposed[1] else -1
    values = inner_axis(1, bool(node.get_attributes()["transpose_b"]), rank_of(node.input_value(1)))
    if along == values:
        _as_many(keys, node.input(1), along)
    else:
        agree((keys, along), (node.input(1), values))
    for mask in masks:
        spread(mask, product.input_value(1), along)


def _scores(node: ov.Node, depth: int) -> tuple[ov.Node, list[ov.Input]] | None:
    """The product from which these are made, and what is added on the way."""
    type_name = node.get_type_name()
    if type_name == "MatMul":
        return node, []
    if type_name not in _BETWEEN or not depth:
        return None
    for at in node.inputs():
        found = _scores(at.get_source_output().get_node(), depth - 1)
        if found is not None:
            others = [each for each in node.inputs() if each.get_index() != at.get_index()]
            return found[0], [*found[1], *(others if type_name == "Add" else ())]
    return None


def attention(node: ov.Node) -> None:
    """Queries and keys are vectors of one length, there are as many values as keys, and the mask has a place for each,
    as one for all would be read beyond where keys are remembered."""
    agree((node.input(0), -1), (node.input(1), -1))
    _as_many(node.input(1), node.input(2), -2)
    if node.get_input_size() > 3:
        spread(node.input(3), node.input_value(1), -2)


def _as_many(first: ov.Input, second: ov.Input, axis: int) -> None:
    """Cut what is new only where it is put behind what is remembered, so that the runtime still sees a cache there."""
    left, right = first.get_source_output().get_node(), second.get_source_output().get_node()
    if not (_grows(left, axis) and _grows(right, axis)):
        agree((first, axis), (second, axis))
        return
    for places in zip(left.inputs()[1:], right.inputs()[1:], strict=True):
        agree(*((at, axis) for at in places))
    kept = _remembered(left.input(0), left, axis), _remembered(right.input(0), right, axis)
    if None in kept:
        agree((left.input(0), axis), (right.input(0), axis))
    elif all(read is not None and read.get_input_size() for read in kept):
        agree(*((read.input(0), axis) for read in kept if read is not None))  # what both begin with


def _grows(node: ov.Node, axis: int) -> bool:
    """Whether something is put behind something else."""
    if node.get_type_name() != "Concat" or node.get_input_size() != 2:
        return False
    rank = rank_of(node.output(0))
    return rank is not None and (int(node.get_attributes()["axis"]) - axis) % rank == 0


def _remembered(at: ov.Input, all_of_it: ov.Node, axis: int) -> ov.Node | None:
    """What reads it, if what is put together here is what will be read the next time. It may be put in another order
    in between."""
    source = at.get_source_output().get_node()
    if source.get_type_name() == "Gather" and _reorders(source, axis):
        source = source.input_value(0).get_node()
    if source.get_type_name() != "ReadValue":
        return None
    variable = source.get_attributes()["variable_id"]
    assigned = (each.get_node() for each in all_of_it.output(0).get_target_inputs())
    names = {each.get_attributes()["variable_id"] for each in assigned if each.get_type_name() == "Assign"}
    return source if variable in names else None


def _reorders(gather: ov.Node, axis: int) -> bool:
    """Whether it leaves the size of an axis as it was."""
    rank, along = rank_of(gather.input_value(0)), gather.input_value(2).get_node()
    single = rank is not None and rank == rank_of(gather.output(0))
    return single and along.get_type_name() == "Constant" and (int(along.data.item()) - axis) % (rank or 1) != 0
