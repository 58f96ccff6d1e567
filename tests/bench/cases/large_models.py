"""Models for which the runtime is the limit, and large tensors."""

from __future__ import annotations

import json
from pathlib import Path

from tests import models
from tests.bench.cases.case import Case, Reference, Serving, Setting
from tests.bench.measuring.bounds import Bound
from tests.bench.measuring.turn import Turn
from tests.bench.references.benchmark_app import BenchmarkApp
from tests.bench.serving.server import Server
from tests.packaged_models import RESNET, packaged

IMAGE_INPUT, IMAGE_OUTPUT = "gpu_0/data_0", "gpu_0/softmax_1"
PIXELS = "resnet-pixels"
"""ResNet-50 with an input of 8 bits."""


def _images(folder: Path) -> list[str]:
    file = folder / "pixels.toml"
    path = json.dumps(str(packaged(*RESNET)))
    table = f'[models.{PIXELS}]\npath = {path}\n[models.{PIXELS}.inputs."{IMAGE_INPUT}"]\ndatatype = "UINT8"\n'
    file.write_text(table)
    return [f"resnet={packaged(*RESNET)}", f"--config={file}"]


def _large_tensors(folder: Path) -> list[str]:
    return [
        f"wide={models.wide(folder)}",
        f"narrow={models.narrow(folder)}",
        f"large={models.large_scale(folder)}",
    ]


IMAGES = Serving(_images)
LARGE_TENSORS = Serving(_large_tensors, ("--prune=off",))
PRUNED = Serving(lambda folder: [f"wide={models.wide(folder)}"], ("--prune=auto",), needs="--prune")


def _image(name: str, title: str, model: str, dtype: str, precision: str, bound: Bound) -> Case:
    def turn(setting: Setting, server: Server) -> Turn:
        return server.turn(
            "clients.pipelined",
            3 * setting.seconds,
            model=model,
            input=IMAGE_INPUT,
            output=IMAGE_OUTPUT,
            shape=[1, 3, 224, 224],
            dtype=dtype,
            scale=255 if dtype == "uint8" else 1,
            ahead=8,
        )

    app = BenchmarkApp(lambda _: packaged(*RESNET), "-ip", precision)
    return Case(name, title, IMAGES, turn, reference=Reference("benchmark_app", app), bound=bound, rounds=3)


def _wide(setting: Setting, server: Server) -> Turn:
    return server.turn(
        "clients.pipelined",
        setting.seconds,
        model="wide",
        input="x",
        output="small",
        shape=[1, 16],
        dtype="float32",
        ahead=32,
    )


def _wide_case(name: str, title: str, serving: Serving, bound: Bound) -> Case:
    app = BenchmarkApp(lambda folder: folder / "wide.xml")
    return Case(name, title, serving, _wide, reference=Reference("benchmark_app", app), bound=bound, rounds=3)


def _two_models(name: str, title: str, bound: Bound, *, large_ends: bool) -> Case:
    def turn(setting: Setting, server: Server, *, by_ticket: bool = True) -> Turn:
        client = "clients.two_models"
        return server.turn(client, setting.seconds, large_ends=large_ends, by_ticket=by_ticket)

    def round_trips(setting: Setting, server: Server) -> Turn:
        return turn(setting, server, by_ticket=False)

    reference = Reference("round trips", turn_of_server=round_trips)
    return Case(name, title, LARGE_TENSORS, turn, reference=reference, bound=bound)


CASES = [
    _two_models("two-models", "two models through 4 MB, by ticket", Bound(3, 5), large_ends=False),
    _two_models("two-models-ends", "two models through 4 MB, 4 MB in and out, by ticket", Bound(), large_ends=True),
    _wide_case("wide", "wide model, small output asked", LARGE_TENSORS, Bound(0.78, 0.9)),
    _wide_case("wide-pruned", "wide model, small output asked, pruned", PRUNED, Bound(1.8, 2.5)),
    _image("resnet", "ResNet-50", "resnet", "float32", "f32", Bound(0.90, 0.95)),
    _image("resnet-pixels", "ResNet-50, 8-bit input", PIXELS, "uint8", "u8", Bound(0.93, 0.97)),
]
