"""Which models cannot fail at run time, whatever their data.

A synchronous run on one thread (openvino 2026.4, CPU) does not raise when it fails: its outputs keep an earlier run's
results, which are another client's. And after a dynamic model has failed, later runs of it may be wrong. So a model
runs directly or in batches only if each of its operations is known never to fail. Those are listed here, and each is
tested on hostile data; what a later version of the runtime adds is not listed.
"""

from __future__ import annotations

from collections.abc import Callable

import openvino as ov

from headrace.server.engine.graph.traversal import follows, graphs
from headrace.wire.errors import quote

Condition = Callable[[ov.Node], str | None]
"""Names what may make an operation fail, as in "its indices"; None if nothing may."""

_TYPES = {"boolean", "u8", "u16", "u32", "u64", "i8", "i16", "i32", "i64", "bf16", "f16", "f32", "f64"}
"""Neither strings nor types of less than a byte: products of 4-bit weights may end the process."""


def why_unsafe(model: ov.Model) -> str | None:
    """Why a run of the model may fail because of its data, naming the first operation that may; None if none may.

    This holds for shapes that have run before, in a model whose inner shapes follow from those of its inputs.
    """
    for graph in graphs(model):
        for node in graph.get_ordered_ops():
            reason = _why_unsafe(node)
            if reason is not None:
                return reason
    return None


def _why_unsafe(node: ov.Node) -> str | None:
    type_name = node.get_type_name()
    named = f"{type_name} {quote(node.get_friendly_name())}"
    condition = SAFE.get(f"{type_name}.{node.get_type_info().version_id}")
    if condition is None:
        return f"{named} is not on the list of operations that never fail"
    for port in (*node.input_values(), *node.outputs()):
        element_type = port.get_element_type().to_string()
        if element_type not in _TYPES:
            return f"{named} may fail because of its elements of type {element_type}"
    cause = condition(node)
    return None if cause is None else f"{named} may fail because of {cause}"


def _never(node: ov.Node) -> None:
    """The operation cannot fail."""


def _fixed(**inputs: int) -> Condition:
    """Require these inputs, by name and index, to follow from constants and shapes. Missing inputs are fine."""

    def condition(node: ov.Node) -> str | None:
        for name, index in inputs.items():
            if index < node.get_input_size() and not follows(node.input_value(index)):
                return f"its {name.replace('_', ' ')}"
        return None

    return condition


def _divides(node: ov.Node) -> str | None:
    """Integers are divided as floats today, but nothing promises that: a divisor of zero may come to raise a signal."""
    divisor = node.input_value(1)
    if divisor.get_element_type().is_real() or (follows(node.input_value(0)) and follows(divisor)):
        return None
    source = divisor.get_node()
    return None if source.get_type_name() == "Constant" and source.data.all() else "its divisor"


def _repeats(node: ov.Node) -> str | None:
    """The number of iterations decides shapes, so neither data nor the body itself may decide that number."""
    _, condition = node.get_special_body_ports()
    if not follows(node.input_value(0)) or not follows(node.input_value(1)):
        return "its number of iterations"
    results = node.get_function().get_results()
    return None if condition < 0 or follows(results[condition].input_value(0)) else "its number of iterations"


def _each(version: int, names: str, condition: Condition = _never) -> dict[str, Condition]:
    return {f"{name}.opset{version}": condition for name in names.split()}


_AXES = _fixed(axes=1)
_SPLIT = _fixed(axis=1, lengths=2)
_INDEXED = _fixed(indices=1, axis=3)
_PADDED = _fixed(pads=1, pads_at_the_end=2, value=3)
_BLOCKS = _fixed(block_shape=1, pads=2, pads_at_the_end=3)

