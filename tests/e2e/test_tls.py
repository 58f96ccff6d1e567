"""TLS and mutual TLS by both transports: who reaches the server, and certificates that are replaced meanwhile."""

from __future__ import annotations

import os
import shutil
import socket
import ssl
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

import headrace.client.blocking as blocking
from headrace.client import Tls, Unavailable
from tests import models
from tests.e2e.authority import Authority
from tests.e2e.serving import F32, Serve, Served, run_server

HOST = "127.0.0.1"
TRANSPORTS = ("aio", "completion-queue")
TAKEN = "the certificates have been read again"
KEPT = "the certificates stay as they were"


def infer(address: str, tls: object) -> float:
    """The answer of a stream and of a unary call, over a connection of its own."""
    with blocking.connect(address, tls=tls, connect_timeout=20) as server:  # type: ignore[arg-type]
        with server.stream() as stream:
            answer = stream.submit("scale", {"x": np.ones(1, np.float32)}).result()["y"]
        assert answer.tolist() == server.infer("scale", {"x": np.ones(1, np.float32)})["y"].tolist()
    return float(answer[0])


def refusal(address: str, tls: object) -> str:
    """Why a client does not reach the server."""
    with pytest.raises(Unavailable) as failed, blocking.connect(address, tls=tls, connect_timeout=1) as server:  # type: ignore[arg-type]
        server.status()
    return failed.value.message


def shown_number(address: str, ca: Path) -> int:
    """The serial number of the certificate that the server shows."""
    context = ssl.create_default_context(cafile=str(ca))
    context.set_alpn_protocols(["h2"])
    host, port = address.split(":")
    with (
        socket.create_connection((host, int(port)), 10) as plain,
        context.wrap_socket(plain, server_hostname=host) as s,
    ):
        found = s.getpeercert()
        assert found is not None
        return int(str(found["serialNumber"]), 16)


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("ca"))


@pytest.fixture(scope="module")
def stranger(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("other"))


@pytest.fixture(scope="module", params=TRANSPORTS)
def secured(
    request: pytest.FixtureRequest, authority: Authority, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Served]:
    """Its certificate is right."""
    folder = tmp_path_factory.mktemp("tls")
    arguments = [str(models.scale(folder)), f"--transport={request.param}", *authority.options("server", HOST), F32]
    with Served(arguments, folder / "log") as served:
        yield served
        assert served.stop() == 0
        assert " ERROR " not in served.log
        assert "WARNING" not in served.log


@pytest.fixture(scope="module", params=TRANSPORTS)
def mutual(
    request: pytest.FixtureRequest, authority: Authority, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Served]:
    """It asks for certificates of clients."""
    folder = tmp_path_factory.mktemp("mutual")
    options = [*authority.options("mutual", HOST), f"--tls-ca={authority.file}", f"--transport={request.param}"]
    with Served([str(models.scale(folder)), *options, F32], folder / "log") as served:
        yield served
        assert served.stop() == 0
        assert " ERROR " not in served.log


class TestTheServersCertificate:
    def test_a_right_one_is_served_to_those_who_trust_its_ca(self, secured: Served, authority: Authority) -> None:
        assert infer(secured.address, authority.file) == 3
        assert infer(secured.address, Tls(ca=authority.file.read_bytes())) == 3

    def test_it_is_not_reached_in_plain_text(self, secured: Served) -> None:
        assert "may want TLS" in refusal(secured.address, None)

    def test_a_client_with_another_ca_does_not_trust_it(self, secured: Served, stranger: Authority) -> None:
        for tls in (stranger.file, True):
            assert refusal(secured.address, tls).endswith("the server's certificate is not trusted")

    def test_one_for_another_name_is_refused(self, serve: Serve, authority: Authority, tmp_path: Path) -> None:
        served = serve(models.scale(tmp_path), *authority.options("named", "models.example"))
        assert refusal(served.address, authority.file).endswith("the server's certificate is for another name")
        assert infer(served.address, Tls(ca=authority.file, server_name="models.example")) == 3

    def test_one_that_has_expired_is_refused(self, serve: Serve, authority: Authority, tmp_path: Path) -> None:
        served = serve(models.scale(tmp_path), *authority.options("expired", HOST, expired=True))
        assert refusal(served.address, authority.file).endswith("the server's certificate is not trusted")


