"""Attention: the operation, and the products with a Softmax between them of which the runtime makes that operation."""

from __future__ import annotations

import openvino as ov

from headrace.server.engine.guarding.mismatched_sizes.sizes import (
    broadcast_mask,
    cut_to_shortest,
    inner_axis,
    rank_of,
)

_BETWEEN_PRODUCTS = {"Add", "Divide", "Multiply", "Reshape", "Select", "Softmax"}
_MAX_OPERATIONS_BETWEEN = 6


def guard_attention(node: ov.Node) -> None:
    """Cut queries and keys to one length, keys and values to one number, and give the mask an element for each key.

    A mask with a single element for all keys would be read beyond its end where keys are cached.
    """
    cut_to_shortest((node.input(0), -1), (node.input(1), -1))
    _cut_to_same_number(node.input(1), node.input(2), -2)
    if node.get_input_size() > 3:
        broadcast_mask(node.input(3), node.input_value(1), -2)


def guard_fused_attention(node: ov.Node) -> None:
    """Do the same for a MatMul that the runtime may fuse with a Softmax and another MatMul in front of it.

    The fused operation checks less than the three of which it is made.
    """
    if node.input_value(0).get_node().get_type_name() != "Softmax":
        return
    found = _find_scores(node.input_value(0).get_node(), _MAX_OPERATIONS_BETWEEN)
    if found is None:
        return
    product, masks = found
    transposed = [bool(product.get_attributes()[name]) for name in ("transpose_a", "transpose_b")]
    queries, keys = product.input(0), product.input(1)
    inner = [inner_axis(index, transposed[index], rank_of(product.input_value(index))) for index in (0, 1)]
    cut_to_shortest((queries, inner[0]), (keys, inner[1]))
    keys_axis = -2 if transposed[1] else -1
    values_axis = inner_axis(1, bool(node.get_attributes()["transpose_b"]), rank_of(node.input_value(1)))
    if keys_axis == values_axis:
        _cut_to_same_number(keys, node.input(1), keys_axis)
    else:
        cut_to_shortest((keys, keys_axis), (node.input(1), values_axis))
    for mask in masks:
        broadcast_mask(mask, product.input_value(1), keys_axis)


def _find_scores(node: ov.Node, depth: int) -> tuple[ov.Node, list[ov.Input]] | None:
    """The product of queries and keys behind a Softmax, and the masks that are added on the way."""
    type_name = node.get_type_name()
    if type_name == "MatMul":
        return node, []
    if type_name not in _BETWEEN_PRODUCTS or not depth:
        return None
    for target in node.inputs():
        found = _find_scores(target.get_source_output().get_node(), depth - 1)
        if found is not None:
            others = [each for each in node.inputs() if each.get_index() != target.get_index()]
            return found[0], [*found[1], *(others if type_name == "Add" else ())]
    return None


def _cut_to_same_number(keys: ov.Input, values: ov.Input, axis: int) -> None:
    """Cut keys and values to one number along an axis.

    Where both are appended to a cache, only what is appended is cut, so that the runtime still recognises the cache.
    """
    left, right = keys.get_source_output().get_node(), values.get_source_output().get_node()
    if not (_appends(left, axis) and _appends(right, axis)):
        cut_to_shortest((keys, axis), (values, axis))
        return
    for appended in zip(left.inputs()[1:], right.inputs()[1:], strict=True):
        cut_to_shortest(*((target, axis) for target in appended))
    caches = _cache_of(left.input(0), left, axis), _cache_of(right.input(0), right, axis)
    if None in caches:
        cut_to_shortest((left.input(0), axis), (right.input(0), axis))
    elif all(cache is not None and cache.get_input_size() for cache in caches):
        cut_to_shortest(*((cache.input(0), axis) for cache in caches if cache is not None))  # the initial contents


def _appends(node: ov.Node, axis: int) -> bool:
    """Whether the operation appends one tensor to another along an axis."""
    if node.get_type_name() != "Concat" or node.get_input_size() != 2:
        return False
    rank = rank_of(node.output(0))
    return rank is not None and (int(node.get_attributes()["axis"]) - axis) % rank == 0


def _cache_of(target: ov.Input, appended: ov.Node, axis: int) -> ov.Node | None:
    """The ReadValue behind an input, if `appended` is assigned to its variable; None if there is no such cache.

    A Gather that reorders the cache may stand between.
    """
    source = target.get_source_output().get_node()
    if source.get_type_name() == "Gather" and _keeps_size(source, axis):
        source = source.input_value(0).get_node()
    if source.get_type_name() != "ReadValue":
        return None
    variable = source.get_attributes()["variable_id"]
    assigned = (each.get_node() for each in appended.output(0).get_target_inputs())
    names = {each.get_attributes()["variable_id"] for each in assigned if each.get_type_name() == "Assign"}
    return source if variable in names else None


def _keeps_size(gather: ov.Node, axis: int) -> bool:
    """Whether a Gather leaves the size of an axis as it was."""
    rank, along = rank_of(gather.input_value(0)), gather.input_value(2).get_node()
    single = rank is not None and rank == rank_of(gather.output(0))
    return single and along.get_type_name() == "Constant" and (int(along.data.item()) - axis) % (rank or 1) != 0
