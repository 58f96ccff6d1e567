"""How the two commands begin: arguments by position, variables of the environment, Ctrl-C, completion of the shell."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from headrace.server.environment import VARIABLES, unknown_variables
from tests import models
from tests.e2e.serving import Serve, Served

CLIENT = "from headrace.commands import client; client()"
SERVER = "from headrace.commands import server; server()"


def run(program: str, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", program, *arguments],
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
        env={**os.environ, **environment},
        stdin=subprocess.DEVNULL,
    )


# Arguments


def test_several_outputs_follow_one_flag(serve: Serve, tmp_path: Path) -> None:
    target = serve(f"am={models.add_multiply(tmp_path)}").address
    for flags in (["--outputs", "sum", "product"], ["--output", "sum", "--output", "product"]):
        given = ["--input", "x=random", "--input", "y=random", *flags]
        inferred = run(CLIENT, "infer", target, "am", *given, "--json")
        assert [output["name"] for output in json.loads(inferred.stdout)["outputs"]] == ["sum", "product"]
        loaded = run(CLIENT, "load", target, "am", *flags, "--keep", "sum", "product", "--count", "20", "--json")
        assert loaded.returncode == 0, loaded.stderr
        assert json.loads(loaded.stdout)["runs"][0]["phases"][0]["ok"] == 20
    nothing = run(CLIENT, "load", target, "--model", "am", "--outputs", "", "--count", "20", "--json")
    assert nothing.returncode == 0, nothing.stderr


# Variables


def test_variables_that_no_command_knows_are_told() -> None:
    assert {"HEADRACE_PORT", "HEADRACE_CONFIG", "HEADRACE_KEEP_BYTES"} <= VARIABLES
    links = {
        "HEADRACE_SERVICE_HOST": "10.0.0.1",
        "HEADRACE_SERVICE_PORT_GRPC": "8001",
        "HEADRACE_PORT_8001_TCP_ADDR": "10.0.0.1",
        "HEADRACE_CANARY_SERVICE_PORT": "8001",
        "HEADRACE_CANARY_PORT": "tcp://10.0.0.1:8001",
        "HEADRACE_CANARY_PORT_8001_TCP": "tcp://10.0.0.1:8001",
    }
    known = dict.fromkeys(
        (*VARIABLES, "HEADRACE_TOKEN", "HEADRACE_CLIENT_TRANSPORT"), "1"
    )  # those two are of the other command
    assert unknown_variables({**links, **known, "PATH": "/bin", "HEADRACEX": "1"}) == []
    wrong = {"HEADRACE_PROT": "1", "HEADRACE_KEEPBYTES": "1", "HEADRACE_COLOUR": "1"}
    assert unknown_variables({**links, **wrong}) == [
        "HEADRACE_COLOUR",
        "HEADRACE_KEEPBYTES (did you mean HEADRACE_KEEP_BYTES?)",
        "HEADRACE_PROT (did you mean HEADRACE_PORT?)",
    ]


def test_both_commands_warn_and_go_on(tmp_path: Path) -> None:
    wrong = {"HEADRACE_PROT": "1"}
    with Served([str(models.scale(tmp_path))], tmp_path / "log", env={**os.environ, **wrong}) as served:
        said = "headrace-server: there is no option of the variable HEADRACE_PROT (did you mean HEADRACE_PORT?)"
        assert said in served.log
        listed = run(CLIENT, "models", served.address, "--json", **wrong)
    assert len(json.loads(listed.stdout)["models"]) == 1
    assert listed.stderr.startswith("headrace: HEADRACE_PROT (did you mean HEADRACE_PORT?) has no effect")
    assert run(CLIENT, "--version").stderr == ""


# Ctrl-C

INTERRUPTED_IMPORT = """
import os, signal, sys
class Interrupt:
    def find_spec(self, name, *_):
        if name == {module!r}:
            os.kill(os.getpid(), signal.SIGINT)
sys.meta_path.insert(0, Interrupt())
"""


@pytest.mark.parametrize(
    ("program", "module"),
    [(CLIENT, "numpy"), (CLIENT, "grpc"), (SERVER, "cyclopts"), (SERVER, "openvino")],
)
def test_ctrl_c_while_it_is_imported_prints_nothing(program: str, module: str, tmp_path: Path) -> None:
    arguments = [str(models.scale(tmp_path))] if program == SERVER else ["models", "127.0.0.1:1"]
    ended = run(INTERRUPTED_IMPORT.format(module=module) + program, *arguments)
    assert (ended.returncode, ended.stdout, ended.stderr) == (130, "", "")


# Completion


@pytest.mark.parametrize("shell", ["bash", "fish", "zsh"])
def test_completion_is_printed(shell: str, tmp_path: Path) -> None:
    printed = run(CLIENT, "completion", shell, HOME=str(tmp_path))
    assert (printed.returncode, printed.stderr) == (0, "")
    assert all(word in printed.stdout for word in ("headrace", "models", "--fail-if"))
    if shutil.which(shell):
        subprocess.run([shell, "-n"], input=printed.stdout, text=True, check=True, timeout=30)
    assert list(tmp_path.iterdir()) == []


def test_completion_is_not_installed_where_nobody_can_be_asked(tmp_path: Path) -> None:
    refused = run(CLIENT, "completion", "bash", "--install", HOME=str(tmp_path))
    assert refused.returncode == 2
    assert "takes a terminal" in refused.stderr
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("answer", ["\n", "yes\n", "\x04"])
def test_completion_is_installed_only_if_the_answer_is_yes(answer: str, tmp_path: Path) -> None:
    terminal, end = os.openpty()
    os.write(terminal, answer.encode())
    asked = subprocess.run(
        [sys.executable, "-c", CLIENT, "completion", "bash", "--install"],
        stdin=end,
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
        env={**os.environ, "HOME": str(tmp_path)},
    )
    os.close(terminal)
    os.close(end)
    assert (asked.returncode, asked.stderr) == (0, "")
    assert "[y/N]" in asked.stdout
    if answer == "yes\n":
        assert "written to " in asked.stdout
        assert (tmp_path / ".bashrc").exists()
    else:
        assert "nothing was changed" in asked.stdout
        assert list(tmp_path.iterdir()) == []