class TestTheClientsCertificate:
    def test_a_right_one_reaches_the_server(self, mutual: Served, authority: Authority) -> None:
        assert infer(mutual.address, authority.client("camera.example")) == 3

    def test_none_does_not(self, mutual: Served, authority: Authority) -> None:
        assert "may want a client certificate" in refusal(mutual.address, authority.file)

    def test_one_of_another_ca_does_not(self, mutual: Served, authority: Authority, stranger: Authority) -> None:
        other = stranger.client("camera.example")
        tls = Tls(ca=authority.file, certificate=other.certificate, key=other.key)
        assert "may want a client certificate" in refusal(mutual.address, tls)

    def test_one_that_has_expired_does_not(self, mutual: Served, authority: Authority) -> None:
        assert "may want a client certificate" in refusal(
            mutual.address, authority.client("late.example", expired=True)
        )

    def test_those_that_are_refused_do_not_harm_an_open_stream(self, mutual: Served, authority: Authority) -> None:
        tls = authority.client("camera.example")
        with blocking.connect(mutual.address, tls=tls) as server, server.stream() as stream:
            for _ in range(3):
                refusal(mutual.address, authority.file)
                assert stream.submit("scale", {"x": np.zeros(1, np.float32)}).result()["y"].tolist() == [1]


class Replaceable:
    """A server whose certificate and key are replaced."""

    def __init__(self, served: Served, authority: Authority) -> None:
        self.served, self.address = served, served.address
        self.authority = authority
        self.certificate, self.key = (authority.file.with_name(f"replaced.{end}") for end in ("pem", "key"))

    def count(self, text: str) -> int:
        return self.served.log.count(text)

    def renew(self) -> None:
        """New files, which the server takes."""
        taken = self.count(TAKEN)
        self.authority.issue("replaced", HOST)
        self.served.wait_until_logged(TAKEN, taken + 1)

    @property
    def number(self) -> int:
        """That of the certificate which a new connection is shown."""
        return shown_number(self.address, self.authority.file)


@pytest.fixture(scope="module", params=TRANSPORTS)
def replaceable(
    request: pytest.FixtureRequest, authority: Authority, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Replaceable]:
    folder = tmp_path_factory.mktemp("replaced")
    options = [*authority.options("replaced", HOST), f"--transport={request.param}"]
    with Served([str(models.scale(folder)), *options, F32], folder / "log") as served:
        yield Replaceable(served, authority)
        assert served.stop() == 0
        assert " ERROR " not in served.log


