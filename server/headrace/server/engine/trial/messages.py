"""What the parent tells the process of a trial, and what that process tells the parent: JSON, one value on a line."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from headrace.server.engine.compilation import Compilation
from headrace.server.engine.findings import Findings
from headrace.wire.errors import HeadraceError, rebuild


@dataclass(frozen=True, slots=True)
class TrialRequest:
    """The model to try, and how it is to be compiled.

    With `outputs` it is the variant of the model that computes only these, and `findings` are those of the model.
    """

    name: str
    version: str
    path: Path
    compilation: Compilation
    outputs: tuple[int, ...] = ()
    findings: Findings | None = None

    def encode(self) -> bytes:
        document = {
            "name": self.name,
            "version": self.version,
            "path": str(self.path),
            "compilation": asdict(self.compilation),
            "outputs": self.outputs,
            "findings": None if self.findings is None else self.findings.to_json(),
        }
        return json.dumps(document).encode()

    @classmethod
    def decode(cls, data: bytes) -> TrialRequest:
        document = json.loads(data)
        compilation = Compilation.from_json(document["compilation"])
        findings = None if document["findings"] is None else Findings.from_json(document["findings"])
        where = document["name"], document["version"], Path(document["path"])
        return cls(*where, compilation, tuple(document["outputs"]), findings)


@dataclass(slots=True)
class TrialReport:
    """What a child has told so far: what it does, as a clause, and in the end its findings or its error."""

    doing: str = "the trial starts"
    findings: Findings | None = None
    error: HeadraceError | None = None

    def add(self, line: bytes) -> None:
        """Take a line of the child's. One that is not valid is ignored: the child may have ended while writing it."""
        try:
            document: dict[str, Any] = json.loads(line)
            if "doing" in document:
                self.doing = str(document["doing"])
            elif "error" in document:
                self.error = rebuild(int(document["error"]["code"]), str(document["error"]["message"]), False)
            else:
                self.findings = Findings.from_json(document["findings"])
        except (ValueError, TypeError, KeyError):
            return


def encode_doing(doing: str) -> bytes:
    """A line that says what the child does, as a clause."""
    return _line({"doing": doing})


def encode_error(error: HeadraceError) -> bytes:
    """A line that says why the model cannot be served."""
    return _line({"error": {"code": int(error.code), "message": error.message}})


def encode_findings(findings: Findings) -> bytes:
    """A line that says how the model may run."""
    return _line({"findings": findings.to_json()})


def _line(document: object) -> bytes:
    return json.dumps(document).encode() + b"\n"
