"""Walks: processes that run many models on hostile data, and print what they try and what is wrong.

A walk is a process of its own, because a mistake may end it. It prints a line of JSON before each model, so that the
last one names the model that ended the process, and a line for each problem.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import openvino as ov

Array = npt.NDArray[Any]
Run = Callable[[list[Array]], list[Array]]
"""From the inputs of a model to its outputs. Raises what the runtime raises."""

ONE_THREAD = {
    "PERFORMANCE_HINT": "LATENCY",
    "NUM_STREAMS": 1,
    "INFERENCE_NUM_THREADS": 1,
    "INFERENCE_PRECISION_HINT": "f32",
}
TWO_THREADS = ONE_THREAD | {"INFERENCE_NUM_THREADS": 2}
PREFILLED = 123
"""In static outputs before each run of `run_prefilled`: an element that is not written shows it."""


# In the process of the walk.


def say(**what: object) -> None:
    print(json.dumps(what), flush=True)


def walk(models: Iterable[tuple[str, Mapping[str, object], Iterable[Mapping[str, object]]]]) -> None:
    """Go through models: a name, what else there is to say about it, and its problems, found as they are asked for."""
    for name, details, problems in models:
        say(begins=name, **details)
        for problem in problems:
            say(of=name, **details, **problem)
    say(ends=True)


def compile_request(
    core: ov.Core, model: ov.Model, configuration: Mapping[str, object] = TWO_THREADS
) -> ov.InferRequest:
    return core.compile_model(model, "CPU", dict(configuration)).create_infer_request()


def direct(core: ov.Core, model: ov.Model) -> Run:
    """Runs as direct runs of the server are: synchronous, on one thread."""
    request = compile_request(core, model, ONE_THREAD)

    def run(inputs: list[Array]) -> list[Array]:
        request.infer(inputs)
        return [np.array(tensor.data) for tensor in request.output_tensors]

    return run


def asynchronous(core: ov.Core, model: ov.Model) -> Run:
    """Runs on two threads, which report failures."""
    request = compile_request(core, model)

    def run(inputs: list[Array]) -> list[Array]:
        request.start_async(inputs)
        request.wait()
        return [np.array(tensor.data) for tensor in request.output_tensors]

    return run


def run_prefilled(request: ov.InferRequest, inputs: list[Array]) -> Array:
    """The first output of an asynchronous run."""
    output = request.model_outputs[0]
    if output.get_partial_shape().is_static:
        tensor = ov.Tensor(output.get_element_type(), output.get_shape())
        tensor.data[...] = PREFILLED
        request.set_output_tensor(0, tensor)
    request.start_async(inputs)
    request.wait()
    return np.array(request.get_output_tensor(0).data)


# In the test.


def take_walk(module: str, *arguments: str) -> list[str]:
    """Run a walk to its end. Returns the names of its models. AssertionError for problems, or if the process fails."""
    command = [sys.executable, "-m", module, *arguments]
    ended = subprocess.run(command, capture_output=True, text=True, check=False)
    lines = [json.loads(line) for line in ended.stdout.splitlines()]
    begun = [line["begins"] for line in lines if "begins" in line]
    assert ended.returncode == 0, f"ended by {ended.returncode} after {lines[-1:]}: {ended.stderr}"
    assert [line for line in lines if "of" in line] == []
    assert lines[-1] == {"ends": True}
    return begun
