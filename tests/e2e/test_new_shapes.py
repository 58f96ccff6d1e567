"""Requests of ever new shapes: what the runtime keeps for each shape is bounded."""

from __future__ import annotations

import os
from itertools import islice

import numpy as np
import openvino as ov

import headrace.client as hc
from tests.e2e.serving import Serve
from tests.packaged_models import ANGLES, packaged

REQUESTS = int(os.environ.get("HEADRACE_SHAPES", "1000"))
WARM = 300
MAX_GROWTH = 64 << 20
"""Without a bound each shape takes about 0.3 MB."""


async def test_ever_new_widths_take_no_more_memory(serve: Serve) -> None:
    path = packaged(*ANGLES)
    served = serve(f"angles={path}", "--slots=1", "--property=INFERENCE_PRECISION_HINT=f32")
    alone = ov.Core().compile_model(path, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    random = np.random.default_rng(7)
    async with hc.connect(served.address) as server, server.stream() as stream:
        model = next(each for each in await server.models() if each.name == "angles")
        (name,), (output,) = ([port.name for port in ports] for ports in (model.inputs, model.outputs))
        shapes = ((1, 3, height, width) for height in range(40, 80) for width in range(16, 272))
        grown = 0
        for number, shape in enumerate(islice(shapes, REQUESTS)):
            data = random.random(shape, np.float32)
            answer = (await (await stream.submit("angles", {name: data})))[output]
            if number % 100 == 0:
                np.testing.assert_allclose(answer, alone(data)[0], atol=1e-5)
            if number == WARM:
                grown = -served.resident_bytes()
        grown += served.resident_bytes()
    assert grown < MAX_GROWTH, f"{grown >> 20} MB for {REQUESTS - WARM} shapes"
