"""What experiments have found, as a table for people and as JSON."""

from __future__ import annotations

import json
import os
import platform
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any

from headrace.server.version import BUILD
from tests.machine import commit, processor_name
from tests.soak.findings import Finding, Findings

PACKAGES = ("headrace", "grpcio", "openvino")


@dataclass(frozen=True, slots=True)
class Result:
    """`error` is what an experiment has failed with, other than by its bounds."""

    name: str
    title: str
    share: float
    transport: str
    seconds: float
    findings: Findings
    error: str = ""

    @property
    def holds(self) -> bool:
        return not self.error and not self.findings.broken()


def conditions() -> dict[str, Any]:
    """When, where, and of what."""
    return {
        "date": datetime.now(UTC).isoformat(timespec="minutes"),
        "commit": commit(),
        "machine": {"processor": processor_name(), "cores": len(os.sched_getaffinity(0))},
        "versions": {"python": platform.python_version()} | {name: metadata.version(name) for name in PACKAGES},
        "build": BUILD,
    }


def heading() -> str:
    said = conditions()
    machine, versions = said["machine"], said["versions"]
    numbers = ", ".join(f"{name} {version}" for name, version in versions.items())
    return f"{said['date']} · {machine['cores']} cores of {machine['processor']} · {numbers} ({said['build']})"


def table(result: Result) -> str:
    """One experiment: each line is what was counted, how many, and the bound."""
    size = "at full size" if result.share == 1 else f"at {result.share:.3g} of its size"
    lines = [
        f"{result.name}: {result.title}",
        f"  {size}, transport {result.transport}, {result.seconds:,.0f} s: {'holds' if result.holds else 'BROKEN'}",
    ]
    width = max([len(each.what) for each in result.findings] + [0])
    lines += [_line(each, width) for each in result.findings]
    if result.error:
        lines.append(f"  ended by {result.error}")
    return "\n".join(lines)


def _line(finding: Finding, width: int) -> str:
    bound = f"{finding.bound:>12}{'' if finding.holds else '  BROKEN'}" if finding.bound else ""
    return f"    {finding.what:{width}} {finding!s:>16} {bound}".rstrip()


def write(results: Sequence[Result], folder: Path) -> Path:
    """All of a run, in a file named after when it ended."""
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / f"{datetime.now(UTC):%Y%m%d-%H%M%S}.json"
    told = [
        {
            "name": each.name,
            "title": each.title,
            "share": each.share,
            "transport": each.transport,
            "seconds": round(each.seconds, 1),
            "holds": each.holds,
            "error": each.error,
            "findings": each.findings.as_json(),
        }
        for each in results
    ]
    file.write_text(json.dumps(conditions() | {"experiments": told}, indent=1) + "\n")
    return file
