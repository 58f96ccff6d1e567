"""Puts in front of a model what turns the inputs that clients send into those that it takes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial

import openvino as ov
from openvino import opset15 as opset
from openvino.preprocess import ColorFormat, PrePostProcessor, ResizeAlgorithm

from headrace.server.engine.decoding.images import PILLOW, ImageOptions
from headrace.server.engine.port_options import InputOptions
from headrace.server.engine.preparing.datatypes import element_type
from headrace.server.engine.preparing.layouts import checked_layout, model_layout
from headrace.server.engine.reasons import reason_of
from headrace.wire.errors import quote

RESIZES = {
    "linear": ResizeAlgorithm.RESIZE_LINEAR,
    "cubic": ResizeAlgorithm.RESIZE_CUBIC,
    "nearest": ResizeAlgorithm.RESIZE_NEAREST,
    "bilinear_pillow": ResizeAlgorithm.RESIZE_BILINEAR_PILLOW,
    "bicubic_pillow": ResizeAlgorithm.RESIZE_BICUBIC_PILLOW,
}
_COLOURS = {"RGB": ColorFormat.RGB, "BGR": ColorFormat.BGR, "GRAY": ColorFormat.GRAY}
_CHANNELS = {"RGB": 3, "BGR": 3, "GRAY": 1}
_END = (1 << 31) - 1


@dataclass(frozen=True, slots=True)
class _Conversion:
    """What is done to an input. `sent` is the layout that clients send, `own` the model's; empty if none matters."""

    options: InputOptions
    sent: str
    own: str
    from_type: ov.Type
    own_type: ov.Type
    shape: ov.PartialShape
    """Of what clients send."""
    from_colour: str
    own_colour: str


def prepare_inputs(
    model: ov.Model, inputs: Mapping[int, InputOptions], names: Sequence[str]
) -> dict[int, ImageOptions]:
    """Change the inputs of a model, by number, to what their options say. `names` are for messages.

    An input with `encoded` becomes one of UINT8 pixels, in the layout NHWC, of the size that the model takes: to make
    them of what clients send is the caller's, as the options say that this returns. Raises ValueError with a clause.
    """
    changed = {number: options for number, options in inputs.items() if changes(options)}
    if not changed:
        return {}
    processor = PrePostProcessor(model)
    images: dict[int, ImageOptions] = {}
    for number, options in changed.items():
        try:
            conversion = _conversion(model.inputs[number], options)
            _add(processor, number, conversion)
            if options.encoded:
                images[number] = _images(conversion)
        except ValueError as error:
            raise ValueError(f"input {quote(names[number])}: {error}") from None
    try:
        processor.build()
    except RuntimeError as error:
        listed = ", ".join(quote(names[number]) for number in changed)
        raise ValueError(f"the options of input {listed} do not fit it: {reason_of(error)}") from error
    return images


def changes(options: InputOptions) -> bool:
    """Whether the graph has to change for these options."""
    return replace(options, shape="", model_layout="", reshape="", warm_up="") != InputOptions()


def _conversion(port: ov.Output, options: InputOptions) -> _Conversion:
    own_type = port.get_element_type()
    from_type = element_type(options.datatype) if options.datatype else own_type
    if options.scaled_decoding and not options.encoded:
        raise ValueError("scaled_decoding is for encoded images")
    if options.encoded:
        _check_encoded(options)
        from_type = ov.Type.u8
    if ov.Type.string in (own_type, from_type):
        raise ValueError("strings are neither converted nor computed with")
    own = model_layout(port, options) if _needs_layout(options) else ""
    shape = port.get_partial_shape()
    sent = "NHWC" if options.encoded else own
    if options.layout:
        sent = checked_layout(options.layout, "layout", len(own))
    if options.encoded and own not in ("NHWC", "NCHW"):
        raise ValueError(f"model_layout is {own}, but encoded images need NCHW or NHWC")
    if {*sent} != {*own}:
        raise ValueError(f"layout {sent} does not have the axes of model_layout {own}")
    gray = bool(own) and "C" in own and shape[own.index("C")] == ov.Dimension(1)
    from_colour, own_colour = _colours(options, gray)
    conversion = _Conversion(options, sent, own, from_type, own_type, shape, from_colour, own_colour)
    if own:
        conversion = _with_shape(conversion, shape)
    _check_numbers(conversion, shape)
    return conversion


def _check_encoded(options: InputOptions) -> None:
    """Raises ValueError for options that do not belong to files."""
    for key in ("datatype", "layout", "colour"):
        if getattr(options, key):
            raise ValueError(f"{key} does not go with encoded: files say what they hold")


def _needs_layout(options: InputOptions) -> bool:
    several = len(options.mean) > 1 or len(options.scale) > 1
    return bool(
        several or options.encoded or options.layout or options.colour or options.resize or options.crop is not None
    )


def _colours(options: InputOptions, gray: bool) -> tuple[str, str]:
    """The colours that clients send, and those that the model takes; empty if they do not matter.

    `gray`: the model takes one channel.
    """
    if options.encoded:
        own = options.model_colour or ("GRAY" if gray else "RGB")
        return ("GRAY" if own == "GRAY" else "RGB"), own
    if bool(options.colour) != bool(options.model_colour):
        given, missing = ("colour", "model_colour") if options.colour else ("model_colour", "colour")
        raise ValueError(f"it has {given}, but no {missing}: say both, such as RGB and BGR")
    return options.colour, options.model_colour


