"""One repository of six kinds of models, started as each of three servers configures it, answers alike."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import openvino as ov
import pytest
from rwkv.rwkv_tokenizer import TRIE_TOKENIZER

import headrace.client as hc
from headrace.client import Port
from tests import models
from tests.e2e.serving import Serve
from tests.packaged_models import ANGLES, FACES, RESNET, VOCABULARY, packaged
from tests.tokenizers import make_tokenizers

Array = npt.NDArray[Any]
F32 = "INFERENCE_PRECISION_HINT"
INPUTS = {"add": (2, 16), "resnet": (1, 3, 224, 224), "faces": (1, 128, 128, 3), "angles": (2, 3, 48, 192)}
NAMES = {*INPUTS, "tokens", "counter"}


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """IR, ONNX, TFLite, Paddle, a tokenizer and a model with a state, each in the folder of version 1."""
    made, root = tmp_path_factory.mktemp("made"), tmp_path_factory.mktemp("repository")
    tokens, _ = make_tokenizers(packaged(*VOCABULARY), made)
    sources = {
        "add": models.add_multiply(made),
        "resnet": packaged(*RESNET),
        "faces": packaged(*FACES),
        "angles": packaged(*ANGLES),
        "tokens": tokens,
        "counter": models.counter(made),
    }
    for name, path in sources.items():
        folder = root / name / "1"
        folder.mkdir(parents=True)
        for file in path.parent.glob(f"{path.stem}.*"):
            shutil.copy(file, folder / f"model{file.suffix}")
    return root


def by_toml(repository: Path, folder: Path) -> list[str]:
    file = folder / "headrace.toml"
    file.write_text(
        f"""
        [server]
        repository = ["{repository}"]
        property = ["{F32}=f32"]
        [models.tokens]
        extensions = ["openvino_tokenizers"]
        """
    )
    return [f"--config={file}"]


def by_config_pbtxt(repository: Path, folder: Path) -> list[str]:
    copy = shutil.copytree(repository, folder / "models")
    for name in NAMES:
        text = f'name: "{name}"\nbackend: "openvino"\nversion_policy {{ specific {{ versions: 1 }} }}\n'
        (copy / name / "config.pbtxt").write_text(text)
    return [f"--repository={copy}", f"--property={F32}=f32", "--extension=openvino_tokenizers"]


def by_config_json(repository: Path, folder: Path) -> list[str]:
    configs = [
        {"config": {"name": name, "base_path": str(repository / name), "plugin_config": {F32: "f32"}}} for name in NAMES
    ]
    file = folder / "config.json"
    file.write_text(json.dumps({"model_config_list": configs}))
    return [f"--config={file}", "--extension=openvino_tokenizers"]


@pytest.mark.parametrize("configure", [by_toml, by_config_pbtxt, by_config_json])
async def test_a_repository_answers_as_openvino_alone(
    serve: Serve, repository: Path, tmp_path: Path, configure: Callable[[Path, Path], list[str]]
) -> None:
    served = serve(*configure(repository, tmp_path), f"--cache-dir={repository.parent / 'cache'}")
    core, random = ov.Core(), np.random.default_rng(16)
    async with hc.connect(served.address) as server:
        described = {model.name: model for model in await server.models()}
        assert {name: model.version for name, model in described.items()} == dict.fromkeys(NAMES, "1")
        for name, shape in INPUTS.items():
            path = model_in(repository / name / "1")
            data = {port.name: random.random(shape, np.float32) for port in described[name].inputs}
            expected = core.compile_model(path, "CPU", {F32: "f32"})([*data.values()])
            outputs = await server.infer(name, data, version="1")
            for port, array in zip(described[name].outputs, expected.values(), strict=True):
                np.testing.assert_allclose(outputs[port.name], array, atol=1e-4)
        (ids,) = (await server.infer("tokens", {"string_input": np.array(["water"])})).values()
        assert ids.tolist() == [TRIE_TOKENIZER(str(packaged(*VOCABULARY))).encode("water")]
        counts = [await server.infer("counter", ones(described["counter"].inputs)) for _ in range(2)]
        assert [array.tolist() for array in counts[0].values()] == [array.tolist() for array in counts[1].values()]


def model_in(folder: Path) -> Path:
    (path,) = (each for each in folder.iterdir() if each.suffix in (".xml", ".onnx", ".tflite", ".pdmodel"))
    return path


def ones(ports: tuple[Port, ...]) -> dict[str, Array]:
    return {
        port.name: np.ones([size if isinstance(size, int) else 1 for size in port.shape or ()], np.float32)
        for port in ports
    }
