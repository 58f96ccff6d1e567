"""Measures every case, prints a table, and writes build/bench.json."""

from __future__ import annotations

import asyncio
import json
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from importlib.util import find_spec
from pathlib import Path
from statistics import median

import numpy as np
from rich.console import Console
from rich.table import Table

from headrace.oip import open_inference_pb2 as pb
from tests import models
from tests.bench import work
from tests.bench.echo import calls_per_second, echo_server, messages_per_second
from tests.bench.runtime import BenchmarkApp, ChainLoop
from tests.e2e.serving import Served

ROUNDS = 3
SHORT_ROUNDS = 11
"""For comparisons with an echo: depending on where the scheduler puts the threads of a connection, a message takes 70
or 130 us for as long as the connection lasts."""
ECHO_MESSAGE = bytes(2 * 64 + 32)
"""As large as an add/multiply request: two tensors and their names."""
F32 = "--property=INFERENCE_PRECISION_HINT=f32"


@dataclass
class Case:
    """A comparison. `must` and `aim` are the ratios required and hoped for: lower bounds, or upper bounds if `less`."""

    case: str
    ours: float
    reference: float
    ratio: float
    must: float | None
    aim: float | None
    met: bool
    note: str = ""


def case(
    name: str,
    must: float | None,
    aim: float | None,
    rounds: list[tuple[float, float]],
    *,
    less: bool = False,
    note: str = "",
) -> Case:
    """A case from interleaved rounds of (ours, reference), of which the medians count."""
    ours, reference = (median(figures) for figures in zip(*rounds, strict=True))
    ratio = ours / reference
    met = must is None or (ratio <= must if less else ratio >= must)
    return Case(name, ours, reference, ratio, must, aim, met, note)


def interleaved(
    ours: Callable[[], float], reference: Callable[[], float], rounds: int = ROUNDS
) -> list[tuple[float, float]]:
    return [(ours(), reference()) for _ in range(rounds)]


def small_models(target: str, echo: str, folder: Path) -> Iterator[Case]:
    """Many tiny inferences, which frames are for."""

    def rate(workers: int, count: int) -> Callable[[], float]:
        return lambda: asyncio.run(work.coroutines(target, workers, count))[0]

    def echoed() -> float:
        return asyncio.run(messages_per_second(echo, ECHO_MESSAGE, 5000))[0]

    yield case("add/multiply, 256 coroutines / echo", 6, 10, interleaved(rate(256, 25_000), echoed, SHORT_ROUNDS))
    yield case("add/multiply, 32 coroutines / echo", 2, 3.5, interleaved(rate(32, 10_000), echoed, SHORT_ROUNDS))
    latency = interleaved(
        lambda: asyncio.run(work.coroutines(target, 1, 3000))[1],
        lambda: asyncio.run(messages_per_second(echo, ECHO_MESSAGE, 3000, window=1))[1],
    )
    yield case("add/multiply, window 1: p50 / echo's p50", 2, 1.5, latency, less=True)
    app = BenchmarkApp(folder / "add_multiply.xml", "x[1,16],y[1,16]")
    yield case("add/multiply, 256 coroutines", None, None, interleaved(rate(256, 50_000), app.rate), note=app.choice)


def open_inference(target: str, echo: str) -> Iterator[Case]:
    """The other protocol, with one inference per message."""
    request = add_multiply_request()
    stream, unary = (f"/inference.GRPCInferenceService/{name}" for name in ("ModelStreamInfer", "ModelInfer"))
    rounds = interleaved(
        lambda: asyncio.run(messages_per_second(target, request, 5000, method=stream))[0],
        lambda: asyncio.run(messages_per_second(echo, request, 5000))[0],
        SHORT_ROUNDS,
    )
    yield case("add/multiply, ModelStreamInfer, 32 in flight / echo", 0.8, None, rounds)
    rounds = interleaved(
        lambda: asyncio.run(calls_per_second(target, request, 5000, unary)),
        lambda: asyncio.run(calls_per_second(echo, request, 5000)),
        SHORT_ROUNDS,
    )
    yield case("add/multiply, ModelInfer, 32 at once / unary echo", 0.8, None, rounds)


def add_multiply_request() -> bytes:
    """A ModelInferRequest for the output `sum`."""
    tensor = pb.ModelInferRequest.InferInputTensor
    return pb.ModelInferRequest(
        model_name="am",
        inputs=[tensor(name=name, datatype="FP32", shape=[1, 16]) for name in ("x", "y")],
        outputs=[pb.ModelInferRequest.InferRequestedOutputTensor(name="sum")],
        raw_input_contents=[work.ROW.tobytes()] * 2,
    ).SerializeToString()


