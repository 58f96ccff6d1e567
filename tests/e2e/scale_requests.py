"""Requests of the Open Inference Protocol for the model `scale`, each with another number, and what they answer."""

from __future__ import annotations

import numpy as np

from headrace.oip import open_inference_pb2 as oip


def request(number: int) -> oip.ModelInferRequest:
    """An inference of the model `scale` by the Open Inference Protocol."""
    tensor = oip.ModelInferRequest.InferInputTensor(name="x", datatype="FP32", shape=[1])
    data = np.array([number], np.float32).tobytes()
    return oip.ModelInferRequest(model_name="scale", inputs=[tensor], raw_input_contents=[data])


def answer(number: int) -> bytes:
    """Its output as bytes."""
    return np.array([2 * number + 1], np.float32).tobytes()
