"""A server that a file configures, what it prints about itself, and `check`."""

from __future__ import annotations

import json
import subprocess
import sys
import tomllib
from pathlib import Path

import grpc

from headrace.v1 import inference_pb2 as pb
from headrace.v1.inference_pb2_grpc import InferenceStub
from tests import models
from tests.e2e.serving import Serve, run_server


def described(address: str) -> list[pb.ModelDescription]:
    with grpc.insecure_channel(address) as channel:
        return list(InferenceStub(channel).ListModels(pb.ListModelsRequest(), timeout=30).models)


def test_models_of_a_file_are_served_each_with_its_options(serve: Serve, tmp_path: Path) -> None:
    models.add_multiply(tmp_path)
    file = tmp_path / "headrace.toml"
    file.write_text("""
[server]
slots = 3
[models.am]
path = "add_multiply.xml"
batch = "off"
warm_up = 2
inputs."*".shape = "1..4,..."
[models.scale]
slots = 1
run = "async"
""")
    served = serve(f"--config={file}", str(models.scale(tmp_path)))
    am, scale = described(served.address)
    assert (am.name, am.slots, am.batch) == ("am", 3, 1)
    assert [(each.min, each.max) for each in am.inputs[1].shape] == [(1, 4), (16, 16)]
    assert (scale.name, scale.slots, scale.direct) == ("scale", 1, False)


def test_what_is_printed_starts_the_same_server(tmp_path: Path) -> None:
    file = tmp_path / "headrace.toml"
    file.write_text(f"[server]\nwindow = 8\n[models.m]\npath = '{models.scale(tmp_path)}'\nslots = 2\n")
    printed = run_server(f"--config={file}", "--grace=3", "--print-config")
    assert printed.returncode == 0
    assert f"slots = 2  # {file}:5\n" in printed.stdout
    assert "grace = 3.0  # --grace\n" in printed.stdout
    assert "# HEADRACE_CACHE_DIR\n" in printed.stdout
    file.write_text(printed.stdout)
    again = run_server(f"--config={file}", "--print-config")
    values = tomllib.loads(printed.stdout)
    assert tomllib.loads(again.stdout) == values
    assert (values["server"]["window"], values["server"]["grace"], values["models"]["m"]["slots"]) == (8, 3.0, 2)


def test_every_error_of_a_file_is_on_standard_error(tmp_path: Path) -> None:
    file = tmp_path / "headrace.toml"
    file.write_text("[server]\nwindows = 8\n[models.m]\npath = 'm.xml'\ndevise = 'CPU'\n")
    ended = run_server(f"--config={file}")
    assert ended.returncode == 2
    assert ended.stderr.splitlines() == [
        f"headrace-server: {file}:2: server.windows: unknown key; did you mean 'window'?",
        f"headrace-server: {file}:5: models.m.devise: unknown key; did you mean 'device'?",
    ]


def test_check_reports_every_model_and_serves_none(tmp_path: Path) -> None:
    (tmp_path / "bad.xml").write_text("this is no model")
    models.scale(tmp_path)
    file = tmp_path / "headrace.toml"
    file.write_text("""
[models.bad]
path = "bad.xml"
[models.gone]
path = "gone.xml"
[models.good]
path = "scale.xml"
[models.port]
path = "scale.xml"
inputs.z.shape = "1"
""")
    ended = run_server("check", f"--config={file}", "--json")
    assert ended.returncode == 3
    bad, gone, good, port = json.loads(ended.stdout)["models"]
    assert "model 'bad' cannot be read from" in bad["error"]
    assert gone["error"] == f"model 'gone': file '{tmp_path}/gone.xml' does not exist"
    assert (good["error"], good["inputs"], good["direct"]) == ("", ["x: FP32[?]"], True)
    assert port["error"] == f"model 'port' cannot be prepared: it has no input 'z' ({file}:10); it has 'x'"

    ended = run_server("check", str(tmp_path / "scale.xml"))
    assert ended.returncode == 0
    assert "scale" in ended.stdout
    assert "ok" in ended.stdout
    assert ended.stderr == ""


def test_check_shows_names_as_they_are(tmp_path: Path) -> None:
    ended = run_server("check", str(models.bracketed(tmp_path)))
    assert ended.returncode == 0, ended.stderr
    assert "[/x]: FP32[?]" in ended.stdout
    assert "[bold]y: FP32[?]" in ended.stdout


def test_check_with_a_cache_that_cannot_be_made(tmp_path: Path) -> None:
    model = models.scale(tmp_path)
    ended = run_server("check", f"--cache-dir={model}", str(model))
    assert ended.returncode == 2
    assert ended.stderr == f"headrace-server: --cache-dir '{model}': File exists\n"


def test_output_that_cannot_be_written_is_no_fault_of_the_cache(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "headrace.server", "check", str(models.scale(tmp_path))]
    with open("/dev/full", "w") as full:
        ended = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, text=True, timeout=30, check=False)
    assert ended.returncode not in (0, 2)
    assert "--cache-dir" not in ended.stderr
