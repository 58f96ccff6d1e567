"""Who has sent a request, as the log and traces name them. This is the only place that knows."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol


class Caller(Protocol):
    """A call, as far as it says who made it."""

    @property
    def peer(self) -> Callable[[], str]: ...


def caller_fields(call: Caller) -> dict[str, str]:
    """The address of the client, and its identity if it has proven one."""
    fields = {"peer": call.peer()}
    if identity := getattr(call, "identity", None):
        fields["identity"] = str(identity)
    return fields
