"""No client: one recurrent chain of Silero's model in this process, which is the limit of the runtime."""

from __future__ import annotations

import time

import numpy as np
import openvino as ov

from tests.bench.clients.job import Job, job

WARM_UP = 64


def main(job: Job) -> None:
    model = ov.Core().compile_model(job.target, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    chunk, state = np.zeros((1, 576), np.float32), np.zeros((2, 1, 128), np.float32)
    for _ in range(WARM_UP):
        state = model({"input": chunk, "state": state})["stateN"]
    end, steps = job.begin(), 0
    while time.perf_counter() < end:
        state = model({"input": chunk, "state": state})["stateN"]
        steps += 1
    job.report(steps)


if __name__ == "__main__":
    main(job())
