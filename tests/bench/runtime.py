"""The limit of the runtime: `benchmark_app` of the installed OpenVINO, and a plain loop in this process."""

from __future__ import annotations

import re
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import openvino as ov

F32 = {"INFERENCE_PRECISION_HINT": "f32"}


class BenchmarkApp:
    """Inferences per second with `-hint throughput`, at the best `-nireq` of default, 4 and 16, determined at first."""

    def __init__(self, model: Path, shape: str = "", seconds: int = 3) -> None:
        self._command = [str(Path(sys.executable).with_name("benchmark_app")), "-m", str(model), "-d", "CPU"]
        self._command += ["-hint", "throughput", "-infer_precision", "f32", "-t", str(seconds)]
        self._command += ["-shape", shape] if shape else []
        rates = {nireq: self._run(nireq) for nireq in ("", "4", "16")}
        self._nireq = max(rates, key=lambda nireq: rates[nireq])
        self.choice = f"benchmark_app -nireq {self._nireq or 'default'}"

    def rate(self) -> float:
        return self._run(self._nireq)

    def _run(self, nireq: str) -> float:
        command = self._command + (["-nireq", nireq] if nireq else [])
        ended = subprocess.run(command, capture_output=True, text=True, check=True)
        match = re.search(r"Throughput:\s+([\d.]+)", ended.stdout)
        assert match, ended.stdout
        return float(match[1])


class ChainLoop:
    """Steps per second of one recurrent chain of Silero's model, calling the compiled model in this process."""

    def __init__(self, model: Path) -> None:
        self._model = ov.Core().compile_model(model, "CPU", F32)

    def rate(self, steps: int) -> float:
        chunk, state = np.zeros((1, 576), np.float32), np.zeros((2, 1, 128), np.float32)
        began = time.perf_counter()
        for _ in range(steps):
            state = self._model({"input": chunk, "state": state})["stateN"]
        return steps / (time.perf_counter() - began)
