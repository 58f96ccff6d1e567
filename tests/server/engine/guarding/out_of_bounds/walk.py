"""Runs guarded models on hostile data: `python -m tests.server.engine.guarding.out_of_bounds.walk`."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import openvino as ov

from headrace.server.engine.guarding.out_of_bounds.guards import guard_bounds
from tests.server.engine.guarding.out_of_bounds.cases import CASES, Array, Case
from tests.server.engine.walks import compile_request, run_prefilled, walk


def hostile(case: Case) -> Iterator[tuple[str, list[Array]]]:
    """Each value in all elements of an input, and in its last element only."""
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
    """The elements of a result that cannot come from the data."""
    if case.within is not None:
        return found[~((found >= case.within[0]) & (found <= case.within[1]))]
    allowed = np.isin(found, case.among)
    if any(each != each for each in case.among):
        allowed |= found != found
    return found[~allowed]


def wrong(core: ov.Core, case: Case) -> Iterator[tuple[str, str]]:
    model = case.model()
    guard_bounds(model)
    request = compile_request(core, model)
    plain, guarded = (
        run_prefilled(compile_request(core, case.model()), [*case.ordinary]),
        run_prefilled(request, [*case.ordinary]),
    )
    if plain.shape != guarded.shape or plain.tobytes() != guarded.tobytes():
        yield "ordinary data", f"gives {guarded.ravel()[:8]} and not {plain.ravel()[:8]}"
    for what, data in hostile(case):
        for _ in range(2):  # what has failed once is not always checked again
            try:
                strange = foreign(case, run_prefilled(request, data))
            except RuntimeError:
                continue
            if strange.size:
                yield what, f"gives {strange.ravel()[:8]}"
        try:
            run_prefilled(request, [*case.ordinary])
        except RuntimeError:
            request = compile_request(core, model)  # not what is tested here


def main() -> None:
    core = ov.Core()
    walk(
        (name, {}, ({"what": what, "problem": problem} for what, problem in wrong(core, case)))
        for name, case in CASES.items()
    )


if __name__ == "__main__":
    main()
