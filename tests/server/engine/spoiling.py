"""How a run that does not complete spoils later ones in plain OpenVINO: `python -m tests.server.engine.spoiling
[NAME]`.

The models are dynamic and have one stream. Each case is a process of its own, because it may end the process.
"""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable

import numpy as np
import openvino as ov
from openvino import opset15 as op

from tests.server.engine.driver import Array

WIDTH = 256
TIMES = 60
CONFIGURATION = {"NUM_STREAMS": "1", "INFERENCE_PRECISION_HINT": "f32"}


def products(steps: int = 20) -> ov.Model:
    """x: f32[?,256] -> y: f32[?,256], by a chain of MatMuls between which the runtime notices a cancel."""
    random = np.random.default_rng(0)
    x = y = op.parameter([-1, WIDTH], ov.Type.f32)
    for _ in range(steps):
        weights = random.standard_normal((WIDTH, WIDTH)).astype(np.float32) / np.sqrt(WIDTH, dtype=np.float32)
        y = op.relu(op.matmul(y, op.constant(weights), False, False))
    return ov.Model([y], [x])


def gathered() -> ov.Model:
    """x: f32[?,4], i: i32[?,2] -> y: f32[?,3], by GatherElements, which fails for an index out of range."""
    x, index = op.parameter([-1, 4], ov.Type.f32), op.parameter([-1, 2], ov.Type.i32)
    found = op.gather_elements(op.relu(x), index, 1)
    return ov.Model([op.matmul(found, op.constant(np.ones((2, 3), np.float32)), False, False)], [x, index])


class Request:
    def __init__(self, model: ov.Model) -> None:
        self._request = ov.Core().compile_model(model, "CPU", CONFIGURATION).create_infer_request()

    def run(self, *inputs: Array, cancel: float | None = None) -> Array | None:
        """The result; None when the run was cancelled or failed."""
        for index, data in enumerate(inputs):
            self._request.set_input_tensor(index, ov.Tensor(data))
        self._request.set_output_tensor(0, ov.Tensor(ov.Type.f32, ov.Shape([0, 0])))
        self._request.start_async()
        if cancel is not None:
            time.sleep(cancel)
            self._request.cancel()
        try:
            self._request.wait()
        except RuntimeError:
            return None
        result: Array = self._request.get_output_tensor(0).data.copy()
        return result


def cancelled(*, cleansed: bool = False) -> int:
    """How many of 60 runs are wrong, each of the same rows and after a cancelled run of another number of rows."""
    request = Request(products())
    random = np.random.default_rng(1)
    small, large = (random.standard_normal((rows, WIDTH)).astype(np.float32) for rows in (3, 3000))
    right = request.run(small)
    wrong = 0
    for _ in range(TIMES):
        assert request.run(large, cancel=0.002) is None
        if cleansed:
            request.run(large)
        result = request.run(small)
        wrong += not np.array_equal(result, right) if result is not None and right is not None else 1
    return wrong


def failed(*, cleansed: bool = False) -> int:
    """How many of 60 runs are wrong, each of the same rows and after a failed run of another number of rows."""
    request = Request(gathered())
    small, large = np.ones((2, 4), np.float32), np.ones((50, 4), np.float32)
    there, missing = np.zeros((2, 2), np.int32), np.full((50, 2), 99, np.int32)
    right = request.run(small, there)
    wrong = 0
    for _ in range(TIMES):
        assert request.run(large, missing) is None
        if cleansed:
            request.run(large, np.zeros_like(missing))
        result = request.run(small, there)
        wrong += not np.array_equal(result, right) if result is not None and right is not None else 1
    return wrong


CASES: dict[str, Callable[[], int]] = {
    "cancelled": cancelled,
    "failed": failed,
    "cancelled, then completed": lambda: cancelled(cleansed=True),
    "failed, then completed": lambda: failed(cleansed=True),
}


def main() -> None:
    if len(sys.argv) > 1:
        print(CASES[sys.argv[1]]())
        return
    for name in CASES:
        command = [sys.executable, "-m", "tests.server.engine.spoiling", name]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        outcome = f"{done.stdout.strip()} of {TIMES} wrong" if done.returncode == 0 else f"signal {-done.returncode}"
        print(f"{name:28} {outcome}")


if __name__ == "__main__":
    main()