def large_models(target: str, folder: Path, resnet: Path) -> Iterator[Case]:
    """Models for which the runtime is the limit."""
    image = {"gpu_0/data_0": np.random.default_rng(1).random((1, 3, 224, 224), np.float32)}
    app = BenchmarkApp(resnet, seconds=5)
    rounds = interleaved(
        lambda: asyncio.run(work.pipelined(target, "resnet", image, "gpu_0/softmax_1", 150, 8)), app.rate
    )
    yield case("ResNet-50, one stream", 0.85, 0.90, rounds, note=app.choice)
    app = BenchmarkApp(folder / "wide.xml")
    row = {"x": work.ROW}
    rounds = interleaved(lambda: asyncio.run(work.pipelined(target, "wide", row, "small", 5000, 32)), app.rate)
    yield case("wide model, small output asked", 0.7, 0.9, rounds, note=app.choice)


def chained(target: str, silero: Path) -> Iterator[Case]:
    loop = ChainLoop(silero)
    one = interleaved(lambda: asyncio.run(work.chains(target, 1, 8000, 32))[0], lambda: loop.rate(8000))
    yield case("Silero chain, 32 ahead / in-process loop", 0.75, 0.9, one)
    fairness: list[float] = []

    def many() -> float:
        rate, slowest = asyncio.run(work.chains(target, 64, 250, 8))
        fairness.append(slowest)
        return rate

    rounds = interleaved(many, lambda: asyncio.run(work.chains(target, 1, 8000, 32))[0])
    yield case("64 Silero chains / one chain", 0.9, 1.1, rounds)
    yield case("64 Silero chains: fastest end / slowest end", 0.67, None, [(each, 1.0) for each in fairness])
    rounds = interleaved(
        lambda: asyncio.run(work.two_models(target, 200, by_ticket=True)),
        lambda: asyncio.run(work.two_models(target, 60, by_ticket=False)),
    )
    yield case("two models through 4 MB: by ticket / round trips", 3, 5, rounds)
    rounds = interleaved(
        lambda: asyncio.run(work.large_ends(target, 60, by_ticket=True)),
        lambda: asyncio.run(work.large_ends(target, 30, by_ticket=False)),
    )
    yield case("two models through 4 MB, with 4 MB in and out", None, None, rounds)


def memory(served: Served) -> Iterator[Case]:
    target, number = served.address, 1000
    rounds = [(asyncio.run(work.idle_streams(target, number, served.resident_bytes)), 1024.0) for _ in range(ROUNDS)]
    # Later rounds reuse the memory of the first, so only the first shows what a stream costs.
    yield case("an idle stream, KiB", 64, 32, rounds[:1], less=True)
    asyncio.run(work.coroutines(target, 256, 100_000))
    before = served.resident_bytes()
    asyncio.run(work.coroutines(target, 256, 900_000))
    grown = served.resident_bytes() / before
    yield case("memory after 1 M inferences / after 100 k", 1.02, 1.005, [(grown, 1.0)], less=True)


def package_file(package: str, *parts: str) -> Path:
    spec = find_spec(package)
    assert spec
    assert spec.submodule_search_locations
    return Path(spec.submodule_search_locations[0], *parts)


def measured() -> Iterator[Case]:
    resnet = package_file("onnx", "backend", "test", "data", "light", "light_resnet50.onnx")
    silero = package_file("silero_vad", "data", "silero_vad_openvino_16k.onnx")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        served = [f"am={models.add_multiply(folder)}", f"wide={models.wide(folder)}", f"resnet={resnet}"]
        served += [f"silero={silero}", f"large={models.large_scale(folder)}", f"narrow={models.narrow(folder)}", F32]
        with Served(served, folder / "log") as server, echo_server() as echo:
            yield from small_models(server.address, echo, folder)
            yield from open_inference(server.address, echo)
            yield from large_models(server.address, folder, resnet)
            yield from chained(server.address, silero)
        with Served([served[0], F32], folder / "log") as server:
            yield from memory(server)


def main() -> None:
    console = Console()
    console.width = max(console.width, 130)  # one line per case, in a log too
    table = Table(
        "case", "ours", "reference", "ratio", "must", "aim", "met", "", title="Headrace compared with its limits"
    )
    cases: list[Case] = []
    with console.status("measuring") as status:
        for each in measured():
            cases.append(each)
            bounds = ["" if bound is None else f"{bound:g}" for bound in (each.must, each.aim)]
            figures = [f"{figure:.4g}" for figure in (each.ours, each.reference, each.ratio)]
            table.add_row(each.case, *figures, *bounds, "yes" if each.met else "NO", each.note)
            status.update(f"measured: {each.case}: {each.ratio:.3g}")
    console.print(table)
    file = Path("build", "bench.json")
    file.parent.mkdir(exist_ok=True)
    file.write_text(json.dumps({"cases": [asdict(each) for each in cases]}, indent=1) + "\n")
    console.print(f"written to {file}")


if __name__ == "__main__":
    main()
