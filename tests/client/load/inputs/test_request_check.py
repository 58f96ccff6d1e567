"""What a model does not take is refused before anything is sent."""

from __future__ import annotations

import numpy as np
import pytest

from headrace.client.load.callers.caller import Request
from headrace.client.load.inputs.request_check import check_outputs, check_shapes
from headrace.client.protocol.models import Dimension, Model, Port
from headrace.client.terminal.usage_error import UsageError

X = Port("x", "FP32", (None, 16), ("x", "input"))
SUM, PRODUCT = Port("sum", "FP32", (None, 16), ("sum", "total")), Port("product", "FP32", (None, 16), ("product",))


def model(*inputs: Port) -> Model:
    return Model("am", "1", inputs, (SUM, PRODUCT), has_variables=False, slots=1)


@pytest.mark.parametrize("outputs", [None, (), ("sum",), ("total", "product"), ("product", "sum")])
def test_outputs_of_the_model_are_accepted_by_any_of_their_names(outputs: tuple[str, ...] | None) -> None:
    check_outputs(model(X), Request("am", "", outputs=outputs, keep=("product",)))


@pytest.mark.parametrize(
    ("request_", "sentence"),
    [
        (
            Request("am", "", outputs=("sum", "summ")),
            "--outputs: model 'am' has no output 'summ'; its outputs: sum FP32[?,16], product FP32[?,16]",
        ),
        (
            Request("am", "", keep=("state",)),
            "--keep: model 'am' has no output 'state'; its outputs: sum FP32[?,16], product FP32[?,16]",
        ),
        (Request("am", "", outputs=("sum", "total")), "--outputs names output 'sum' twice"),
    ],
)
def test_other_outputs_are_named_in_one_sentence(request_: Request, sentence: str) -> None:
    with pytest.raises(UsageError) as error:
        check_outputs(model(X), request_)
    assert str(error.value) == sentence


@pytest.mark.parametrize(
    ("dimensions", "shape", "fits"),
    [
        ((None, 16), (3, 16), True),
        ((None, 16), (0, 16), True),
        ((None, 16), (3, 17), False),
        ((None, 16), (16,), False),
        ((None, 16), (1, 3, 16), False),
        (((2, 4),), (2,), True),
        (((2, 4),), (5,), False),
        (((2, None),), (10**6,), True),
        (((2, None),), (1,), False),
        ((), (), True),
        ((), (1,), False),
        (None, (1, 2, 3, 4), True),
    ],
)
def test_a_shape_must_fit(dimensions: tuple[Dimension, ...] | None, shape: tuple[int, ...], fits: bool) -> None:
    found, sets = model(Port("x", "FP32", dimensions, ("x",))), [{"x": np.zeros(shape, np.float32)}]
    if fits:
        check_shapes(found, sets, "headrace")
    else:
        with pytest.raises(UsageError, match=r"input 'x' has shape .* but model 'am' takes x FP32"):
            check_shapes(found, sets, "headrace")


def test_the_first_set_that_does_not_fit_is_named() -> None:
    sets = [{"x": np.zeros((size, columns), np.float32)} for size, columns in ((1, 16), (2, 16), (2, 15))]
    with pytest.raises(UsageError) as error:
        check_shapes(model(X), sets, "headrace")
    assert str(error.value) == "input 'x' has shape [2,15], but model 'am' takes x FP32[?,16]"


def test_a_single_unknown_dimension_may_stand_for_any_rank_in_the_open_inference_protocol() -> None:
    found, sets = model(Port("x", "FP32", (None,), ("x",))), [{"x": np.zeros((2, 3), np.float32)}]
    check_shapes(found, sets, "oip")
    with pytest.raises(UsageError):
        check_shapes(found, sets, "headrace")