class TestReplacing:
    def test_new_connections_get_the_new_certificate_and_streams_live_on(
        self, replaceable: Replaceable, authority: Authority
    ) -> None:
        warnings = replaceable.count("WARNING")
        with blocking.connect(replaceable.address, tls=authority.file) as server, server.stream() as stream:
            for _ in range(3):
                before = replaceable.number
                replaceable.renew()
                assert replaceable.number != before
                assert infer(replaceable.address, authority.file) == 3
                assert stream.submit("scale", {"x": np.zeros(1, np.float32)}).result()["y"].tolist() == [1]
        assert replaceable.count("WARNING") == warnings

    @pytest.mark.parametrize(
        ("spoil", "why"),
        [
            (lambda cert, _key: cert.write_text("no certificate"), "there is no PEM block 'CERTIFICATE'"),
            (lambda cert, _key: cert.write_bytes(cert.read_bytes()[:-200]), "cannot be used"),
            (lambda _cert, key: key.unlink(), "No such file or directory"),
        ],
        ids=["no PEM", "cut short", "gone"],
    )
    def test_what_cannot_be_used_leaves_the_old_ones_with_one_line(
        self, replaceable: Replaceable, authority: Authority, spoil: Callable[[Path, Path], object], why: str
    ) -> None:
        before, kept, lines = replaceable.number, replaceable.count(KEPT), replaceable.count(why)
        spoil(replaceable.certificate, replaceable.key)
        assert why in replaceable.served.wait_until_logged(KEPT, kept + 1).splitlines()[-1]
        assert replaceable.number == before
        assert infer(replaceable.address, authority.file) == 3
        replaceable.renew()
        assert replaceable.number != before
        # Of the new files, the certificate may have been seen before its key, which is another line.
        assert replaceable.count(why) == lines + 1

    def test_a_key_that_comes_later_than_its_certificate_is_waited_for(
        self, replaceable: Replaceable, authority: Authority, tmp_path: Path
    ) -> None:
        elsewhere = Authority(tmp_path / "elsewhere")
        certificate, key = elsewhere.issue("other", HOST)
        kept, taken = replaceable.count(KEPT), replaceable.count(TAKEN)
        shutil.copy(certificate, replaceable.certificate)
        assert "does not belong to the certificate" in replaceable.served.wait_until_logged(KEPT, kept + 1)
        assert infer(replaceable.address, authority.file) == 3
        shutil.copy(key, replaceable.key)
        replaceable.served.wait_until_logged(TAKEN, taken + 1)
        assert infer(replaceable.address, elsewhere.file) == 3
        replaceable.renew()

    def test_a_file_that_is_being_written_is_not_taken(self, replaceable: Replaceable, authority: Authority) -> None:
        """It is written for longer than it takes to look a few times. What is there is no certificate meanwhile."""
        certificate, key = authority.issue("next", HOST)
        before, taken = replaceable.number, replaceable.count(TAKEN)
        with replaceable.certificate.open("wb", buffering=0) as file:
            content = certificate.read_bytes()
            for at in range(0, len(content), 64):
                file.write(content[at : at + 64])
                time.sleep(0.05)
            assert replaceable.number == before
            assert replaceable.count(TAKEN) == taken
        os.replace(key, replaceable.key)
        replaceable.served.wait_until_logged(TAKEN, taken + 1)
        assert infer(replaceable.address, authority.file) == 3
        assert replaceable.number != before

    def test_the_ca_of_clients_is_replaced_too(
        self, serve: Serve, authority: Authority, stranger: Authority, tmp_path: Path
    ) -> None:
        trusted = tmp_path / "trusted.pem"
        shutil.copy(authority.file, trusted)
        served = serve(models.scale(tmp_path), *authority.options("both", HOST), f"--tls-ca={trusted}")
        ours, theirs = authority.client("a.example"), stranger.client("b.example")
        theirs = Tls(ca=authority.file, certificate=theirs.certificate, key=theirs.key)
        assert infer(served.address, ours) == 3
        refusal(served.address, theirs)
        os.replace(shutil.copy(stranger.file, tmp_path / "new"), trusted)
        served.wait_until_logged(TAKEN)
        assert infer(served.address, theirs) == 3
        refusal(served.address, ours)


class TestStarting:
    def test_what_does_not_fit_together_ends_the_start_with_one_sentence(
        self, authority: Authority, tmp_path: Path
    ) -> None:
        certificate, key = authority.issue("start", HOST)
        _, other = authority.issue("other", HOST)
        for options, sentence in (
            ([f"--tls-key={key}"], "--tls-key needs --tls-cert: a certificate and its key belong together"),
            (
                [f"--tls-cert={certificate}", f"--tls-key={other}"],
                f"the key in {other} does not belong to the certificate in {certificate}",
            ),
        ):
            ended = run_server(str(models.scale(tmp_path)), *options)
            assert (ended.returncode, ended.stdout, ended.stderr) == (2, "", f"headrace-server: {sentence}\n")

    def test_a_key_that_everybody_may_read_warns(self, serve: Serve, authority: Authority, tmp_path: Path) -> None:
        """The files are named in the environment, and in a file beside them."""
        certificate, key = authority.issue("open", HOST)
        key.chmod(0o644)
        file = authority.file.with_name("server.toml")
        file.write_text("[server]\ntls_cert = 'open.pem'\n")
        env = {"HEADRACE_TLS_KEY": str(key), "HEADRACE_CONFIG": str(file)}
        served = serve(models.scale(tmp_path), env=env)
        assert f"every user of this machine may read the key in {key}" in served.log
        assert infer(served.address, authority.file) == 3
        assert certificate.exists()

    def test_a_host_with_two_addresses_is_encrypted_on_both(
        self, serve: Serve, authority: Authority, tmp_path: Path
    ) -> None:
        for transport in TRANSPORTS:
            options = authority.options("two", "localhost", "127.0.0.1", "::1")
            served = serve(models.scale(tmp_path), *options, "--host=localhost", f"--transport={transport}")
            port = served.address.rpartition(":")[2]
            assert infer(served.address, authority.file) == 3
            assert infer(f"{HOST}:{port}", authority.file) == 3

    def test_a_socket_is_encrypted_too(self, serve: Serve, authority: Authority, tmp_path: Path) -> None:
        options = authority.options("socket", "localhost")
        served = serve(models.scale(tmp_path), *options, f"--host=unix:{tmp_path}/s")
        assert infer(served.address, Tls(ca=authority.file, server_name="localhost")) == 3
