"""Inputs from a JSON Lines file: each line is an object, as in `{"x": [[1, 2]], "y": 0.5}`."""

from __future__ import annotations

import json
from pathlib import Path

from headrace.client.protocol.models import Model, Port
from headrace.client.terminal.input_arrays import Array, array_from_json, check_datatype
from headrace.client.terminal.usage_error import UsageError
from headrace.wire.errors import quote

Columns = dict[Port, list[Array]]


def read_json_lines(model: Model, file: Path, max_lines: int, max_bytes: int) -> Columns:
    """The arrays of each input, one per line. All lines must name the same inputs; empty lines are skipped.

    Raises UsageError, also if the file has more than `max_lines` lines or `max_bytes` bytes.
    """
    text = _read_text(file, max_bytes)
    rows = [(number, line) for number, line in enumerate(text.split("\n"), 1) if line.strip()]
    if not rows:
        raise UsageError(f"{file} contains no lines")
    if len(rows) > max_lines:
        raise UsageError(f"{file} contains {len(rows)} lines, more than the {max_lines} allowed")
    ports = {name: port for port in model.inputs for name in (*port.names, port.name)}
    columns: Columns = {}
    for number, line in rows:
        row = _parse_line(ports, line, f"line {number} of {file}")
        if columns and row.keys() != columns.keys():
            raise UsageError(f"line {number} of {file} does not name the same inputs as the first line")
        for port, array in row.items():
            columns.setdefault(port, []).append(array)
    return columns


def _read_text(file: Path, max_bytes: int) -> str:
    try:
        if file.stat().st_size > max_bytes:
            raise UsageError(f"{file} is larger than {max_bytes >> 20} MiB; put large inputs in a folder of .npy files")
        return file.read_text("utf-8")
    except OSError as error:
        raise UsageError(f"{file} cannot be read: {error.strerror or error}") from None
    except UnicodeDecodeError:
        raise UsageError(f"{file} is not valid UTF-8") from None


def _parse_line(ports: dict[str, Port], line: str, source: str) -> dict[Port, Array]:
    try:
        document = json.loads(line)
    except (json.JSONDecodeError, RecursionError) as error:
        raise UsageError(f"{source} is not JSON: {error}") from None
    if not isinstance(document, dict) or not document:
        raise UsageError(f"{source} is not an object of inputs, as in " + '{"x": [[1, 2]]}')
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
