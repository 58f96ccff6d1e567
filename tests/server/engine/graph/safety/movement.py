"""Operations that move or select elements."""

from __future__ import annotations

from typing import Any

import numpy as np
from openvino import opset1, opset2, opset3, opset7, opset8, opset10, opset11, opset12, opset15

from tests.server.engine.example import Build, Example, Examples, f32, i32, i64, of, real, whole

IMAGE = f32(1, 4, 6, 6)
KINDS = (f32, i32, i64)


def _padded(opset: Any) -> list[Example]:
    modes = ("constant", "edge", "reflect", "symmetric")
    begin, end = whole([1, 2]), whole([2, 1])
    builds: list[Build] = [lambda x, mode=mode: opset.pad(x, begin, end, mode) for mode in modes]
    builds.append(lambda x: opset.pad(x, begin, end, "constant", opset1.convert_like(real(3), x)))
    return [each for kind in KINDS for each in of(kind(4, 5), *builds)]


def _interpolated(*modes: str) -> list[Example]:
    return of(
        IMAGE,
        *(
            lambda x, mode=mode, size=size: opset11.interpolate(x, whole(size), mode, "sizes", axes=whole([2, 3]))
            for mode in modes
            for size in ([9, 11], [3, 4])
        ),
        lambda x: opset11.interpolate(x, real([2.0, 1.5]), "nearest", "scales", axes=whole([2, 3])),
    )


def _interpolated_to(x: Any, mode: str) -> Any:
    size, scales = whole([9, 11]), real([1.5, 1.8])
    return opset10.interpolate(x, size, scales, mode, "sizes", axes=whole([2, 3]))


def _to_shape_of(x: Any) -> Any:
    """A pattern that follows from a shape, as exporters write it."""
    shape = opset3.shape_of(x)
    rows = opset8.gather(shape, whole([0]), whole(0))
    return opset1.reshape(x, opset1.concat([rows, whole([-1])], 0), False)


EXAMPLES: Examples = {
    "Concat.opset1": [
        each for kind in KINDS for each in of((kind(3, 4), kind(3, 2)), lambda *x: opset1.concat([*x], 1))
    ],
    "DepthToSpace.opset1": of(IMAGE, lambda x: opset1.depth_to_space(x, "blocks_first", 2)),
    "SpaceToDepth.opset1": of(IMAGE, lambda x: opset1.space_to_depth(x, "depth_first", 2)),
    "ShuffleChannels.opset1": of(IMAGE, lambda x: opset3.shuffle_channels(x, 1, 2)),
    "ShapeOf.opset1": of(IMAGE, opset1.shape_of),
    "ShapeOf.opset3": of(IMAGE, opset3.shape_of),
    "ExtractImagePatches.opset3": of(
        IMAGE, lambda x: opset3.extract_image_patches(x, [2, 2], [2, 2], [1, 1], "same_upper")
    ),
    "Split.opset1": of(f32(4, 6), lambda x: opset1.split(x, whole(1), 2).output(1)),
    "VariadicSplit.opset1": of(f32(4, 6), lambda x: opset1.variadic_split(x, whole(1), whole([2, -1])).output(1)),
    "Squeeze.opset1": of(
        f32(4, 1, 6), lambda x: opset1.squeeze(x, whole([1])), lambda x: opset1.squeeze(x, whole([-2]))
    ),
    "Squeeze.opset15": of(f32(4, 1, 6), lambda x: opset15.squeeze(x, whole([1]))),
    "Unsqueeze.opset1": of(f32(4, 6), lambda x: opset1.unsqueeze(x, whole([1]))),
    "Transpose.opset1": [
        each for kind in KINDS for each in of(kind(2, 3, 5), lambda x: opset1.transpose(x, whole([2, 0, 1])))
    ],
    "Reshape.opset1": of(f32(4, 6), lambda x: opset1.reshape(x, whole([0, 2, -1]), True), _to_shape_of),
    "Slice.opset8": of(
        f32(4, 6),
        lambda x: opset8.slice(x, whole([1]), whole([-1]), whole([2]), whole([1])),
        lambda x: opset8.slice(x, whole([-1, 5]), whole([-9, 0]), whole([-1, -2])),
    ),
    "StridedSlice.opset1": of(
        f32(4, 6), lambda x: opset1.strided_slice(x, whole([0, 5]), whole([0, 0]), whole([2, -1]), [0, 0], [1, 0])
    ),
    "Pad.opset1": _padded(opset1),
    "Pad.opset12": _padded(opset12),
    "Tile.opset1": of(f32(2, 3), lambda x: opset1.tile(x, whole([2, 1, 2]))),
    "Broadcast.opset1": of(f32(3), lambda x: opset1.broadcast(x, whole([2, 3]))),
    "Broadcast.opset3": of(
        f32(3, 1),
        lambda x: opset3.broadcast(x, whole([2, 3, 4])),
        lambda x: opset3.broadcast(x, whole([3, 5, 1]), whole([0, 2]), "explicit"),
    ),
    "Roll.opset7": of(f32(4, 6), lambda x: opset7.roll(x, whole([1, -2]), whole([0, 1]))),
    "ReverseSequence.opset1": of(f32(4, 6), lambda x: opset1.reverse_sequence(x, whole([1, 6, 3, 4]), 0, 1)),
    "SpaceToBatch.opset2": of(
        IMAGE,
        lambda x: opset2.space_to_batch(x, whole([1, 1, 2, 2]), whole([0, 0, 1, 0]), whole([0, 0, 1, 0])),
    ),
    "BatchToSpace.opset2": of(
        f32(4, 2, 3, 3),
        lambda x: opset2.batch_to_space(x, whole([1, 1, 2, 2]), whole([0, 0, 1, 0]), whole([0, 0, 0, 1])),
    ),
    "Interpolate.opset1": of(
        IMAGE,
        lambda x: opset1.interpolate(x, whole([9, 11]), {"axes": np.array([2, 3]), "mode": "linear"}),
    ),
    "Interpolate.opset4": of(
        IMAGE, *(lambda x, mode=mode: _interpolated_to(x, mode) for mode in ("nearest", "linear_onnx", "cubic"))
    ),
    "Interpolate.opset11": _interpolated(
        "nearest", "linear", "linear_onnx", "cubic", "bilinear_pillow", "bicubic_pillow"
    ),
    "Range.opset4": of(i64(3), lambda x: opset1.add(opset12.range(whole(0), whole(9), whole(3), "i64"), x)),
}
