"""Who has sent a request, as the log and traces name them. This is the only place that knows."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from typing import Protocol

from headrace.server.core.clients import Client


class Caller(Protocol):
    """A call, as far as it says who made it. `client` is a Client if an identity is known."""

    client: Hashable

    @property
    def peer(self) -> Callable[[], str]: ...


def caller_fields(call: Caller) -> dict[str, str]:
    """The address of the client, and its identity if it has proven one."""
    fields = {"peer": call.peer()}
    if isinstance(call.client, Client):
        fields["identity"] = call.client.name
    return fields
