"""JSON Lines of inputs: an object in each line, `{"x": [[1, 2]], "y": 0.5}`."""

from __future__ import annotations

import json
from pathlib import Path

from headrace.client.protocol.models import Model, Port
from headrace.client.terminal.input_arrays import Array, array_from_json, check_datatype
from headrace.client.terminal.usage_error import UsageError
from headrace.wire.errors import quote

Columns = dict[Port, list[Array]]


def read_lines(model: Model, file: Path, most: int, most_bytes: int) -> Columns:
    """The arrays of each input that the lines name: all lines name the same. Empty lines are left out.

    Raises UsageError, also for a file of over `most` lines or `most_bytes` bytes.
    """
    text = _read(file, most_bytes)
    rows = [(number, line) for number, line in enumerate(text.split("\n"), 1) if line.strip()]
    if not rows:
        raise UsageError(f"{file} holds no lines")
    if len(rows) > most:
        raise UsageError(f"{file} holds {len(rows)} lines, at most {most} are taken")
    ports = {name: port for port in model.inputs for name in (*port.names, port.name)}
    columns: Columns = {}
    for number, line in rows:
        row = _row(ports, line, f"line {number} of {file}")
        if columns and row.keys() != columns.keys():
            raise UsageError(f"line {number} of {file} names other inputs than the first one")
        for port, array in row.items():
            columns.setdefault(port, []).append(array)
    return columns


def _read(file: Path, most_bytes: int) -> str:
    try:
        if file.stat().st_size > most_bytes:
            raise UsageError(
                f"{file} is larger than {most_bytes >> 20} MiB; large inputs can be .npy files in a folder"
            )
        return file.read_text()
    except OSError as error:
        raise UsageError(f"{file} cannot be read: {error.strerror or error}") from None
    except UnicodeDecodeError:
        raise UsageError(f"{file} is no text") from None


def _row(ports: dict[str, Port], line: str, source: str) -> dict[Port, Array]:
    try:
        document = json.loads(line)
    except (json.JSONDecodeError, RecursionError) as error:
        raise UsageError(f"{source} is no JSON: {error}") from None
    if not isinstance(document, dict) or not document:
        raise UsageError(f"{source} is no object of inputs, as in " + '{"x": [[1, 2]]}')
    row: dict[Port, Array] = {}
    for name, value in document.items():
        port = ports.get(name)
        if port is None:
            raise UsageError(f"{source} names an input {quote(name)} that the model does not have")
        if port in row:
            raise UsageError(f"{source} names input {quote(port.name)} twice")
        check_datatype(port)
        try:
            row[port] = array_from_json(port, value, source)
        except UsageError as error:
            raise UsageError(f"input {quote(port.name)}: {error}") from None
    return row
