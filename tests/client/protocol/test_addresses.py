"""Targets are taken apart, and what cannot be right is refused with the cause and what to write."""

import pytest

from headrace.client.protocol.addresses import addresses_of


@pytest.mark.parametrize(
    ("target", "found"),
    [
        ("127.0.0.1:8001", ["127.0.0.1:8001"]),
        ("a:8001,b:8001", ["a:8001", "b:8001"]),
        (" a:8001 , b:8001,a:8001", ["a:8001", "b:8001"]),
        ("[::1]:8001", ["[::1]:8001"]),
        ("[fe80::1%eth0]:8001", ["[fe80::1%eth0]:8001"]),
        ("unix:/run/headrace.sock", ["unix:/run/headrace.sock"]),
        ("unix:///run/headrace.sock", ["unix:///run/headrace.sock"]),
        ("unix:relative", ["unix:relative"]),
        ("unix-abstract:name", ["unix-abstract:name"]),
        ("dns:///models.example:8001", ["dns:///models.example:8001"]),
        ("dns:models.example:8001", ["dns:models.example:8001"]),
        ("dns://1.1.1.1/models.example:8001", ["dns://1.1.1.1/models.example:8001"]),
        ("ipv4:10.0.0.1:80,10.0.0.2:80", ["ipv4:10.0.0.1:80", "10.0.0.2:80"]),
        ("dns:8001", ["dns:8001"]),  # a host of this name
        ("xds:///models", ["xds:///models"]),
    ],
)
def test_addresses_are_found(target: str, found: list[str]) -> None:
    assert [address.target for address in addresses_of(target)] == found


@pytest.mark.parametrize(
    ("target", "sentence"),
    [
        ("127.0.0.1", "'127.0.0.1' has no port; write HOST:PORT, for example 127.0.0.1:8001"),
        ("models.example", "'models.example' has no port; write HOST:PORT, for example models.example:8001"),
        ("[::1]", r"'\[::1\]' has no port; write HOST:PORT, for example \[::1\]:8001"),
        ("host:", "'host:' has no port after 'host'"),
        ("host:http", "'host:http' has 'http' for a port, which is not a number"),
        ("host:0", "'host:0': the port must be between 1 and 65535"),
        ("host:65536", "between 1 and 65535"),
        (":8001", "':8001' has no host; write HOST:PORT, for example 127.0.0.1:8001"),
        ("::1:8001", r"IPv6 address without brackets; write \[ADDRESS\]:PORT, for example \[::1\]:8001"),
        ("http://localhost:8001", "is a URL; write HOST:PORT, for example localhost:8001$"),
        ("http://localhost:8001/v2", "is a URL; write HOST:PORT, for example localhost:8001$"),
        ("https://models.example", "is a URL; write HOST:PORT, for example models.example:8001 with tls=True"),
        ("grpc://a:1", "is a URL; write HOST:PORT, for example a:1"),
        ("tcp://[::1", "is a URL; write HOST:PORT"),
        ("a host:8001", "'a host:8001' is not an address; write HOST:PORT"),
        ("a:8001/path", "is not an address"),
        ("user@host:8001", "is not an address"),
        ("", "the target is empty; write HOST:PORT"),
        ("a:8001,", "the target has an empty address: 'a:8001,'"),
        ("a:8001,b", "'b' has no port"),
        ("dns:///models.example", "'dns:///models.example' has no port; write HOST:PORT"),
        ("unix:", "'unix:' names no socket"),
        ("unix:/" + "long/" * 30, "takes at most 107 bytes"),
    ],
)
def test_what_cannot_be_right_is_refused_with_what_to_write(target: str, sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence) as refused:
        addresses_of(target)
    assert "\n" not in str(refused.value)


def test_a_target_is_a_str() -> None:
    with pytest.raises(TypeError, match="must be a str"):
        addresses_of(8001)  # type: ignore[arg-type]  # what a user may write


@pytest.mark.parametrize(
    ("target", "local"),
    [
        ("127.0.0.1:1", True),
        ("127.1.2.3:1", True),
        ("localhost:1", True),
        ("LOCALHOST:1", True),
        ("my.localhost:1", True),
        ("0.0.0.0:1", True),
        ("[::1]:1", True),
        ("dns:///localhost:1", True),
        ("ipv4:127.0.0.1:1", True),
        ("unix:/s", True),
        ("10.0.0.1:1", False),
        ("localhost.example:1", False),
        ("127.0.0.1.example:1", False),
        ("[2001:db8::1]:1", False),
    ],
)
def test_addresses_of_this_machine_are_known(target: str, local: bool) -> None:
    (address,) = addresses_of(target)
    assert address.local is local


def test_only_names_of_dns_stand_for_several_servers() -> None:
    assert [address.spread for address in addresses_of("a:1,dns:///a:1,unix:/a")] == [False, True, False]
