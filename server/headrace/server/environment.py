"""The environment variables of the server: which there are, and which only look like one of them."""

from __future__ import annotations

import re
import sys
from collections.abc import Mapping, MutableMapping
from dataclasses import fields
from difflib import get_close_matches

from headrace.server.settings import Settings

PREFIX = "HEADRACE_"
VARIABLES = frozenset(
    {f"{PREFIX}CONFIG", f"{PREFIX}LENIENT", *(f"{PREFIX}{field.name.upper()}" for field in fields(Settings))}
)
_OF_THE_CLIENT = frozenset({f"{PREFIX}TOKEN", f"{PREFIX}CLIENT_TRANSPORT"})
_ADDRESS = re.compile(r"(tcp|udp|sctp)://")
_SERVICE_LINK = re.compile(rf"{PREFIX}(\w+_)?(SERVICE_(HOST|PORT(_\w+)?)|PORT_\d+_(TCP|UDP|SCTP)(_\w+)?)")
"""What Kubernetes sets in every pod beside a service whose name begins with headrace."""


def ignore_service_links(environment: MutableMapping[str, str]) -> None:
    """Remove the variables of ports that are addresses, and say so.

    Kubernetes sets them like that in every pod beside a service that is called headrace, or headrace-metrics. The port
    of the service need not be that of the server.
    """
    for service, option in (("headrace", "--port"), ("headrace-metrics", "--metrics-port")):
        name = PREFIX + option[2:].replace("-", "_").upper()
        if _ADDRESS.match(environment.get(name, "")):
            address = environment.pop(name)
            print(
                f"headrace-server: {name}={address} is ignored: Kubernetes sets it for the service {service}. "
                f"Use {option}, or set enableServiceLinks to false in the pod.",
                file=sys.stderr,
            )


def unknown_variables(environment: Mapping[str, str]) -> list[str]:
    """The variables that begin like those of the server and have no effect, each with the one that it resembles."""
    found = []
    for name, value in sorted(environment.items()):
        if not name.startswith(PREFIX) or name in VARIABLES | _OF_THE_CLIENT:
            continue
        if _SERVICE_LINK.fullmatch(name) or _ADDRESS.match(value):
            continue
        close = get_close_matches(name[:80], VARIABLES, 1, 0.8)
        found.append(f"{name} (did you mean {close[0]}?)" if close else name)
    return found
