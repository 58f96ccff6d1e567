"""A recurrent state that never leaves the server: each chunk's `stateN` is the `state` of the next.

The model is Silero's voice activity detection. Start a server for it and run this:

    pip install --no-deps silero-vad
    headrace-server speech=$(python -c "import importlib.util as u; print(
        u.find_spec('silero_vad').submodule_search_locations[0])")/data/silero_vad_openvino_16k.onnx
    python client/examples/recurrent.py [TARGET]

`speech.py` does the same, and draws the result.
"""

from __future__ import annotations

import asyncio
import sys
import wave
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import numpy.typing as npt

import headrace.client as hc

RECORDING = Path(__file__).with_name("speech.wav")
RATE, CHUNK, CONTEXT = 16_000, 512, 64


async def main(target: str) -> None:
    tickets: list[hc.Ticket] = []
    async with hc.connect(target) as server, server.stream() as stream:
        state: hc.Zeros | hc.Reference = hc.zeros((2, 1, 128), np.float32)
        for chunk in chunks():
            # No result is awaited here. The server runs the chunks one after the other.
            inputs = {"input": chunk, "state": state}
            ticket = await stream.submit("speech", inputs, outputs=["output"], keep=["stateN"])
            state = ticket.take("stateN")  # consumed by the next run, and freed after it
            tickets.append(ticket)
        probabilities = [float((await ticket)["output"][0, 0]) for ticket in tickets]
    for second, part in enumerate(np.array_split(probabilities, len(probabilities) * CHUNK // RATE)):
        mean = float(np.mean(part))
        print(f"{second:3} s  {'#' * round(mean * 40):40}  {mean:.2f}")
    print(f"{len(tickets)} chunks, whose states of 1 KiB each stayed on the server")


def chunks() -> Iterator[npt.NDArray[np.float32]]:
    """Chunks of f32[1,576]: the last 64 samples of the previous chunk, then 512 new ones."""
    with wave.open(str(RECORDING)) as file:
        sound = np.frombuffer(file.readframes(file.getnframes()), "<i2").astype(np.float32) / np.float32(32768)
    sound = np.pad(sound, (CONTEXT, -len(sound) % CHUNK))
    for start in range(0, len(sound) - CONTEXT, CHUNK):
        yield sound[None, start : start + CONTEXT + CHUNK]


if __name__ == "__main__":
    try:
        asyncio.run(main(sys.argv[1] if len(sys.argv) > 1 else "127.0.0.1:8001"))
    except hc.HeadraceError as error:
        sys.exit(f"{error.code.name}: {error.message}")
