"""What is printed names every origin, and means the same when it is read as a file."""

from __future__ import annotations

import tomllib
from dataclasses import fields, replace
from pathlib import Path

from headrace.server.configuration.configuration import read_configuration
from headrace.server.configuration.model_options import ModelOptions
from headrace.server.configuration.printing import as_toml
from headrace.server.settings import Settings

TEXT = """
[server]
window = 8
keep_bytes = 1000
keep_seconds = inf
cache_dir = "cache"
property = ["A=x y", 'B="']
[models.m]
path = "a \\"b\\"/m.xml"
versions = "all"
slots = 3
labels = "l.txt"
extensions = ["openvino_tokenizers", "./x.so"]
properties = { "A B" = "\\\\", N = 1.5, Y = true }
[models.m.inputs."in put"]
shape = "1,3,?,?"
mean = [1, 2.5]
[models.m.outputs.y]
threshold = 0.5
[models.n]
batch = 8
"""


def test_what_is_printed_means_the_same(tmp_path: Path) -> None:
    file = tmp_path / "headrace.toml"
    file.write_text(TEXT)
    first = read_configuration(file, Settings(port=5, batch=4), {"port": "--port", "batch": "HEADRACE_BATCH"})
    models = first.models([f"n={tmp_path}/n.onnx", "o.xml"])
    printed = as_toml(first, models)
    again = tmp_path / "elsewhere" / "again.toml"
    again.parent.mkdir()
    again.write_text(printed)
    second = read_configuration(again, Settings(), {})
    assert second.settings == first.settings
    found = {model.source.name: model.source for model in second.models(())}
    for model in models:
        compilation = found[model.source.name].compilation
        own = model.source.compilation
        same = replace(
            compilation,
            expected=(),
            batch_delay=own.batch_delay,
            max_queue=own.max_queue,
            max_queue_seconds=own.max_queue_seconds,
        )
        assert (compilation.batch_delay or 0.0) == (own.batch_delay or 0.0)
        assert (compilation.max_queue or 0) == (own.max_queue or 0)
        assert (compilation.max_queue_seconds or 0.0) == (own.max_queue_seconds or 0.0)
        assert same == replace(model.source.compilation, expected=())
        assert found[model.source.name].path == model.source.path.absolute()
        assert found[model.source.name].policy == model.source.policy
    assert as_toml(second, second.models(())).count("\n") == printed.count("\n")


def test_every_option_is_there_with_its_origin(tmp_path: Path) -> None:
    file = tmp_path / "headrace.toml"
    file.write_text(TEXT)
    configuration = read_configuration(file, Settings(port=5), {"port": "--port"})
    printed = as_toml(configuration, configuration.models(["n=n.onnx"]))
    lines = printed.splitlines()
    assert "port = 5  # --port" in lines
    assert f"window = 8  # {file}:3" in lines
    assert 'unsent_bytes = "64MiB"  # default' in lines
    assert f"slots = 3  # {file}:11" in lines
    assert f'shape = "1,3,?,?"  # {file}:16' in lines
    assert f'"A B" = "\\\\"  # {file}:14' in lines
    assert f'path = "{Path.cwd()}/n.onnx"  # MODEL' in lines
    assert all("  # " in line for line in lines if "=" in line)
    document = tomllib.loads(printed)
    absent = {"memory", "metrics_port", "trace_endpoint", "tls_cert", "tls_key", "tls_ca", "identities"}
    assert {*document["server"]} | absent == {each.name for each in fields(Settings)}
    assert {*document["models"]["m"]} <= {each.name for each in fields(ModelOptions)}
