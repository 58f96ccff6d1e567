"""What `--host` and `--port` may be: each form is served, or one sentence names the cause."""

from __future__ import annotations

import os
import re
import signal
import socket
import stat
import subprocess
import sys
from pathlib import Path
from typing import ClassVar

import numpy as np
import pytest

import headrace.client.blocking as blocking
from headrace.server.transport.addresses import addresses_to_bind
from tests import models
from tests.e2e.serving import Serve, Served, run_server

ONE = np.ones(1, np.float32)


def has_ipv6() -> bool:
    try:
        with socket.socket(socket.AF_INET6) as probe:
            probe.bind(("::1", 0))
    except OSError:
        return False
    return True


def localhost_is_both() -> bool:
    found = {address[4][0] for address in socket.getaddrinfo("localhost", 0, type=socket.SOCK_STREAM)}
    return has_ipv6() and found == {"127.0.0.1", "::1"}


needs_ipv6 = pytest.mark.skipif(not has_ipv6(), reason="this machine has no IPv6")
needs_both = pytest.mark.skipif(not localhost_is_both(), reason="localhost is not both 127.0.0.1 and ::1")


def answers(address: str) -> bool:
    with blocking.connect(address, connect_timeout=30) as server:
        return bool(server.infer("scale", {"x": ONE})["y"].tolist() == [3])


def cause(model: Path, *arguments: str, code: int = 4) -> str:
    """The one sentence that a server ends with that cannot listen."""
    ended = run_server(str(model), *arguments)
    assert ended.returncode == code, ended.stderr
    assert ended.stdout == ""
    *before, sentence = ended.stderr.splitlines()
    assert all(" INFO " in line for line in before), ended.stderr
    assert sentence.startswith("headrace-server: cannot listen on ")
    return sentence.removeprefix("headrace-server: cannot listen on ")


@pytest.mark.parametrize(
    ("host", "shown", "client"),
    [
        ("127.0.0.1", "127.0.0.1", "127.0.0.1"),
        ("0.0.0.0", "0.0.0.0", "127.0.0.1"),
        ("localhost", "localhost", "localhost"),
        pytest.param("::1", "[::1]", "[::1]", marks=needs_ipv6),
        pytest.param("[::1]", "[::1]", "[::1]", marks=needs_ipv6),
        pytest.param("::", "[::]", "127.0.0.1", marks=needs_ipv6),
        pytest.param("::", "[::]", "[::1]", marks=needs_ipv6),
        pytest.param("0:0:0:0:0:0:0:1", "[0:0:0:0:0:0:0:1]", "[::1]", marks=needs_ipv6),
    ],
)
def test_a_host_is_served(serve: Serve, tmp_path: Path, host: str, shown: str, client: str) -> None:
    served = serve(str(models.scale(tmp_path)), f"--host={host}")
    name, _, port = served.address.rpartition(":")
    assert name == shown
    assert answers(f"{client}:{port}")


@needs_both
def test_all_addresses_of_a_name_are_served(serve: Serve, tmp_path: Path) -> None:
    served = serve(str(models.scale(tmp_path)), "--host=localhost")
    port = served.address.rpartition(":")[2]
    assert answers(f"127.0.0.1:{port}")
    assert answers(f"[::1]:{port}")


@pytest.mark.parametrize("taken", ["127.0.0.1", pytest.param("::1", marks=needs_both)])
def test_a_name_is_not_served_if_one_of_its_addresses_is_taken(tmp_path: Path, taken: str) -> None:
    """Otherwise some clients of localhost would reach another server."""
    with socket.socket(socket.AF_INET6 if ":" in taken else socket.AF_INET) as other:
        other.bind((taken, 0))
        other.listen()
        port = other.getsockname()[1]
        assert (
            cause(models.scale(tmp_path), "--host=localhost", f"--port={port}")
            == f"localhost:{port}: port {port} of {taken} is already in use"
        )


@needs_both
def test_a_free_port_is_free_on_all_addresses(tmp_path: Path) -> None:
    """Whatever port the first address gets, it is taken on the second, now and then."""
    for _ in range(50):
        addresses = addresses_to_bind("localhost", 0)
        ports = {target.rpartition(":")[2] for target in addresses.targets}
        assert len(addresses.targets) == 2
        assert len(ports) == 1
        assert addresses.shown == f"localhost:{ports.pop()}"


