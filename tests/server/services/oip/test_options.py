"""The parameters of requests."""

from __future__ import annotations

import pytest

from headrace.oip import open_inference_pb2 as pb
from headrace.server.core.sequences import Step
from headrace.server.services.oip.options import NO_OPTIONS, Options, read_options
from headrace.wire.errors import InvalidArgument

P = pb.InferParameter


def test_timeout_and_priority_are_read() -> None:
    assert read_options({"timeout": P(int64_param=1500), "priority": P(uint64_param=1)}) == Options(0.0015, 9)


@pytest.mark.parametrize(("tritons", "cores"), [(0, 0), (1, 9), (2, 8), (9, 1), (10, 0), (1 << 63, 0)])
def test_tritons_priorities_are_mapped_to_the_cores(tritons: int, cores: int) -> None:
    assert read_options({"priority": P(uint64_param=tritons)}).priority == cores


def test_unknown_parameters_are_ignored() -> None:
    assert read_options({"color": P(string_param="red"), "headers": P(string_param="x"), "no": P()}) == NO_OPTIONS


@pytest.mark.parametrize(
    ("value", "number"),
    [
        (P(int64_param=1), 1),
        (P(uint64_param=1), 1),
        (P(string_param="one"), "one"),
        (P(string_param="1"), "1"),
        (P(int64_param=-1), (1 << 64) - 1),
        (P(uint64_param=(1 << 64) - 1), (1 << 64) - 1),
    ],
)
def test_a_sequence_is_recognized(value: P, number: int | str) -> None:
    true, false = P(bool_param=True), P(bool_param=False)
    assert read_options({"sequence_id": value, "sequence_end": true}).step == Step(number, end=True)
    given = {"sequence_id": value, "sequence_end": false, "sequence_start": true}
    assert read_options(given).step == Step(number, start=True)


@pytest.mark.parametrize("value", [P(int64_param=0), P(uint64_param=0), P(string_param="")])
def test_an_empty_sequence_id_means_no_sequence(value: P) -> None:
    assert read_options({"sequence_id": value, "sequence_start": P(bool_param=False)}) == NO_OPTIONS


@pytest.mark.parametrize(
    ("name", "value", "why"),
    [
        (
            "sequence_id",
            P(double_param=1),
            "parameter 'sequence_id' must be int64_param or uint64_param or string_param, but it is double_param",
        ),
        ("sequence_start", P(int64_param=1), "must be bool_param, but it is"),
        (
            "timeout",
            P(string_param="1"),
            "parameter 'timeout' must be int64_param or uint64_param, but it is string_param",
        ),
        ("timeout", P(int64_param=-1), "parameter 'timeout' is -1; it must not be negative"),
        ("priority", P(), "parameter 'priority' must be int64_param or uint64_param, but it is empty"),
        ("triton_enable_empty_final_response", P(string_param="yes"), "must be bool_param, but it is"),
        (
            "triton_none",
            P(bool_param=True),
            "there is no parameter 'triton_none'; names that begin with triton_ are reserved",
        ),
    ],
)
def test_a_parameter_that_is_not_valid_is_named(name: str, value: P, why: str) -> None:
    with pytest.raises(InvalidArgument, match=why):
        read_options({name: value})
