"""Requests of one number, for models that the tests of streams serve."""

from __future__ import annotations

import numpy as np

from tests.triton.messages import Input, request

ONE = np.ones(1, np.float32)
SLOW = request("slow", Input("x", [1], ONE.tobytes()), id="slow")
GOOD = request("scale", Input("x", [1], ONE.tobytes()), id="good")
UNKNOWN = request("nowhere", Input("x", [1], ONE.tobytes()), id="unknown")