@pytest.mark.parametrize(
    ("host", "because"),
    [
        ("192.0.2.1", "192.0.2.1:8001: this machine does not have the address 192.0.2.1"),
        pytest.param(
            "2001:db8::1", r"\[2001:db8::1\]:8001: this machine does not have the address 2001:db8::1", marks=needs_ipv6
        ),
        ("no-such-host.invalid", r"no-such-host.invalid:8001: no-such-host.invalid cannot be resolved \(.+\)"),
        ("unix:/no/such/folder/socket", "unix:/no/such/folder/socket: No such file or directory"),
        ("unix:/" + "x" * 200, "unix:/x+: AF_UNIX path too long"),
    ],
)
def test_an_address_that_cannot_be_had_is_one_sentence(tmp_path: Path, host: str, because: str) -> None:
    sentence = cause(models.scale(tmp_path), f"--host={host}", "--port=8001")
    assert re.fullmatch(because, sentence), sentence


def test_an_address_in_use_is_one_sentence(serve: Serve, tmp_path: Path) -> None:
    model = models.scale(tmp_path)
    port = serve(str(model)).address.rpartition(":")[2]
    taken = f"port {port} of 127.0.0.1 is already in use"
    assert cause(model, f"--port={port}") == f"127.0.0.1:{port}: {taken}"
    assert cause(model, f"--port={port}", "--host=0.0.0.0").endswith("is already in use")


class TestOptionsThatCannotBe:
    @pytest.mark.parametrize(
        ("option", "because"),
        [
            ("--host=", "is not a host name or an address"),
            ("--host=a b", "is not a host name or an address"),
            ("--host=http://here", "is not a host name or an address"),
            ("--host=127.0.0.1:8001", "the port is an option of its own"),
            ("--host=[::1]:8001", "is not an IPv6 address in brackets"),
            ("--host=[::1", "is not an IPv6 address in brackets"),
            ("--host=unix:", "does not name a socket"),
            ("--host=unix:/a,b", "gRPC does not find a socket whose path has a comma"),
            ("--max-message-bytes=3GiB", "gRPC takes messages of at most 2147483647 bytes, one less than 2GiB"),
            ("--memory=0", "a budget has at least 1MiB"),
            ("--memory=1023KiB", "a budget has at least 1MiB"),
            ("--memory=99999999999GiB", "a budget has at least 1MiB and at most"),
            ("--max-message-bytes=2GiB", "gRPC takes messages of at most 2147483647 bytes, one less than 2GiB"),
            ("--keep-bytes=99999999999GiB", "9223372036854775807"),
            ("--port=tcp://10.0.0.1:8001", "tcp://10.0.0.1:8001"),
        ],
    )
    def test_they_are_named_with_the_cause(self, tmp_path: Path, option: str, because: str) -> None:
        ended = run_server("model.xml", option)
        assert ended.returncode == 2
        said = ended.stdout + ended.stderr
        assert because in said
        assert option.partition("=")[0] in said
        assert "Traceback" not in said

    def test_the_largest_message_is_served(self, serve: Serve, tmp_path: Path) -> None:
        served = serve(str(models.scale(tmp_path)), "--max-message-bytes=2147483647")
        assert answers(served.address)


