"""Both commands, where a connection is encrypted and wants a token: what they send, refuse and never show."""

from __future__ import annotations

import itertools
import json
import os
import re
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from headrace.server.core.clients import NO_LIMITS
from headrace.server.security.identities import parse_identities
from headrace.server.security.scopes import Scope
from headrace.server.security.tokens import id_of
from tests import models
from tests.e2e.authority import Authority
from tests.e2e.people import People
from tests.e2e.serving import F32, Serve, Served, run_server


class Secure:
    """A server with mutual TLS and tokens, and what the command needs to reach it."""

    def __init__(self, served: Served, authority: Authority, people: People, folder: Path) -> None:
        self.served, self.people, self.folder = served, people, folder
        certificate, key = authority.issue("command", "client.example")
        self.tls = [f"--tls-ca={authority.file}", f"--tls-cert={certificate}", f"--tls-key={key}"]

    def run(
        self, command: str, *arguments: str, token: str | None = None, code: int = 0
    ) -> subprocess.CompletedProcess[str]:
        env = {**os.environ, "COLUMNS": "300", **({"HEADRACE_TOKEN": token} if token is not None else {})}
        words = [sys.executable, "-m", "headrace.client", command, self.served.address, *arguments]
        ended = subprocess.run(
            words, capture_output=True, text=True, timeout=120, check=False, env=env, cwd=self.folder
        )
        assert ended.returncode == code, ended.stdout + ended.stderr
        for secret in self.people.tokens.values():
            assert secret[20:] not in ended.stdout + ended.stderr
        return ended


@pytest.fixture(scope="module")
def secure(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Secure]:
    folder = tmp_path_factory.mktemp("secure")
    authority, people = Authority(folder / "ca"), People(folder / "identities.toml")
    people.add("root", *Scope)
    people.add("camera", Scope.INFER, Scope.METADATA)
    options = [*authority.options("server", "127.0.0.1"), f"--tls-ca={authority.file}", f"--identities={people.file}"]
    with Served([str(models.scale(folder)), *options, F32], folder / "log") as served:
        yield Secure(served, authority, people, folder)
        assert served.stop() == 0


def test_each_command_goes_through_with_certificates_and_a_token(secure: Secure) -> None:
    file = secure.folder / "camera.token"
    file.write_text(secure.people.tokens["camera"] + "\n")
    camera = [*secure.tls, f"--token-file={file}"]
    assert "scale" in secure.run("models", *camera).stdout
    assert '"y"' in secure.run("infer", "scale", "--input=x=[1]", "--json", *camera).stdout
    assert "streams" in secure.run("status", *secure.tls, token=secure.people.tokens["root"]).stdout
    for protocol, mode in itertools.product(("headrace", "oip"), ("stream", "unary")):
        load = ["--shape=x:1", "--count=20", "--warmup=0", f"--protocol={protocol}", f"--mode={mode}", "--json"]
        (run,) = json.loads(secure.run("load", "scale", *load, *camera).stdout)["runs"]
        assert [(phase["ok"], phase["errors"]) for phase in run["phases"]] == [(20, [])]


def test_what_is_missing_is_said_in_one_line(secure: Secure) -> None:
    root, camera = secure.people.tokens["root"], secure.people.tokens["camera"]
    for arguments, token, sentence in (
        (secure.tls, None, "this server wants a token"),
        (secure.tls, root[:-1], "the token is not valid"),
        (secure.tls, camera, "'camera' may not call ServerStatus: it does not have the scope 'statistics'"),
        (secure.tls[:1], root, "it may want a client certificate"),
        ([], root, "it may want TLS"),
    ):
        ended = secure.run("status", *arguments, token=token, code=1)
        assert sentence in ended.stderr
        assert ended.stderr.count("\n") == 1


def test_a_token_does_not_leave_the_machine_in_plain_text(secure: Secure) -> None:
    words = [sys.executable, "-m", "headrace.client", "status", "models.example:8001"]
    env = {**os.environ, "HEADRACE_TOKEN": secure.people.tokens["root"], "COLUMNS": "300"}
    ended = subprocess.run(words, capture_output=True, text=True, timeout=60, check=False, env=env)
    assert ended.returncode == 2
    assert "the token would be sent to models.example:8001 in plain text" in ended.stderr
    assert secure.people.tokens["root"][20:] not in ended.stderr


class TestTheTokenCommand:
    def test_it_prints_a_hash_and_saves_the_token_for_this_user_alone(self, tmp_path: Path) -> None:
        file = tmp_path / "camera.token"
        ended = run_server("token", "camera-1", "--scopes", "infer", "control", f"--save={file}")
        assert (ended.returncode, ended.stderr) == (0, "")
        token = file.read_text().strip()
        assert stat.S_IMODE(file.stat().st_mode) == 0o600
        assert token not in ended.stdout
        found = parse_identities(ended.stdout, NO_LIMITS)
        hashed, identity = found.by_token[id_of(token) or ""]
        assert hashed.matches(token)
        assert (identity.name, identity.scopes) == ("camera-1", frozenset({Scope.INFER, Scope.CONTROL}))
        again = run_server("token", "camera-1", f"--save={file}")
        assert again.returncode == 2
        assert again.stderr == f"headrace-server: {str(file)!r} cannot be made: File exists\n"
        assert file.read_text().strip() == token

    def test_it_shows_the_token_once_beside_what_the_file_takes(self) -> None:
        ended = run_server("token", "camera")
        assert ended.returncode == 0
        found = parse_identities(ended.stdout, NO_LIMITS)
        token = ended.stderr.split()[-1]
        hashed, identity = found.by_token[id_of(token) or ""]
        assert hashed.matches(token)
        assert identity.scopes == {Scope.INFER, Scope.METADATA}

    def test_it_has_no_options_of_the_server(self) -> None:
        shown = run_server("token", "--help").stdout
        assert set(re.findall(r"--[a-z-]+", shown)) == {"--scopes", "--save", "--identities"}
        ended = run_server("token", "camera", "--config=server.toml")
        assert (ended.returncode, ended.stdout) == (2, "")
        assert "Unknown option: --config" in ended.stderr
        shown = run_server("--help").stdout
        assert re.search(r"│ token +Make a token for an identity", shown)
        assert "--config PATH" in shown


class TestStarting:
    @pytest.mark.parametrize(
        ("options", "sentence"),
        [
            (
                ["--identity-from=certificate"],
                "--identity-from certificate needs --tls-ca: without it clients show none",
            ),
            (
                ["--identities=/no/such.toml"],
                "the identities in /no/such.toml cannot be read: No such file or directory",
            ),
        ],
    )
    def test_what_does_not_fit_ends_the_start(self, tmp_path: Path, options: list[str], sentence: str) -> None:
        ended = run_server(str(models.scale(tmp_path)), *options)
        assert (ended.returncode, ended.stdout, ended.stderr) == (2, "", f"headrace-server: {sentence}\n")

    def test_a_server_that_others_reach_says_what_they_can_do(self, serve: Serve, tmp_path: Path) -> None:
        people, authority = People(tmp_path / "identities.toml"), Authority(tmp_path / "ca")
        path = models.scale(tmp_path)
        tls = authority.options("server", "127.0.0.1")
        tokens = f"--identities={people.file}"
        for options, warning in (([], "may call this server and read what others send"), ([*tls, tokens], "")):
            served = serve(path, "--host=0.0.0.0", *options)
            assert served.log.count(" WARNING ") == bool(warning), served.log
            assert warning in served.log
            served.stop()
