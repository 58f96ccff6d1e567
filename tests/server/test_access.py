"""What the options say about who may call: what does not fit together, and what a server tells its operator."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import pytest

from headrace.server.access import read_access
from headrace.server.core.clients import ClientLimits
from headrace.server.security.guard import CertificateGuard, TokenGuard
from headrace.server.security.identities import identity_lines
from headrace.server.security.reloaded_files import UnusableFileError
from headrace.server.security.scopes import Scope
from headrace.server.security.tokens import new_token
from headrace.server.settings import Settings
from tests.e2e.authority import Authority


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("files")
    authority = Authority(folder)
    certificate, key = authority.issue("server", "a.example")
    identities = folder / "identities.toml"
    identities.write_text(identity_lines("camera", [Scope.INFER], new_token()[1]))
    return {"tls_cert": certificate, "tls_key": key, "tls_ca": authority.file, "identities": identities}


TLS = ("tls_cert", "tls_key")


@pytest.mark.parametrize(
    ("given", "warning"),
    [
        ((), "whoever reaches h:1 may call this server and read what others send; see --tls-cert and --identities"),
        (("identities",), "what is sent to h:1, tokens too, can be read on the way; see --tls-cert"),
        (TLS, "whoever reaches h:1 may call this server; see --identities and --tls-ca"),
        ((*TLS, "identities"), None),
        ((*TLS, "tls_ca"), None),
    ],
)
def test_who_is_let_in_is_said_in_one_line(
    files: dict[str, Path], caplog: pytest.LogCaptureFixture, given: tuple[str, ...], warning: str | None
) -> None:
    options: dict[str, Any] = {name: files[name] for name in given}
    read_access(Settings(**options)).warn_of_exposure("h:1")
    assert caplog.messages == ([] if warning is None else [warning])


def test_a_key_that_everybody_may_read_is_told(files: dict[str, Path], caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    files["tls_key"].chmod(0o644)
    read_access(Settings(tls_cert=files["tls_cert"], tls_key=files["tls_key"]))
    files["tls_key"].chmod(0o600)
    assert caplog.messages == [f"every user of this machine may read the key in {files['tls_key']}"]


def test_what_tells_who_calls(files: dict[str, Path]) -> None:
    assert read_access(Settings()).guard is None
    assert isinstance(read_access(Settings(identities=files["identities"])).guard, TokenGuard)
    mutual: dict[str, Any] = {name: files[name] for name in (*TLS, "tls_ca")}
    assert isinstance(read_access(Settings(**mutual, identity_from="certificate")).guard, CertificateGuard)
    with pytest.raises(UnusableFileError, match="--identity-from certificate needs --tls-ca"):
        read_access(Settings(identities=files["identities"], identity_from="certificate"))


def test_limits_of_the_options_are_those_of_identities_without_any(files: dict[str, Path]) -> None:
    settings = Settings(
        identities=files["identities"], identity_rate=5, identity_burst=6, identity_tickets=7, identity_bytes=8
    )
    identities = read_access(settings).identities
    assert identities is not None
    assert identities.current.by_name["camera"].limits == ClientLimits(5, 6, 7, 8)
