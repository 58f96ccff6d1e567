"""Runs models whose inputs do not match: `python -m tests.server.engine.guarding.mismatched_sizes.walk`."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import openvino as ov

from headrace.server.engine.guarding.mismatched_sizes.guards import guard_sizes
from headrace.server.engine.guarding.out_of_bounds.guards import guard_bounds
from tests.server.engine.guarding.mismatched_sizes.checked import REFUSED
from tests.server.engine.guarding.mismatched_sizes.fitted import FITTED, Fitting
from tests.server.engine.walks import compile_request, run_prefilled, walk

TIMES = 3


def unchanged(core: ov.Core, case: Fitting, request: ov.InferRequest) -> Iterator[tuple[str, str]]:
    plain = compile_request(core, case.model())
    left, right = run_prefilled(plain, case.ordinary()), run_prefilled(request, case.ordinary())
    if left.shape != right.shape or left.tobytes() != right.tobytes():
        yield "shapes that fit", f"give {right.ravel()[:8]} and not {left.ravel()[:8]}"


def fitted(core: ov.Core, case: Fitting) -> Iterator[tuple[str, str]]:
    """Results contain only what the data contain, and results before and after are unaffected."""
    model = case.model()
    guard_bounds(model)
    guard_sizes(model)
    request = compile_request(core, model)
    yield from unchanged(core, case, request)
    least, most = case.within
    for shapes in case.odd:
        for _ in range(TIMES):  # at first after a good run, and then after another such
            request.reset_state()
            try:
                found = run_prefilled(request, case.mismatched(shapes))
            except RuntimeError:
                request = compile_request(core, model)
                continue
            strange = found[~((found >= least - 1e-3) & (found <= most + 1e-3))]
            if strange.size:
                yield str(shapes), f"gives {strange.ravel()[:8]}"
        request.reset_state()
        run_prefilled(request, case.ordinary())


def refused(core: ov.Core, case: Fitting) -> Iterator[tuple[str, str]]:
    model = case.model()
    guard_bounds(model)
    guard_sizes(model)
    run_prefilled(compile_request(core, model), case.ordinary())
    for shapes in case.odd:
        request = compile_request(core, model)
        try:
            found = run_prefilled(request, case.mismatched(shapes))
        except RuntimeError:
            continue
        yield str(shapes), f"gives {np.array(found).ravel()[:8]}"


def main() -> None:
    core = ov.Core()
    walk(
        (name, {}, ({"what": what, "problem": problem} for what, problem in find(core, case)))
        for find, cases in ((fitted, FITTED), (refused, REFUSED))
        for name, case in cases.items()
    )


if __name__ == "__main__":
    main()
