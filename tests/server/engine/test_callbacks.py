"""Threads of the runtime that call back keep the state that Python has for them."""

from __future__ import annotations

import ctypes
import threading
from pathlib import Path

import numpy as np
import openvino as ov

from headrace.server.engine.callbacks import call_back
from tests import models

RELOADS = 15
_api = ctypes.PyDLL(None)
for _name in ("PyInterpreterState_Main", "PyInterpreterState_ThreadHead", "PyThreadState_Next"):
    getattr(_api, _name).restype = ctypes.c_void_p
    getattr(_api, _name).argtypes = [] if _name.endswith("Main") else [ctypes.c_void_p]


def thread_states() -> int:
    """The threads that Python has a state for."""
    count, state = 0, _api.PyInterpreterState_ThreadHead(_api.PyInterpreterState_Main())
    while state:
        count, state = count + 1, _api.PyThreadState_Next(state)
    return count


class Requests:
    """Requests of a model, whose callbacks note what they find in a variable of their thread."""

    def __init__(self, path: Path) -> None:
        self._core = ov.Core()
        self._path = path
        self._of_thread = threading.local()
        self.found: list[int] = []

    def run(self, times: int) -> None:
        """Load the model, run it, and drop it."""
        compiled = self._core.compile_model(self._path, "CPU", {"PERFORMANCE_HINT": "THROUGHPUT"})
        request = compiled.create_infer_request()
        request.set_input_tensor(ov.Tensor(np.zeros(4, np.float32)))
        released = call_back(request, self._completed)
        for _ in range(times):
            request.start_async()
            request.wait()
        del request, compiled
        assert released.wait(60)

    def _completed(self) -> None:
        count = getattr(self._of_thread, "count", 0) + 1
        self._of_thread.count = count
        self.found.append(count)


def test_a_thread_of_the_runtime_keeps_its_state_between_callbacks(tmp_path: Path) -> None:
    requests = Requests(models.scale(tmp_path))
    requests.run(5)
    assert requests.found == [1, 2, 3, 4, 5]


def test_loading_a_model_again_and_again_leaves_no_states_behind(tmp_path: Path) -> None:
    """The runtime uses the threads of models that are gone for those that come."""
    requests = Requests(models.scale(tmp_path))
    requests.run(1)
    before = thread_states()
    for _ in range(RELOADS):
        requests.run(1)
    assert len(requests.found) == RELOADS + 1
    assert thread_states() <= before + 2
