"""The files of deploy/ name options that the server has, and the tools that read them accept them."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import fields
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml

from headrace.server.environment import VARIABLES
from headrace.server.settings import Settings

ROOT = Path(__file__).parents[2]
DEPLOY = ROOT / "deploy"
FILES = sorted(each for each in DEPLOY.rglob("*") if each.is_file())
KUBERNETES = [DEPLOY / "kubernetes/headrace.yaml", DEPLOY / "kubernetes/autoscaling.yaml"]
OPTIONS = {f"--{field.name.replace('_', '-')}" for field in fields(Settings)} | {"--config", "--lenient"}
FOREIGN = {"--concurrency", "--reload", "--tmpfs", "--read-only"}
"""Options of other commands, in comments."""


def documents(file: Path) -> list[Any]:
    return list(yaml.safe_load_all(file.read_text()))


def settings_of(file: Path) -> Iterator[str]:
    """The options of the server and its variables that a file has."""
    for line in file.read_text().splitlines():
        if file.name == "Dockerfile" and line.startswith(("RUN", "    &&", "COPY", "HEALTHCHECK", "#")):
            continue
        yield from re.findall(r"(?<![\w-])--[a-z][a-z-]+", line)
        yield from re.findall(r"\bHEADRACE_[A-Z_]+", line)


@pytest.mark.parametrize("file", FILES, ids=lambda file: str(file.relative_to(DEPLOY)))
def test_all_options_are_options_of_the_server(file: Path) -> None:
    unknown = set(settings_of(file)) - OPTIONS - VARIABLES - FOREIGN
    assert not unknown


def test_options_are_found() -> None:
    """The test above has something to look at."""
    found = {setting for file in FILES for setting in settings_of(file)}
    assert {"--repository", "--drain-delay", "--grace", "--cache-dir", "HEADRACE_METRICS_PORT"} <= found


@pytest.mark.parametrize("file", KUBERNETES, ids=lambda file: file.name)
def test_kubernetes_accepts_the_manifests(file: Path) -> None:
    for document in documents(file):
        validate(document)


def test_the_serving_runtime_has_a_container_that_kubernetes_accepts() -> None:
    (runtime,) = documents(DEPLOY / "kserve/serving-runtime.yaml")
    (container,) = runtime["spec"]["containers"]
    validate({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "x"}, "spec": {"containers": [container]}})
    # By this name KServe knows that the port takes gRPC.
    assert container["ports"] == [{"name": "h2c", "containerPort": 8001, "protocol": "TCP"}]
    assert container["name"] == "kserve-container"


def validate(document: Any) -> None:
    kubernetes_validate.validate(document, "1.30", strict=True)


@pytest.mark.parametrize(
    ("file", "default_patience"),
    [
        ("kubernetes/headrace.yaml", []),
        ("kserve/serving-runtime.yaml", [30]),  # of Kubernetes
        ("compose.yaml", []),
        ("systemd/headrace.service", []),
    ],
)
def test_nobody_ends_the_server_while_it_drains(file: str, default_patience: list[int]) -> None:
    text = (DEPLOY / file).read_text()
    given = re.findall(r"(?:terminationGracePeriodSeconds: |stop_grace_period: |TimeoutStopSec=)(\d+)", text)
    (patience,) = given or default_patience
    delay, grace = (
        float(found[0]) if (found := re.findall(rf"--{name}=(\d+)", text)) else default
        for name, default in (("drain-delay", Settings.drain_delay), ("grace", Settings.grace))
    )
    assert int(patience) > delay + grace


def test_systemd_accepts_the_unit_and_finds_it_hardened(tmp_path: Path) -> None:
    if shutil.which("systemd-analyze") is None:
        pytest.skip("there is no systemd-analyze")
    unit = tmp_path / "headrace.service"
    text = (DEPLOY / "systemd/headrace.service").read_text()
    unit.write_text(text.replace("/opt/headrace/bin/headrace-server", sys.executable))
    analyzed = subprocess.run(["systemd-analyze", "verify", unit], capture_output=True, text=True, check=False)
    assert "headrace.service" not in analyzed.stderr
    assert analyzed.returncode == 0, analyzed.stderr
    command = ["systemd-analyze", "security", "--offline=true", "--threshold=25", str(unit)]
    rated = subprocess.run(command, capture_output=True, text=True, check=False)
    assert rated.returncode == 0, rated.stdout


def test_systemd_does_not_restart_what_cannot_start() -> None:
    """As docs/guide/operating.md has the exit codes."""
    text = (DEPLOY / "systemd/headrace.service").read_text()
    assert "RestartPreventExitStatus=2 3 4" in text
    codes = re.findall(r"^\| (\d) \| ", (ROOT / "docs/guide/operating.md").read_text(), re.MULTILINE)
    assert codes == ["0", "1", "2", "3", "4"]


def test_the_image_is_built_as_hadolint_likes_it() -> None:
    hadolint = Path(sys.executable).with_name("hadolint")
    if not hadolint.exists():
        pytest.skip("there is no hadolint for this machine")
    linted = subprocess.run([hadolint, DEPLOY / "Dockerfile"], capture_output=True, text=True, check=False)
    assert (linted.stdout, linted.returncode) == ("", 0)


def test_the_image_gets_everything_that_the_wheel_is_made_of() -> None:
    """What pyproject.toml reads when a wheel is built is neither left out of the context nor forgotten by COPY."""
    wanted = {"pyproject.toml", "hatch_build.py", "README.md", "LICENSE", "proto", "server", "client"}
    ignored = (DEPLOY / "Dockerfile.dockerignore").read_text().splitlines()
    assert {line[1:] for line in ignored if line.startswith("!")} == wanted
    copied = re.findall(r"^COPY ([^-].*) \S+$", (DEPLOY / "Dockerfile").read_text(), re.MULTILINE)
    assert {name for line in copied for name in line.split()} == wanted