SAFE: dict[str, Condition] = {
    # The frame of a model.
    **_each(1, "Constant Parameter Result"),
    **_each(6, "Assign ReadValue"),
    **_each(8, "If"),
    **_each(5, "Loop", _repeats),
    **_each(1, "TensorIterator"),
    # Element by element.
    **_each(1, "Abs Acos Asin Atan Ceiling Clamp Convert ConvertLike Cos Cosh Elu Erf Exp Floor HardSigmoid Log"),
    **_each(1, "LogicalNot Negative PRelu Relu Selu Sigmoid Sign Sin Sinh Sqrt Tan Tanh"),
    **_each(2, "Gelu"),
    **_each(4, "Acosh Asinh Atanh HSwish Mish SoftPlus Swish"),
    **_each(5, "HSigmoid Round"),
    **_each(7, "Gelu"),
    **_each(9, "SoftSign"),
    **_each(10, "IsFinite IsInf IsNaN"),
    **_each(13, "BitwiseNot"),
    **_each(16, "Identity"),
    **_each(1, "Add Equal Greater GreaterEqual Less LessEqual LogicalAnd LogicalOr Maximum Minimum Multiply"),
    **_each(2, "LogicalXor"),
    **_each(1, "NotEqual Power Select SquaredDifference Subtract"),
    **_each(13, "BitwiseAnd BitwiseOr BitwiseXor"),
    **_each(15, "BitwiseLeftShift BitwiseRightShift"),
    **_each(1, "Divide FloorMod Mod", _divides),
    **_each(1, "FakeQuantize", _fixed(input_low=1, input_high=2, output_low=3, output_high=4)),
    # Sums and products.
    **_each(1, "MatMul"),
    **_each(1, "Convolution GroupConvolution", _fixed(filters=1)),
    **_each(1, "ConvolutionBackpropData GroupConvolutionBackpropData", _fixed(filters=1, output_shape=2)),
    **_each(7, "Einsum"),
    **_each(13, "ScaledDotProductAttention"),
    **_each(1, "ReduceLogicalAnd ReduceLogicalOr ReduceMax ReduceMean ReduceMin ReduceProd ReduceSum", _AXES),
    **_each(4, "ReduceL1 ReduceL2", _AXES),
    **_each(3, "CumSum", _fixed(axis=1)),
    # Pooling and normalisation.
    **_each(1, "AvgPool MaxPool"),
    **_each(8, "MaxPool"),
    **_each(14, "AvgPool MaxPool"),
    **_each(8, "AdaptiveAvgPool AdaptiveMaxPool", _fixed(output_shape=1)),
    **_each(1, "GRN Softmax"),
    **_each(5, "BatchNormInference LogSoftmax"),
    **_each(8, "Softmax"),
    **_each(12, "GroupNormalization"),
    **_each(1, "LRN NormalizeL2", _AXES),
    **_each(6, "MVN", _AXES),
    # Recurrence.
    **_each(4, "LSTMCell", _fixed(weights=3, recurrent_weights=4, biases=5)),
    **_each(3, "GRUCell", _fixed(weights=2, recurrent_weights=3, biases=4)),
    **_each(5, "LSTMSequence", _fixed(lengths=3, weights=4, recurrent_weights=5, biases=6)),
    **_each(5, "GRUSequence RNNSequence", _fixed(lengths=2, weights=3, recurrent_weights=4, biases=5)),
    # Moving elements.
    **_each(1, "Concat DepthToSpace ShapeOf ShuffleChannels SpaceToDepth"),
    **_each(3, "ExtractImagePatches ShapeOf"),
    **_each(1, "Split VariadicSplit", _SPLIT),
    **_each(1, "Squeeze Unsqueeze", _AXES),
    **_each(15, "Squeeze", _AXES),
    **_each(1, "Transpose", _fixed(order=1)),
    **_each(1, "Reshape", _fixed(pattern=1)),
    **_each(8, "Slice", _fixed(start=1, stop=2, step=3, axes=4)),
    **_each(1, "StridedSlice", _fixed(begin=1, end=2, strides=3)),
    **_each(1, "Pad", _PADDED),
    **_each(12, "Pad", _PADDED),
    **_each(1, "Tile", _fixed(repeats=1)),
    **_each(1, "Broadcast", _fixed(target_shape=1, axes=2)),
    **_each(3, "Broadcast", _fixed(target_shape=1, axes=2)),
    **_each(7, "Roll", _fixed(shift=1, axes=2)),
    **_each(1, "ReverseSequence", _fixed(lengths=1)),
    **_each(2, "BatchToSpace SpaceToBatch", _BLOCKS),
    **_each(1, "Interpolate", _fixed(sizes=1)),
    **_each(4, "Interpolate", _fixed(sizes=1, scales=2, axes=3)),
    **_each(11, "Interpolate", _fixed(sizes=1, axes=2)),
    **_each(4, "Range", _fixed(start=0, stop=1, step=2)),
    # Indexing. For an index out of range Gather and OneHot give zero or, once guarded, another element of the tensor.
    **_each(1, "Gather", _fixed(axis=2)),
    **_each(7, "Gather", _fixed(axis=2)),
    **_each(8, "Gather", _fixed(axis=2)),
    **_each(1, "OneHot", _fixed(depth=1)),
    **_each(3, "Bucketize"),
    **_each(1, "TopK", _fixed(k=1)),
    **_each(3, "TopK", _fixed(k=1)),
    **_each(11, "TopK", _fixed(k=1)),
    **_each(5, "GatherND", _fixed(indices=1)),
    **_each(6, "GatherElements", _fixed(indices=1)),
    **_each(8, "GatherND", _fixed(indices=1)),
    **_each(3, "ScatterElementsUpdate ScatterUpdate", _INDEXED),
    **_each(4, "ScatterNDUpdate", _INDEXED),
    **_each(12, "ScatterElementsUpdate", _INDEXED),
    **_each(15, "ScatterNDUpdate", _INDEXED),
}
"""By the type and the version of the operation: the condition under which it cannot fail."""
