"""Whatever a client sends for a name or a version, nothing outside of the repository is opened or listed."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import grpc
import numpy as np
import pytest

from headrace.oip import open_inference_pb2 as oip
from headrace.oip.open_inference_pb2_grpc import GRPCInferenceServiceStub
from headrace.v1 import inference_pb2 as pb
from headrace.v1.inference_pb2_grpc import InferenceStub
from tests import models
from tests.e2e.operating import Operator
from tests.e2e.serving import F32, Served

LOOK_ALIKES = ("\u217f", "\uff4d", "m\u200b", "\u202em", "m\u0301", "\u043c")
"""Of `m`: a numeral, a wide letter, an invisible space, an override, an accent, a Cyrillic letter."""


def corpus(root: Path) -> list[str]:
    """Names that lead somewhere else, if they are taken for paths. `outside` stands beside the repository."""
    outside = root / "outside"
    return [
        "..",
        ".",
        "../outside",
        "../outside/1",
        "../outside/1/model.xml",
        "../../outside",
        "m/../../outside",
        "m/..",
        "m/1",
        "m/1/model.xml",
        "./m",
        "m/",
        "/m",
        "//m",
        str(outside),
        f"{outside}/1/model.xml",
        f"file://{outside}",
        f"m={outside}",
        "/etc/passwd",
        "/proc/self/environ",
        "..\\outside",
        "%2e%2e/outside",
        "..%2foutside",
        "%00",
        "m\0",
        "m\0/../outside",
        "\0",
        "~",
        "~root",
        "$HOME",
        "leaves",
        "leaves/1",
        "m\n",
        " m",
        "m ",
        "M",
        "*",
        "?",
        "[m]",
        "n" * 300,
        "../" * 100 + "outside",
        "a/" * 150,
        *LOOK_ALIKES,
    ]


class House:
    """A server of a repository with the model `m`, and links that leave it."""

    def __init__(self, root: Path) -> None:
        self.root, self.notes = root, root / "notes"
        self.outside = root / "outside"
        for folder, number in ((root / "repository" / "m" / "1", 1), (self.outside / "1", 2)):
            folder.mkdir(parents=True)
            models.plus(folder, number)
        (root / "repository" / "leaves").symlink_to(self.outside)
        (root / "repository" / "m" / "2").symlink_to(self.outside / "1")
        (root / "repository" / "m" / "3").mkdir()
        for file in ("model.xml", "model.bin"):
            (root / "repository" / "m" / "3" / file).symlink_to(self.outside / "1" / file)

    def noted(self) -> list[str]:
        return self.notes.read_text(errors="replace").splitlines()

    def opened_outside(self) -> list[str]:
        return [path for path in self.noted() if os.path.realpath(path).startswith(str(self.outside))]


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> House:
    return House(tmp_path_factory.mktemp("audited"))


@pytest.fixture(scope="module")
def served(house: House) -> Iterator[Served]:
    arguments = [str(house.notes), f"--repository={house.root / 'repository'}", "--model-control", "--watch", F32]
    with Served(arguments, house.root / "log", module="tests.e2e.audited") as served:
        yield served


Ask = Callable[[grpc.Channel, str, str], object]


def oip_infer(channel: grpc.Channel, name: str, version: str) -> object:
    tensor = oip.ModelInferRequest.InferInputTensor(name="x", datatype="FP32", shape=[1])
    request = oip.ModelInferRequest(
        model_name=name, model_version=version, inputs=[tensor], raw_input_contents=[bytes(4)]
    )
    return GRPCInferenceServiceStub(channel).ModelInfer(request, timeout=30)


def native_infer(channel: grpc.Channel, name: str, version: str) -> object:
    one = pb.Inline(datatype=pb.FP32, shape=[1])
    call = pb.Call(model=name, version=version, inputs=[pb.Input(name="x", inline=one)], all_outputs=True)
    return InferenceStub(channel).Infer(pb.InferRequest(call=call, tensors=[np.zeros(1, np.float32).tobytes()]))


WAYS: dict[str, Ask] = {
    "load": lambda channel, name, _: GRPCInferenceServiceStub(channel).RepositoryModelLoad(
        oip.RepositoryModelLoadRequest(model_name=name), timeout=20
    ),
    "unload": lambda channel, name, _: GRPCInferenceServiceStub(channel).RepositoryModelUnload(
        oip.RepositoryModelUnloadRequest(model_name=name), timeout=20
    ),
    "native load": lambda channel, name, _: InferenceStub(channel).LoadModel(
        pb.LoadModelRequest(name=name), timeout=20
    ),
    "native unload": lambda channel, name, _: InferenceStub(channel).UnloadModel(
        pb.UnloadModelRequest(name=name), timeout=20
    ),
    "index": lambda channel, name, _: GRPCInferenceServiceStub(channel).RepositoryIndex(
        oip.RepositoryIndexRequest(repository_name=name), timeout=20
    ),
    "load from": lambda channel, name, _: GRPCInferenceServiceStub(channel).RepositoryModelLoad(
        oip.RepositoryModelLoadRequest(repository_name=name, model_name="m"), timeout=20
    ),
    "infer": oip_infer,
    "native infer": native_infer,
    "metadata": lambda channel, name, version: GRPCInferenceServiceStub(channel).ModelMetadata(
        oip.ModelMetadataRequest(name=name, version=version), timeout=20
    ),
    "config": lambda channel, name, version: GRPCInferenceServiceStub(channel).ModelConfig(
        oip.ModelConfigRequest(name=name, version=version), timeout=20
    ),
    "statistics": lambda channel, name, version: GRPCInferenceServiceStub(channel).ModelStatistics(
        oip.ModelStatisticsRequest(name=name, version=version), timeout=20
    ),
    "describe": lambda channel, name, version: InferenceStub(channel).DescribeModel(
        pb.DescribeModelRequest(name=name, version=version), timeout=20
    ),
}
BY_NAME_ALONE = ("load", "unload", "native load", "native unload", "index", "load from")


@pytest.mark.parametrize("way", WAYS)
def test_nothing_outside_is_opened(served: Served, house: House, way: str) -> None:
    names = [name for name in corpus(house.root) if name != "leaves" or "unload" not in way]  # which is known
    with grpc.insecure_channel(served.address) as channel:
        assert WAYS["metadata"](channel, "m", "1")
        for name in names:
            asked = [(name, "")] if way in BY_NAME_ALONE else [(name, ""), ("m", name), (name, name)]
            for model, version in asked:
                with pytest.raises(grpc.RpcError) as raised:
                    WAYS[way](channel, model, version)
                code, details = raised.value.code(), str(raised.value.details())
                # `leaves` and the versions 2 and 3 of `m` are known, and so is why they are not served.
                known = model == "leaves"
                expected = {grpc.StatusCode.NOT_FOUND, *((grpc.StatusCode.FAILED_PRECONDITION,) if known else ())}
                assert code in expected | {grpc.StatusCode.UNAVAILABLE} if known else expected, (model, details)
                assert str(house.root) not in details.replace(repr(model), "").replace(repr(version), "")
        assert WAYS["metadata"](channel, "m", "1")
    assert house.noted()
    assert house.opened_outside() == []


def test_what_leads_out_is_known_and_says_so(served: Served, house: House) -> None:
    operator = Operator(served.address)
    with operator.channel:
        index = operator.index()
        assert index == [
            ("leaves", "", "UNAVAILABLE", "model 'leaves' could not be loaded: it leads out of its repository"),
            ("m", "1", "READY", ""),
            *(
                (
                    "m",
                    version,
                    "UNAVAILABLE",
                    f"model 'm' version {version} could not be loaded: it leads out of its repository",
                )
                for version in ("2", "3")
            ),
        ]
        with pytest.raises(grpc.RpcError, match="it leads out of its repository"):
            operator.load("leaves")
    assert f"'{house.root}/repository/leaves' is a link that leads out of the repository" in served.log
    assert house.opened_outside() == []


def test_links_are_served_where_the_operator_allows_them(house: House, tmp_path: Path) -> None:
    arguments = [f"--repository={house.root / 'repository'}", "--follow-links", F32]
    with Served(arguments, tmp_path / "log") as served:
        operator = Operator(served.address)
        with operator.channel:
            ready = [(name, version) for name, version, state, _ in operator.index() if state == "READY"]
    assert ready == [("leaves", "1"), ("m", "3")]
