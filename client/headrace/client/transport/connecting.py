"""Waiting until a channel is connected, and why it is not."""

from __future__ import annotations

import asyncio
import os
from typing import NamedTuple

import grpc
import grpc.aio

from headrace.client.protocol.addresses import Address
from headrace.client.protocol.connection_settings import ConnectionSettings
from headrace.client.protocol.timeouts import clock_seconds
from headrace.client.transport.channel import Channel
from headrace.client.transport.rpc_errors import cancelled_from_outside
from headrace.wire.errors import Cancelled, Unavailable

_State = grpc.ChannelConnectivity
_PROBE = "/grpc.health.v1.Health/Check"
"""Any call serves to ask gRPC why it does not connect. This one does no harm should it reach a server after all."""
_PROXIES = ("grpc_proxy", "https_proxy", "http_proxy")
"""The variables of the environment that gRPC reads, the first first."""
_EXCLUSIONS = ("no_grpc_proxy", "no_proxy")


class Reason(NamedTuple):
    """Why a channel does not connect. `final`: waiting longer does not help."""

    text: str
    final: bool


_REASONS = (
    ("Domain name not found", Reason("the host is unknown", final=True)),
    ("Misformatted domain name", Reason("the host is unknown", final=True)),
    ("Failed to parse port", Reason("gRPC cannot use the address", final=True)),
    ("address lookup failed", Reason("the host cannot be looked up", final=False)),
    ("errors resolving", Reason("the host cannot be looked up", final=False)),
    ("DNS resolution failed", Reason("the host cannot be looked up", final=False)),
    ("target uri is not valid", Reason("gRPC cannot use the address", final=True)),
    ("Hostname Verification Check failed", Reason("the server's certificate is for another name", final=True)),
    ("CERTIFICATE_VERIFY_FAILED", Reason("the server's certificate is not trusted", final=True)),
    ("WRONG_VERSION_NUMBER", Reason("the server does not speak TLS", final=True)),
    ("security handshaker", Reason("the CA, the certificate or its key cannot be used", final=True)),
    ("handshake failed", Reason("the TLS handshake failed", final=False)),
    ("HTTP proxy returned", Reason("the proxy refused", final=True)),
    ("Connection refused", Reason("the connection was refused", final=False)),
    ("No such file or directory", Reason("there is no such socket", final=False)),
    ("Permission denied", Reason("permission was denied", final=True)),
    ("timed out", Reason("the connection timed out", final=False)),
    ("unreachable", Reason("the network is unreachable", final=False)),
    ("Socket closed", Reason("the connection is closed as soon as it is opened", final=False)),
    ("reset by peer", Reason("the connection is closed as soon as it is opened", final=False)),
)
"""What gRPC says, in part, and what it means. The first that fits counts; what fits none is shown as gRPC says it."""


async def wait_connected(
    channel: Channel, settings: ConnectionSettings, address: Address, timeout: float, *, once: bool = False
) -> None:
    """Wait until the channel is connected.

    Raises Unavailable with the cause: at once if waiting cannot help or one attempt is enough (`once`), else after
    `timeout` seconds. Raises Cancelled if the channel is closed.
    """
    state = channel.get_state(try_to_connect=True)
    if state is _State.READY:
        return
    reason: Reason | None = None
    try:
        async with asyncio.timeout(clock_seconds(timeout)):
            while state is not _State.READY:
                if state is _State.TRANSIENT_FAILURE:
                    reason = await _reason(channel, secure=settings.tls is not None)
                    if reason is None:
                        return
                    if reason.final or once:
                        raise Unavailable(f"no server answers at {address}: {reason.text}{_through_proxy(address)}")
                await channel.wait_for_state_change(state)
                state = channel.get_state(try_to_connect=True)
    except TimeoutError:
        why = "" if reason is None else f": {reason.text}"
        tried = f"tried for {round(timeout, 2):g} s"
        raise Unavailable(f"no server answers at {address} ({tried}){why}{_through_proxy(address)}") from None
    except grpc.aio.UsageError:
        raise Cancelled("the connection was closed") from None


async def _reason(channel: Channel, *, secure: bool) -> Reason | None:
    """Why the last attempt failed; None if the channel has connected meanwhile."""
    probe = channel.unary_unary(_PROBE)
    try:
        await probe(b"", timeout=1)
    except grpc.aio.AioRpcError as error:
        details = error.details() or ""
        reason = explain(details)
        if reason is None:
            return None
    except asyncio.CancelledError:
        if cancelled_from_outside():
            raise
        raise Cancelled("the connection was closed") from None
    else:
        return None
    text = reason.text
    if text.startswith("the connection is closed"):
        text += " (it may want a client certificate)" if secure else " (it may want TLS)"
    return Reason(text, reason.final)


def explain(details: str) -> Reason | None:
    """The reason in the details of a call that gRPC failed; None for those of a call that a server answered."""
    for sign, reason in _REASONS:
        if sign in details:
            return reason
    if "failed to connect" not in details:
        return None
    return Reason(details.rpartition("last error: ")[2], final=False)


def _through_proxy(address: Address) -> str:
    """Which proxy of the environment gRPC connects through, in words."""
    if address.local:
        return ""
    name = next((name for name in _PROXIES if os.environ.get(name)), None)
    if name is None:
        return ""
    host = address.target.rpartition("/")[2].rpartition(":")[0].strip("[]")
    excluded = next((value for exclusion in _EXCLUSIONS if (value := os.environ.get(exclusion))), "")
    if any(host.endswith(part.strip()) for part in excluded.split(",") if part.strip()):
        return ""
    return f" (through the proxy that {name} names; no_proxy={host} avoids it)"
