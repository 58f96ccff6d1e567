"""Products, sums, pooling and normalisation."""

from __future__ import annotations

from openvino import opset1, opset3, opset4, opset5, opset6, opset7, opset8, opset12, opset13, opset14

from tests.server.engine.example import Examples, boolean, f32, i32, i64, of, real, weights, whole

IMAGE = f32(1, 3, 8, 8)
WINDOW = ([2, 2], [0, 0], [1, 1], [3, 3])
"""Strides, padding at both ends, and the size."""


def _reduced(*names: str) -> Examples:
    """Reductions that keep the axes and that drop them; along an inner axis, the last one, and all."""
    found: Examples = {}
    for name in names:
        opset = opset4 if name in ("reduce_l1", "reduce_l2") else opset1
        reduce = getattr(opset, name)
        given = (boolean,) if "logical" in name else (f32, i32, i64)
        key = "".join(part.capitalize() for part in name.split("_")) + (".opset4" if opset is opset4 else ".opset1")
        ways = (([1], True), ([-1], False), ([0, 1, 2], False))
        builds = [lambda x, way=way, reduce=reduce: reduce(x, whole(way[0]), way[1]) for way in ways]
        found[key] = [example for kind in given for example in of(kind(3, 5, 7), *builds)]
    return found


EXAMPLES: Examples = {
    "MatMul.opset1": [
        *of((f32(3, 17), f32(17, 5)), lambda x, y: opset1.matmul(x, y, False, False)),
        *of((f32(2, 3, 17), f32(5, 17)), lambda x, y: opset1.matmul(x, y, False, True)),
        *of(f32(3, 17), lambda x: opset1.matmul(x, weights(17, 40), False, False)),
        *of((i32(3, 4), i32(4, 5)), lambda x, y: opset1.matmul(x, y, False, False)),
    ],
    "Convolution.opset1": of(
        IMAGE,
        lambda x: opset1.convolution(x, weights(4, 3, 3, 3), [1, 1], [1, 1], [1, 1], [1, 1]),
        lambda x: opset1.convolution(x, weights(4, 3, 1, 1), [2, 2], [0, 0], [0, 0], [1, 1]),
    ),
    "GroupConvolution.opset1": of(
        IMAGE, lambda x: opset1.group_convolution(x, weights(3, 1, 1, 3, 3), [1, 1], [1, 1], [1, 1], [1, 1])
    ),
    "ConvolutionBackpropData.opset1": of(
        IMAGE,
        lambda x: opset1.convolution_backprop_data(x, weights(3, 4, 3, 3), [2, 2], auto_pad="SAME_UPPER"),
        lambda x: opset1.convolution_backprop_data(
            x, weights(3, 4, 3, 3), [2, 2], whole([16, 16]), auto_pad="SAME_UPPER"
        ),
    ),
    "GroupConvolutionBackpropData.opset1": of(
        IMAGE,
        lambda x: opset1.group_convolution_backprop_data(
            x, weights(3, 1, 1, 2, 2), [2, 2], None, [0, 0], [0, 0], [1, 1]
        ),
    ),
    "Einsum.opset7": [
        *of((f32(2, 3, 4), f32(2, 5, 4)), lambda x, y: opset7.einsum([x, y], "bij,bkj->bik")),
        *of((f32(3, 4), f32(4, 5)), lambda x, y: opset7.einsum([x, y], "ij,jk->ki")),
        *of(f32(3, 3), lambda x: opset7.einsum([x], "ij->i")),
    ],
    "ScaledDotProductAttention.opset13": [
        *of((f32(1, 2, 4, 8), f32(1, 2, 4, 8), f32(1, 2, 4, 8)), opset13.scaled_dot_product_attention),
        *of(
            (f32(1, 2, 4, 8), f32(1, 2, 6, 8), f32(1, 2, 6, 8), f32(4, 6)),
            opset13.scaled_dot_product_attention,
        ),
        *of(
            (f32(1, 2, 4, 8), f32(1, 2, 4, 8), f32(1, 2, 4, 8)),
            lambda q, k, v: opset13.scaled_dot_product_attention(q, k, v, causal=True),
        ),
    ],
    **_reduced("reduce_max", "reduce_mean", "reduce_min", "reduce_prod", "reduce_sum", "reduce_l1", "reduce_l2"),
    **_reduced("reduce_logical_and", "reduce_logical_or"),
    "CumSum.opset3": [
        each
        for kind in (f32, i32, i64)
        for each in of(
            kind(3, 7),
            lambda x: opset3.cum_sum(x, whole(1)),
            lambda x: opset3.cum_sum(x, whole(0), exclusive=True, reverse=True),
        )
    ],
    "AvgPool.opset1": of(IMAGE, lambda x: opset1.avg_pool(x, *WINDOW, True)),
    "AvgPool.opset14": of(IMAGE, lambda x: opset14.avg_pool(x, *WINDOW, False, "ceil_torch")),
    "MaxPool.opset1": of(IMAGE, lambda x: opset1.max_pool(x, *WINDOW)),
    "MaxPool.opset8": of(
        IMAGE,
        lambda x: opset8.max_pool(x, [2, 2], [1, 1], [0, 0], [1, 1], [3, 3]).output(0),
        lambda x: opset8.max_pool(x, [2, 2], [1, 1], [0, 0], [1, 1], [3, 3]).output(1),
    ),
    "MaxPool.opset14": of(
        IMAGE,
        lambda x: opset14.max_pool(x, [2, 2], [1, 1], [0, 0], [1, 1], [3, 3]).output(0),
        lambda x: opset14.max_pool(x, [2, 2], [1, 1], [0, 0], [1, 1], [3, 3]).output(1),
    ),
    "AdaptiveAvgPool.opset8": of(IMAGE, lambda x: opset8.adaptive_avg_pool(x, whole([3, 2]))),
    "AdaptiveMaxPool.opset8": of(
        IMAGE,
        lambda x: opset8.adaptive_max_pool(x, whole([3, 2]), "i32").output(0),
        lambda x: opset8.adaptive_max_pool(x, whole([3, 2]), "i32").output(1),
    ),
    "BatchNormInference.opset5": of(
        IMAGE,
        lambda x: opset5.batch_norm_inference(x, weights(3), weights(3), weights(3), real([0, 1, 2]), 1e-5),
    ),
    "GroupNormalization.opset12": of(
        f32(2, 4, 8), lambda x: opset12.group_normalization(x, weights(4), weights(4), 2, 1e-5)
    ),
    "GRN.opset1": of(IMAGE, lambda x: opset1.grn(x, 1.0)),
    "LRN.opset1": of(IMAGE, lambda x: opset1.lrn(x, whole([1]))),
    "MVN.opset6": of(
        f32(2, 4, 9),
        lambda x: opset6.mvn(x, whole([2]), True, 1e-5, "inside_sqrt"),
        lambda x: opset6.mvn(x, whole([1, 2]), False, 1e-5, "outside_sqrt"),
    ),
    "NormalizeL2.opset1": of(IMAGE, lambda x: opset1.normalize_l2(x, whole([1]), 1e-6, "add")),
    "Softmax.opset1": of(f32(3, 21), lambda x: opset1.softmax(x, 1)),
    "Softmax.opset8": of(f32(3, 21), lambda x: opset8.softmax(x, -1), lambda x: opset8.softmax(x, 0)),
    "LogSoftmax.opset5": of(f32(3, 21), lambda x: opset5.log_softmax(x, -1)),
}