class TestServiceLinks:
    """Kubernetes describes each service of the namespace in the environment, in variables of the service's name."""

    LINKS: ClassVar = {
        "HEADRACE_SERVICE_HOST": "10.0.0.1",
        "HEADRACE_SERVICE_PORT": "8001",
        "HEADRACE_SERVICE_PORT_GRPC": "8001",
        "HEADRACE_PORT": "tcp://10.0.0.1:8001",
        "HEADRACE_METRICS_PORT": "tcp://10.0.0.2:9464",
        "HEADRACE_PORT_8001_TCP": "tcp://10.0.0.1:8001",
        "HEADRACE_PORT_8001_TCP_PROTO": "tcp",
        "HEADRACE_PORT_8001_TCP_PORT": "8001",
        "HEADRACE_PORT_8001_TCP_ADDR": "10.0.0.1",
    }

    def test_they_are_ignored_with_a_warning(self, serve: Serve, tmp_path: Path) -> None:
        served = serve(str(models.scale(tmp_path)), env=self.LINKS)
        assert answers(served.address)
        assert served.log.count("HEADRACE_PORT") == 1
        assert "HEADRACE_PORT=tcp://10.0.0.1:8001 is ignored: Kubernetes sets it" in served.log
        assert "HEADRACE_METRICS_PORT=tcp://10.0.0.2:9464 is ignored: Kubernetes sets it" in served.log

    def test_a_port_in_the_environment_is_still_one(self, tmp_path: Path) -> None:
        command = [sys.executable, "-m", "headrace.server", str(models.scale(tmp_path))]
        env = {**os.environ, "HEADRACE_PORT": "0"}
        with subprocess.Popen(command, stdout=subprocess.PIPE, env=env, text=True) as server:
            assert server.stdout is not None
            assert "ready on 127.0.0.1:" in server.stdout.readline()
            server.kill()


class TestSockets:
    """`--host unix:PATH`."""

    def test_a_socket_is_served_and_removed(self, serve: Serve, tmp_path: Path) -> None:
        path = tmp_path / "the socket? 100% ü #"
        served = serve(str(models.scale(tmp_path)), f"--host=unix:{path}")
        assert answers(served.address)
        assert stat.S_ISSOCK(path.stat().st_mode)
        listed = subprocess.run(
            [sys.executable, "-m", "headrace.client", "models", served.address],
            capture_output=True,
            text=True,
            timeout=30,
            check=True,
        )
        assert "scale" in listed.stdout
        assert served.stop() == 0
        assert not path.exists()

    def test_the_socket_of_a_server_that_has_ended_is_replaced(self, serve: Serve, tmp_path: Path) -> None:
        model, option = str(models.scale(tmp_path)), f"--host=unix:{tmp_path}/socket"
        assert serve(model, option).stop(signal.SIGKILL) == -signal.SIGKILL
        assert (tmp_path / "socket").exists()
        assert answers(serve(model, option).address)

    def test_a_relative_path_is_shown_as_an_absolute_one(self, tmp_path: Path) -> None:
        command = [sys.executable, "-m", "headrace.server", str(models.scale(tmp_path)), "--host=unix:socket"]
        with subprocess.Popen(command, stdout=subprocess.PIPE, cwd=tmp_path, text=True) as server:
            assert server.stdout is not None
            assert f"ready on unix:{tmp_path}/socket (1 model)" in server.stdout.readline()
            assert answers(f"unix:{tmp_path}/socket")
            server.kill()

    def test_the_socket_of_a_live_server_is_not_taken_over(self, serve: Serve, tmp_path: Path) -> None:
        model, option = models.scale(tmp_path), f"--host=unix:{tmp_path}/socket"
        served = serve(str(model), option)
        assert cause(model, option) == f"unix:{tmp_path}/socket: a server already listens there"
        assert answers(served.address)

    def test_a_server_that_accepts_nothing_is_alive_too(self, tmp_path: Path) -> None:
        with socket.socket(socket.AF_UNIX) as busy:
            busy.bind(str(tmp_path / "socket"))
            busy.listen(0)
            waiting = [socket.socket(socket.AF_UNIX) for _ in range(3)]
            for each in waiting:
                each.setblocking(False)
                each.connect_ex(str(tmp_path / "socket"))
            assert cause(models.scale(tmp_path), f"--host=unix:{tmp_path}/socket").endswith("already listens there")
            assert (tmp_path / "socket").exists()
            for each in waiting:
                each.close()

    def test_a_file_is_not_replaced(self, tmp_path: Path) -> None:
        (tmp_path / "file").write_text("precious")
        assert cause(models.scale(tmp_path), f"--host=unix:{tmp_path}/file").endswith(
            "the file exists and is not a socket"
        )
        assert (tmp_path / "file").read_text() == "precious"

    def test_an_abstract_socket_is_served_by_one_server(self, serve: Serve, tmp_path: Path) -> None:
        option = f"--host=unix-abstract:headrace-{os.getpid()}"
        served: Served = serve(str(models.scale(tmp_path)), option)
        assert answers(served.address)
        assert cause(models.scale(tmp_path), option).endswith("a server already listens there")
