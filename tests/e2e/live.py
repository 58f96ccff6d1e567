"""A server of models that add their version, and its clients of both protocols."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np

from headrace.client import blocking
from headrace.oip import open_inference_pb2 as oip
from tests import models
from tests.e2e.operating import Operator
from tests.e2e.serving import Served
from tests.waiting import until

X = np.array([1, 10], np.float32)


def version(repository: Path, name: str, number: int, plus: float | None = None) -> Path:
    """A folder with the version: x + its number, unless something else is to be added."""
    folder = repository / name / str(number)
    folder.mkdir(parents=True)
    models.plus(folder, number if plus is None else plus)
    return folder


class Live:
    """A server and its clients of both protocols."""

    def __init__(self, served: Served) -> None:
        self.served, self.operator = served, Operator(served.address)
        self.client = blocking.connect(served.address)

    def ask(self, name: str, version: str = "") -> tuple[str, float]:
        """The version that answers, and what it adds: the same by both protocols."""
        number, plus = self.ask_oip(name, version)
        native = self.ask_native(name, version)
        if native != plus:  # a new version may have taken over in between
            number, plus = self.ask_oip(name, version)
            assert native == plus
        return number, plus

    def ask_oip(self, name: str, version: str = "") -> tuple[str, float]:
        tensor = oip.ModelInferRequest.InferInputTensor(name="x", datatype="FP32", shape=X.shape)
        request = oip.ModelInferRequest(
            model_name=name, model_version=version, inputs=[tensor], raw_input_contents=[X.tobytes()]
        )
        response = self.operator.stub.ModelInfer(request, timeout=30)
        (plus,) = {*(np.frombuffer(response.raw_output_contents[0], np.float32) - X).tolist()}
        return response.model_version, plus

    def ask_native(self, name: str, version: str = "") -> float:
        (plus,) = {*(self.client.infer(name, {"x": X}, version=version or None)["y"] - X).tolist()}
        assert isinstance(plus, float)
        return plus

    def index(self) -> dict[str, str]:
        """The state of each version, with its reason if it has one."""
        return {
            f"{name}/{version}": ": ".join(filter(None, (state, reason)))
            for name, version, state, reason in self.operator.index()
        }

    def until(self, condition: Callable[[], bool]) -> None:
        until(condition, lambda: f"{self.index()}\n{self.served.log}")

    def close(self) -> None:
        self.client.close()
        self.operator.channel.close()
