"""The labels of outputs, in files of the operator's."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from headrace.server.engine.labels import labels_in
from headrace.server.engine.port_options import OutputOptions
from headrace.wire.errors import quote


def output_labels(outputs: Mapping[int, OutputOptions], names: Sequence[str]) -> dict[int, tuple[str, ...]]:
    """The labels of outputs that have any, by number. `names` are for messages. Raises ValueError with a clause."""
    labels: dict[int, tuple[str, ...]] = {}
    for number, options in outputs.items():
        if not options.labels:
            continue
        try:
            labels[number] = labels_in(Path(options.labels))
        except (OSError, ValueError) as error:
            why = error.strerror if isinstance(error, OSError) else error
            what = f"output {quote(names[number])}: labels cannot be read from {quote(options.labels, 400)}"
            raise ValueError(f"{what}: {why}") from error
    return labels
