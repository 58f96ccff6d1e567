"""Tokens, metadata and options come with each call, and secrets are shown nowhere."""

import itertools
from typing import Any

import numpy as np
import pytest

import headrace.client as hc
from tests.client.aio.scripted_server import CA, CERTIFICATE, KEY, ScriptedServer, status

X = np.arange(4, dtype=np.float32)


async def test_tokens_and_metadata_come_with_each_call(server: ScriptedServer) -> None:
    server.unary["ServerStatus"] = status
    server.automatic = True
    numbers = itertools.count(1)
    metadata: dict[str, str | bytes] = {"x-tenant": "blue", "x-raw-bin": b"\0\xff"}
    client = hc.connect(server.target, token=lambda: f"token-{next(numbers)}", metadata=metadata)
    async with client:
        await client.status()
        async with client.stream():
            pass
    assert [each["authorization"] for each in server.metadata] == ["Bearer token-1", "Bearer token-2"]
    assert all(each["x-tenant"] == "blue" and each["x-raw-bin"] == b"\0\xff" for each in server.metadata)


@pytest.mark.parametrize("token", ["", "two words", "line\n", "grüße"])
async def test_a_token_that_no_header_can_hold_is_refused_and_not_shown(server: ScriptedServer, token: str) -> None:
    with pytest.raises(ValueError, match="the token is empty, or has") as refused:
        hc.connect(server.target, token=token)
    assert not token or token not in str(refused.value)
    async with hc.connect(server.target, token=lambda: token) as client:
        with pytest.raises(ValueError, match="the token is empty, or has"):
            await client.status()
        with pytest.raises(ValueError, match="the token is empty, or has"):
            async with client.stream():
                pytest.fail("it was opened")


async def test_a_secret_is_in_no_repr() -> None:
    client = hc.connect(
        "127.0.0.1:1", token="s3cret", metadata={"x-key": "s3cret"}, tls=hc.Tls(certificate=CERTIFICATE, key=KEY)
    )
    assert "s3cret" not in repr(client._connection.settings) + repr(client)
    assert "PRIVATE" not in repr(client._connection.settings)


@pytest.mark.parametrize(
    ("metadata", "sentence"),
    [
        ({"Tenant": "a"}, "'Tenant' cannot be a key of metadata: lower-case"),
        ({"grpc-x": "a"}, "cannot be a key"),
        ({"x": "grüße"}, "must be a str of printable ASCII"),
        ({"x": b"raw"}, "must be a str of printable ASCII"),
        ([("x-bin", "text")], "must be bytes"),
    ],
)
def test_metadata_that_grpc_refuses_is_refused_at_once(metadata: Any, sentence: str) -> None:
    with pytest.raises((ValueError, TypeError), match=sentence):
        hc.connect("127.0.0.1:1", metadata=metadata)


@pytest.mark.parametrize("token", ["secret", lambda: "secret"])
async def test_a_token_goes_to_another_machine_in_plain_text_only_if_one_insists(token: Any) -> None:
    with pytest.raises(ValueError, match=r"the token would be sent to models\.example:1 in plain text") as refused:
        hc.connect("127.0.0.1:1,models.example:1", token=token)
    assert "secret" not in str(refused.value)
    for target, tls, insists in (
        ("127.0.0.1:1", None, False),
        ("unix:/run/s", None, False),
        ("models.example:1", CA, False),
        ("models.example:1", None, True),
    ):
        await hc.connect(target, token=token, tls=tls, plain_token=insists).close()


async def test_options_of_channels_are_passed_on(server: ScriptedServer) -> None:
    server.unary["ServerStatus"] = status
    for options in ({"grpc.primary_user_agent": "mine/1"}, [("grpc.primary_user_agent", "mine/1")]):
        async with hc.connect(server.target, options=options) as client:
            await client.status()
        assert str(server.metadata[-1]["user-agent"]).startswith("mine/1 ")
