"""The TOML file: what it says is checked as the command line is, and errors name file, line and key."""

from __future__ import annotations

from pathlib import Path

import pytest

from headrace.server.configuration.configuration import read_configuration
from headrace.server.engine.compilation import Compilation
from headrace.server.engine.port_options import ExpectedPort, InputOptions, OutputOptions
from headrace.server.repository.source import ModelSource, VersionPolicy
from headrace.server.settings import Settings
from tests.server.configuration.configured import errors, read


def test_every_option_of_a_model(tmp_path: Path) -> None:
    text = """
[models.resnet]
path = "resnet"
file = "net.xml"
versions = [1, 3]
device = "AUTO"
run = "async"
hint = "latency"
streams = "auto"
threads = 3
precision = "f32"
cache_capacity = 7
properties = { ENABLE_CPU_PINNING = false, LOG_LEVEL = "LOG_NONE", KV_CACHE_SIZE = 5 }
slots = 4
batch = 8
batch_delay = 0.5
max_queue = 32
max_queue_seconds = 1.5
weight = 2
priority = 3
state = "ports"
extensions = ["openvino_tokenizers", "lib/extra.so"]
warm_up = 2
labels = "labels.txt"
inputs.x = { shape = "1,3,?,?", mean = [1, 2.5], encoded = true }
outputs.y.topk = 5
outputs."*".labels = "more.txt"
"""
    (model,) = read(tmp_path, text).models(())
    file = tmp_path / "headrace.toml"
    assert model.source == ModelSource(
        "resnet",
        tmp_path / "resnet",
        VersionPolicy(listed=frozenset({1, 3})),
        Compilation(
            device="AUTO",
            run="async",
            hint="latency",
            properties={
                "NUM_STREAMS": "AUTO",
                "INFERENCE_NUM_THREADS": "3",
                "INFERENCE_PRECISION_HINT": "f32",
                "CPU_RUNTIME_CACHE_CAPACITY": "7",
                "ENABLE_CPU_PINNING": "NO",
                "LOG_LEVEL": "LOG_NONE",
                "KV_CACHE_SIZE": "5",
            },
            slots=4,
            batch=8,
            batch_delay=0.5,
            max_queue=32,
            max_queue_seconds=1.5,
            weight=2,
            priority=3,
            state="ports",
            extensions=("openvino_tokenizers", str(tmp_path / "lib/extra.so")),
            warm_up=2,
            labels=str(tmp_path / "labels.txt"),
            inputs={"x": InputOptions(shape="1,3,?,?", mean=(1, 2.5), encoded=True)},
            outputs={"y": OutputOptions(topk=5), "*": OutputOptions(labels=str(tmp_path / "more.txt"))},
            expected=(ExpectedPort("input", "x", f"{file}:25"), ExpectedPort("output", "y", f"{file}:26")),
        ),
        "net.xml",
    )


