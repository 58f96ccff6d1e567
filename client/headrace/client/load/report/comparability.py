"""In what two runs were not measured alike, so that comparing them says something else as well. Pure."""

from __future__ import annotations

from collections.abc import Callable

from headrace.client.load.planning.phases import Phase
from headrace.client.load.record.run import Run, RunSettings
from headrace.client.load.report.summary import load_text
from headrace.client.terminal.printing import printable
from headrace.wire.errors import quote

MAX_VALUE_CHARACTERS = 60
MAX_LOADS = 3
# Servers are compared all the time, and so are the moments: target, server and started are not in this list. Neither
# are the seed and the number of processes of the client, which change nothing that a server sees.
CONDITIONS: dict[str, Callable[[RunSettings], str]] = {
    "model": lambda settings: settings.model,
    "version": lambda settings: settings.version or "the server's choice",
    "inputs": lambda settings: "; ".join(settings.inputs) or "none",
    "outputs": lambda settings: "all" if settings.outputs is None else ", ".join(settings.outputs) or "none",
    "keep": lambda settings: ", ".join(settings.keep) or "none",
    "protocol": lambda settings: f"{settings.protocol} {settings.mode}",
    "streams": lambda settings: str(settings.streams),
    "window": lambda settings: str(settings.window),
    "timeout": lambda settings: "none" if settings.timeout is None else f"{settings.timeout:g} s",
    "priority": lambda settings: str(settings.priority),
    "client": lambda settings: settings.client,
    "CPUs of the client": lambda settings: str(settings.cpus),
    "search": lambda settings: settings.search or "none",
}


def unlike(first: Run, other: Run) -> list[str]:
    """Each condition of the other run that is not that of the first: `model resnet18, not resnet50`."""
    values = {name: (value(first.settings), value(other.settings)) for name, value in CONDITIONS.items()}
    if first.settings.search is None and other.settings.search is None:
        values |= {"loads": (_loads(first), _loads(other)), "duration": (_spans(first), _spans(other))}
    return [f"{name} {_short(theirs)}, not {_short(ours)}" for name, (ours, theirs) in values.items() if ours != theirs]


def _loads(run: Run) -> str:
    loads = list(dict.fromkeys(load_text(outcome.phase.load) for outcome in run.outcomes))
    more = len(loads) - MAX_LOADS
    return ", ".join(loads[:MAX_LOADS]) + (f" and {more} more" if more > 0 else "")


def _spans(run: Run) -> str:
    return ", ".join(dict.fromkeys(_span(outcome.phase) for outcome in run.outcomes))


def _span(phase: Phase) -> str:
    return f"{phase.count or 0:,} requests" if phase.duration is None else f"{phase.duration:g} s"


def _short(value: str) -> str:
    """Text that a person may have written, on one line and not too long."""
    shown = printable(value)
    return shown if len(shown) <= MAX_VALUE_CHARACTERS else quote(shown, MAX_VALUE_CHARACTERS)
