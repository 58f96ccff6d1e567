"""Runs guarded models on hostile data: `python -m tests.server.engine.guarding.out_of_bounds.walk`.

A process of its own, because a mistake may end it. Prints a line of JSON before each model, so that the last one names
what was tried, and one for whatever is wrong.
"""

from __future__ import annotations

import json
from collections.abc import Iterator

import numpy as np
import openvino as ov

from headrace.server.engine.guarding.out_of_bounds.guards import guard_bounds
from tests.server.engine.guarding.out_of_bounds.cases import CASES, Array, Case

LEFT = 123
"""In outputs before each run: what is not written shows it."""
TOGETHER = {
    "PERFORMANCE_HINT": "LATENCY",
    "NUM_STREAMS": 1,
    "INFERENCE_NUM_THREADS": 2,
    "INFERENCE_PRECISION_HINT": "f32",
}


def say(**what: object) -> None:
    print(json.dumps(what), flush=True)


def compiled(core: ov.Core, model: ov.Model) -> ov.InferRequest:
    return core.compile_model(model, "CPU", TOGETHER).create_infer_request()


def run(request: ov.InferRequest, data: list[Array]) -> Array:
    output = request.model_outputs[0]
    if output.get_partial_shape().is_static:
        tensor = ov.Tensor(output.get_element_type(), output.get_shape())
        tensor.data[...] = LEFT
        request.set_output_tensor(0, tensor)
    request.start_async(data)
    request.wait()
    return np.array(request.get_output_tensor(0).data)


def hostile(case: Case) -> Iterator[tuple[str, list[Array]]]:
    """Each value everywhere in an input, and in its last place only."""
    for index, values in case.wild.items():
        for value in values:
            for everywhere in (True, False):
                data = [
                    np.array(each) if place in case.wild else np.full(each.shape, 7, each.dtype)
                    for place, each in enumerate(case.ordinary)
                ]
                changed = data[index].reshape(-1)
                if data[index].dtype.kind in "iu" and not -(1 << 63) <= value <= np.iinfo(data[index].dtype).max:
                    continue
                if data[index].dtype.kind in "iu" and value < np.iinfo(data[index].dtype).min:
                    continue
                changed[slice(None) if everywhere else slice(-1, None)] = value
                yield f"{value} in input {index}{'' if everywhere else ', last place'}", data


def foreign(case: Case, found: Array) -> Array:
    """What of a result cannot come from the data."""
    if case.within is not None:
        return found[~((found >= case.within[0]) & (found <= case.within[1]))]
    allowed = np.isin(found, case.among)
    if any(each != each for each in case.among):
        allowed |= found != found
    return found[~allowed]


def wrong(core: ov.Core, case: Case) -> Iterator[tuple[str, str]]:
    model = case.model()
    guard_bounds(model)
    request = compiled(core, model)
    plain, guarded = run(compiled(core, case.model()), [*case.ordinary]), run(request, [*case.ordinary])
    if plain.shape != guarded.shape or plain.tobytes() != guarded.tobytes():
        yield "ordinary data", f"gives {guarded.ravel()[:8]} and not {plain.ravel()[:8]}"
    for what, data in hostile(case):
        for _ in range(2):  # what has failed once is not always checked again
            try:
                strange = foreign(case, run(request, data))
            except RuntimeError:
                continue
            if strange.size:
                yield what, f"gives {strange.ravel()[:8]}"
        try:
            run(request, [*case.ordinary])
        except RuntimeError:
            request = compiled(core, model)  # not what is tested here


def main() -> None:
    core = ov.Core()
    for name, case in CASES.items():
        say(begins=name)
        for what, problem in wrong(core, case):
            say(case=name, what=what, problem=problem)
    say(ends=True)


if __name__ == "__main__":
    main()