def _with_shape(conversion: _Conversion, own_shape: ov.PartialShape) -> _Conversion:
    """The same with the shape that clients send."""
    options = conversion.options
    axes = {letter: own_shape[axis] for axis, letter in enumerate(conversion.own)}
    if options.resize or options.crop is not None or options.encoded:
        for letter in "HW":
            if letter not in axes:
                raise ValueError(f"model_layout {conversion.own} has no {letter}, so the input is not one of images")
    if conversion.own_colour:
        channels = _CHANNELS[conversion.own_colour]
        if "C" not in axes or not axes["C"].compatible(ov.Dimension(channels)):
            raise ValueError(
                f"model_colour {conversion.own_colour} has {channels} channels, but the model's input "
                f"{conversion.own} has shape {own_shape}"
            )
        axes["C"] = ov.Dimension(_CHANNELS[conversion.from_colour])
    if not options.encoded:
        _resize_and_crop(options, axes)
    elif options.resize:
        _require_size(axes)
    return replace(conversion, shape=ov.PartialShape([axes[letter] for letter in conversion.sent]))


def _resize_and_crop(options: InputOptions, axes: dict[str, ov.Dimension]) -> None:
    """Set the height and width that clients send."""
    if options.resize:
        _require_size(axes)
        axes["H"], axes["W"] = ov.Dimension(1, -1), ov.Dimension(1, -1)
    if options.crop is None:
        return
    top, left, height, width = options.crop
    _check_crop(options.crop)
    for letter, size in (("H", height), ("W", width)):
        if not axes[letter].compatible(ov.Dimension(size)):
            raise ValueError(f"crop gives {letter} {size}, but the model takes {axes[letter]}: set resize")
    axes["H"], axes["W"] = ov.Dimension(top + height, -1), ov.Dimension(left + width, -1)


def _images(conversion: _Conversion) -> ImageOptions:
    options = conversion.options
    _, height, width, _ = conversion.shape
    size = None if height.is_dynamic or width.is_dynamic else (height.get_length(), width.get_length())
    if options.crop is not None:
        _check_crop(options.crop)
        if size is not None and not options.resize and options.crop[2:] != size:
            raise ValueError(f"crop gives {[*options.crop[2:]]}, but the model takes {[*size]}: set resize")
    if options.scaled_decoding and (size is None or options.crop is not None or options.resize not in PILLOW):
        # Only these look at all pixels, so that it hardly matters to them whether a few have been averaged before.
        raise ValueError(f"scaled_decoding needs one of the resizes {', '.join(PILLOW)}, and no crop")
    return ImageOptions(conversion.from_colour == "GRAY", size, options.crop, options.resize, options.scaled_decoding)


def _check_crop(crop: tuple[int, int, int, int]) -> None:
    if min(crop[:2]) < 0 or min(crop[2:]) < 1:
        raise ValueError(f"crop {[*crop]} is not (top, left, height, width)")


def _require_size(axes: Mapping[str, ov.Dimension]) -> None:
    if axes["H"].is_dynamic or axes["W"].is_dynamic:
        raise ValueError("resize needs the size that the model takes, which is dynamic: set shape")


def _check_numbers(conversion: _Conversion, own_shape: ov.PartialShape) -> None:
    """Raises ValueError if mean and scale do not fit the model's input."""
    options = conversion.options
    for key in ("mean", "scale"):
        numbers = getattr(options, key)
        if numbers and not conversion.own_type.is_real():
            raise ValueError(f"{key} needs an input of floats, but the model's has {conversion.own_type.to_string()}")
        if len(numbers) > 1:
            if "C" not in conversion.own:
                raise ValueError(f"{key} has {len(numbers)} numbers, but model_layout {conversion.own} has no C")
            channels = own_shape[conversion.own.index("C")]
            if not channels.compatible(ov.Dimension(len(numbers))):
                raise ValueError(f"{key} has {len(numbers)} numbers, but the model's input has {channels} channels")
    if 0 in options.scale:
        raise ValueError("scale is 0, by which nothing can be divided")


def _add(processor: PrePostProcessor, number: int, conversion: _Conversion) -> None:
    options = conversion.options
    info = processor.input(number)
    info.tensor().set_element_type(conversion.from_type).set_shape(conversion.shape)
    if conversion.own:
        info.tensor().set_layout(ov.Layout(conversion.sent))
        info.model().set_layout(ov.Layout(conversion.own))
    steps = info.preprocess()
    if options.crop is not None and not options.encoded:
        top, left, height, width = options.crop
        bounds = {"H": (top, top + height), "W": (left, left + width)}
        begin, end = zip(*[bounds.get(letter, (0, _END)) for letter in conversion.sent], strict=True)
        steps.crop([*begin], [*end])
    if options.resize and not options.encoded:
        steps.resize(RESIZES[options.resize])
    grays = conversion.own_colour == "GRAY" != conversion.from_colour
    if (options.mean or options.scale or grays) and conversion.from_type != ov.Type.f32:
        steps.convert_element_type(ov.Type.f32)
    _add_colours(info, conversion)
    if options.mean:
        steps.mean(_numbers(options.mean))
    if options.scale:
        steps.scale(_numbers(options.scale))


def _numbers(given: tuple[float, ...]) -> float | list[float]:
    return [float(each) for each in given] if len(given) > 1 else float(given[0])


def _add_colours(info: ov.preprocess.InputInfo, conversion: _Conversion) -> None:
    sent, own = conversion.from_colour, conversion.own_colour
    if sent == own:
        return
    if sent == "GRAY":
        # The same brightness in each channel, which the processor does not know.
        info.preprocess().custom(partial(_repeat, axis=conversion.sent.index("C")))
        return
    info.tensor().set_color_format(_COLOURS[sent])
    info.preprocess().convert_color(_COLOURS[own])


def _repeat(channel: ov.Output, axis: int) -> ov.Output:
    return opset.concat([channel] * 3, axis).output(0)
