"""Find the speech in a recording: a recurrent model, chunk by chunk, through one stream.

Silero's voice activity model takes 32 ms of sound and its own state, and gives the probability of speech and the next
state. Each chunk is submitted before the one before it has run: its `state` is the `stateN` of that ticket, which never
leaves the server. Only the probability comes back.

    python client/examples/speech.py [RECORDING.wav]      16 kHz, mono, 16 bits
"""

from __future__ import annotations

import asyncio
import subprocess
import sys
import time
import wave
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import numpy.typing as npt

import headrace.client as hc

RATE, CHUNK, CONTEXT = 16_000, 512, 64
STATE_SHAPE = (2, 1, 128)
Samples = npt.NDArray[np.float32]


async def main(recording: Path) -> None:
    samples = read(recording)
    with server(f"speech={silero()}") as address:
        async with hc.connect(address) as connection:
            began = time.perf_counter()
            probabilities, state_bytes = await detect(connection, samples)
            took = time.perf_counter() - began
    show(probabilities)
    faster = seconds(len(probabilities)) / took
    print(f"\n{len(probabilities)} chunks of 32 ms in {took:.3f} s: {faster:.0f} times faster than real time")
    print(f"{state_bytes:,} bytes of state stayed on the server; 0 crossed the wire")


async def detect(connection: hc.Server, samples: Samples) -> tuple[list[float], int]:
    """The probability of speech in each chunk, and the bytes of state that stayed on the server."""
    tickets: list[hc.Ticket] = []
    async with connection.stream() as stream:
        for chunk in chunks(samples):
            state = tickets[-1].take("stateN") if tickets else hc.zeros(STATE_SHAPE, np.float32)
            ticket = await stream.submit(
                "speech", {"input": chunk, "state": state}, outputs=["output"], keep=["stateN"]
            )
            tickets.append(ticket)
        probabilities = [float((await ticket)["output"][0, 0]) for ticket in tickets]
    return probabilities, len(tickets) * int(np.prod(STATE_SHAPE)) * 4


def chunks(samples: Samples) -> Iterator[Samples]:
    """Chunks of f32[1,576]: 64 samples of context (zeros at the start), then 512 new ones, padded at the end."""
    samples = np.pad(samples, (CONTEXT, -len(samples) % CHUNK))
    for start in range(0, len(samples) - CONTEXT, CHUNK):
        yield samples[None, start : start + CONTEXT + CHUNK]


def read(recording: Path) -> Samples:
    """f32[samples], from -1 to 1."""
    with wave.open(str(recording)) as file:
        if (file.getframerate(), file.getnchannels(), file.getsampwidth()) != (RATE, 1, 2):
            sys.exit(f"{recording} is not 16 kHz, mono, 16 bits")
        return np.frombuffer(file.readframes(file.getnframes()), "<i2").astype(np.float32) / np.float32(32768)


def show(probabilities: list[float]) -> None:
    """Draw the whole recording, and list each stretch of speech and silence."""
    blocks, width = " ▁▂▃▄▅▆▇█", 72
    means = [float(np.mean(part)) for part in np.array_split(probabilities, width)]
    end = len(probabilities) * CHUNK / RATE
    print("\nprobability of speech")
    print("".join(blocks[round(mean * 8)] for mean in means))
    print(f"0 s{f'{end:.1f} s':>{width - 3}}\n")
    for speech, first, last in stretches(probabilities):
        mean = float(np.mean(probabilities[first:last]))
        what = "speech " if speech else "silence"
        print(f"{seconds(first):6.2f} s - {seconds(last):5.2f} s  {what}  {mean:.3f} on average")


def stretches(probabilities: list[float], threshold: float = 0.5, shortest: int = 4) -> list[tuple[bool, int, int]]:
    """(is speech, first chunk, chunk after the last). A stretch under 128 ms is part of the one that it interrupts."""
    found: list[tuple[bool, int, int]] = []
    for i, probability in enumerate(probabilities):
        speech = probability >= threshold
        if found and found[-1][0] is not speech and found[-1][2] - found[-1][1] < shortest and len(found) > 1:
            found.pop()
        first = found.pop()[1] if found and found[-1][0] is speech else i
        found.append((speech, first, i + 1))
    return found


def seconds(chunk: int) -> float:
    return chunk * CHUNK / RATE


def silero() -> Path:
    """The model file in the package silero-vad, which is not imported because that requires PyTorch."""
    package = find_spec("silero_vad")
    if package is None or not package.submodule_search_locations:
        sys.exit("the model is missing: pip install --no-deps silero-vad")
    return Path(package.submodule_search_locations[0]) / "data" / "silero_vad_openvino_16k.onnx"


@contextmanager
def server(model: str) -> Iterator[str]:
    """Start a server in a process of its own, and yield its address."""
    command = [sys.executable, "-m", "headrace.server", model, "--port=0", "--log-level=warning"]
    command += ["--property=INFERENCE_PRECISION_HINT=f32"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        ready = process.stdout.readline().strip()
        print(ready)
        try:
            if not ready:
                sys.exit(f"the server did not start: exit code {process.wait()}")
            yield ready.split()[3]
        finally:
            process.terminate()


if __name__ == "__main__":
    default = Path(__file__).with_name("speech.wav")
    asyncio.run(main(Path(sys.argv[1]) if len(sys.argv) > 1 else default))
