"""The demo: the same probabilities as plain OpenVINO, and a recording divided into speech and silence."""

from __future__ import annotations

import asyncio
import importlib.util
import re
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import numpy.typing as npt
import openvino as ov
import pytest

import headrace.client as hc
from tests.e2e.recording import SPEECH

SCRIPT = Path(__file__).parents[2] / "client" / "examples" / "speech.py"


@pytest.fixture(scope="module")
def speech() -> ModuleType:
    spec = importlib.util.spec_from_file_location("speech_example", SCRIPT)
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def in_process(speech: ModuleType, samples: npt.NDArray[np.float32]) -> list[float]:
    model = ov.Core().compile_model(speech.silero(), "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    state = np.zeros(speech.STATE_SHAPE, np.float32)
    probabilities = []
    for chunk in speech.chunks(samples):
        result = model({"input": chunk, "state": state})
        probabilities.append(float(result["output"][0, 0]))
        state = result["stateN"]
    return probabilities


def test_the_probabilities_equal_those_of_openvino_alone(speech: ModuleType) -> None:
    samples = speech.read(SCRIPT.with_name("speech.wav"))

    async def detect(address: str) -> tuple[list[float], int]:
        async with hc.connect(address) as server:
            found: tuple[list[float], int] = await speech.detect(server, samples)
            return found

    with speech.server(f"speech={speech.silero()}") as address:
        streamed, state_bytes = asyncio.run(detect(address))
    np.testing.assert_allclose(streamed, in_process(speech, samples), atol=1e-5)
    assert state_bytes == len(streamed) * 1024
    times = (np.arange(len(streamed)) + 0.5) * 512 / 16000
    spoken = np.zeros(len(streamed), bool)
    for start, stop in SPEECH:
        spoken |= (times > start) & (times < stop)
    assert np.mean(np.array(streamed)[spoken]) > 0.8
    assert np.mean(np.array(streamed)[~spoken]) < 0.1


def test_the_demo_says_what_it_found() -> None:
    ended = subprocess.run([sys.executable, str(SCRIPT)], capture_output=True, text=True, timeout=240, check=False)
    assert ended.returncode == 0, ended.stderr
    found = re.findall(r"([\d.]+) s - +([\d.]+) s  speech ", ended.stdout)
    assert len(found) == len(SPEECH)
    for (start, stop), spoken in zip(found, SPEECH, strict=True):
        assert (float(start), float(stop)) == pytest.approx(spoken, abs=0.1)
    assert "282 chunks" in ended.stdout
    assert "288,768 bytes of state stayed on the server; 0 crossed the wire" in ended.stdout