@pytest.mark.parametrize(
    ("line", "error"),
    [
        ("devise = 'CPU'", "devise: unknown key; did you mean 'device'?"),
        ("warm-up = 1", "warm-up: unknown key; did you mean 'warm_up'?"),
        ("v2.x = 1", 'v2: unknown key; a model with a dot in its name is written with quotes: models."m.v2"'),
        ("x = 1", "x: unknown key; there are batch, batch_delay, cache_capacity, device, "),
        ("device = 5", "device: input should be a valid string"),
        ("run = 'fast'", "run: input should be 'auto', 'direct' or 'async'"),
        ("slots = 5000", "slots: must be <= 1024"),
        ("batch = 99", "batch: '99' is neither auto nor off nor a number from 2 to 64"),
        ("batch_delay = nan", "batch_delay: must be <= 3600"),
        ("max_queue = -1", "max_queue: must be >= 0"),
        ("max_queue = '4'", "max_queue: input should be a valid integer"),
        ("threads = true", "threads: input should be a valid integer"),
        ("streams = 0", "streams: input should be greater than or equal to 1"),
        ("precision = 'f31'", "precision: input should be 'f32', 'f16', 'bf16' or 'dynamic'"),
        ("versions = 'newest'", 'versions: "latest", "latest N", "all" or a list of numbers from 1 up is expected'),
        ("versions = [0]", 'versions: "latest", "latest N", "all" or a list of numbers from 1 up is expected'),
        ("versions = [9223372036854775808]", 'versions: "latest", "latest N", "all" or a list of numbers from 1 up'),
        (f"versions = [0x{'f' * 5000}]", 'versions: "latest", "latest N", "all" or a list of numbers from 1 up'),
        (f"threads = 0x{'f' * 5000}", "threads: an integer has too many digits"),
        (f"properties{'.a' * 3000} = 1", "properties: it is nested too deeply"),
        (f"properties = {'{a=' * 220}1{'}' * 220}", "properties: it is nested too deeply"),
        ("state = 'kept'", "state: input should be 'reset', 'ports' or 'sequence'"),
        ("weight = 0", "weight: input should be greater than or equal to 1"),
        ("priority = 10", "priority: input should be less than or equal to 9"),
        ("labels = 2024-01-01", "labels: a date or a time is not expected"),
        ("properties.A = [1]", "properties.A: input should be a valid string"),
        ("extensions = ['a', 1]", "extensions[1]: input should be a valid string"),
        ("inputs = 1", "inputs: a table for each of the inputs is expected"),
        ("inputs.x = 1", "inputs.x: a table is expected"),
        ("inputs.x.shpe = '1'", "inputs.x.shpe: unknown key; did you mean 'shape'?"),
        ("inputs.x.crop = [1, 2]", "inputs.x.crop[2]: field required"),
        ("outputs.'a b'.topk = 1.5", 'outputs."a b".topk: input should be a valid integer'),
    ],
)
def test_what_is_wrong_with_a_model_has_file_line_and_key(tmp_path: Path, line: str, error: str) -> None:
    (first, *_) = errors(tmp_path, f"\n[models.m]\npath = 'm.xml'\n{line}\n")
    assert first.startswith(f"headrace.toml:4: models.m.{error}")


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("window = 8", "1: window: unknown key; options are in [server]: did you mean 'server.window'?"),
        ("[modls.x]", "1: modls: unknown key; did you mean 'models'?"),
        ("server = 1", "1: server: a table is expected"),
        ("[models]\nx = 1", "2: models.x: a table is expected"),
        ("[server]\nwindows = 8", "2: server.windows: unknown key; did you mean 'window'?"),
        (
            "[server]\nmax-message-bytes = 8",
            "2: server.max-message-bytes: unknown key; did you mean 'max_message_bytes'?",
        ),
        ("[server]\nport = 70000", "2: server.port: must be <= 65535"),
        ("[server]\nport = '80'", "2: server.port: input should be a valid integer"),
        ("[server]\nkeep_bytes = '5parsec'", "2: server.keep_bytes: '5parsec' is not a size: give a number of bytes"),
        ('[server]\ncache_dir = "a\\u0000"', "2: server.cache_dir: 'a\\x00' is not a path"),
        ('[server]\nrepository = ["a\\u0000"]', "2: server.repository: 'a\\x00' is not a path"),
        ("[server]\nproperty = ['A']", "2: server.property: 'A' is not of the form KEY=VALUE"),
        ("[server]\nhost = 'a/b'", "2: server.host: 'a/b' is not a host name or an address"),
        ("[server]\nmodel_control = 1", "2: server.model_control: input should be a valid boolean"),
        ("[models.'a b']\npath = 'x'", '1: models."a b": this is not a valid name of a model: use up to 128 letters'),
        ("[models.m]\ndevice = 'CPU'", "1: models.m: there is no model of this name: give it a path"),
        ("[models.m]\n[models.m]", "2: it is not valid TOML: Cannot declare ('models', 'm') twice"),
        ("[models.m]\npath = ''", "2: models.m.path: string should have at least 1 character"),
        ('[models.m]\npath = "a\\u0000"', "2: models.m.path: string should match pattern"),
        (f"[server]\nwindow = {'9' * 5000}", ": it is not valid TOML: an integer has too many digits"),
        ("[models.m]\npath = ", "2: it is not valid TOML: Invalid value"),
        ("a = " + "[" * 5000, ": it is not valid TOML: it is nested too deeply"),
        (
            "[models.m]\npath='m.xml'\nthreads=1\nproperties.INFERENCE_NUM_THREADS=2",
            "4: models.m.properties.INFERENCE_NUM_THREADS: the same is given as threads (",
        ),
    ],
)
def test_what_is_wrong_with_the_file(tmp_path: Path, text: str, error: str) -> None:
    (found,) = errors(tmp_path, text)
    assert found.startswith(f"headrace.toml{'' if error.startswith(':') else ':'}{error}")


def test_all_errors_are_reported(tmp_path: Path) -> None:
    text = "[server]\nport = 'x'\nwindow = 0\n[models.m]\npath = 1\nslots = -1\n[models.n]\nrun = 'x'\n"
    assert [error.split(": ")[:2] for error in errors(tmp_path, text)] == [
        ["headrace.toml:2", "server.port"],
        ["headrace.toml:3", "server.window"],
        ["headrace.toml:5", "models.m.path"],
        ["headrace.toml:6", "models.m.slots"],
        ["headrace.toml:8", "models.n.run"],
    ]


@pytest.mark.parametrize(
    ("content", "error"),
    [(None, "the file cannot be read: No such file"), (b"\xff", "the file is not valid UTF-8: byte 0 cannot be")],
)
def test_a_file_that_cannot_be_read(tmp_path: Path, content: bytes | None, error: str) -> None:
    file = tmp_path / "headrace.toml"
    if content is not None:
        file.write_bytes(content)
    with pytest.raises(Exception, match=error):
        read_configuration(file, Settings(), {})
