"""Collects the samples of a phase on disk, so that a long run does not fill the memory.

What is collected can be used like any other samples: the operating system reads the columns when they are needed, and
drops them when memory is short. The files have no names and vanish with the process.
"""

from __future__ import annotations

import tempfile
from typing import IO, Any

import numpy as np
import numpy.typing as npt

from headrace.client.load.record.samples import COLUMNS, NO_SAMPLES, Samples, concatenated
from headrace.client.terminal.usage_error import UsageError

BUFFERED_SAMPLES = 100_000
"""Phases of up to so many requests stay in memory."""


class SampleSpool:
    """Samples of one phase, in the order in which they are added."""

    def __init__(self) -> None:
        self._buffer: list[Samples] = []
        self._buffered = 0
        self._files: dict[str, IO[bytes]] = {}

    def add(self, samples: Samples) -> None:
        """Raises UsageError if the disk is full."""
        self._buffer.append(samples)
        self._buffered += samples.count
        if self._buffered > BUFFERED_SAMPLES:
            self._write()

    def take(self) -> Samples:
        """All samples that were added. The spool is empty after that."""
        if not self._files:
            samples = concatenated(self._buffer)
        else:
            self._write()
            samples = Samples(**{name: _mapped(file, name) for name, file in self._files.items()})
        for file in self._files.values():
            file.close()
        self._buffer, self._buffered, self._files = [], 0, {}
        return samples

    def _write(self) -> None:
        together = concatenated(self._buffer)
        self._buffer, self._buffered = [], 0
        try:
            for name in COLUMNS:
                if name not in self._files:
                    self._files[name] = tempfile.TemporaryFile(prefix="headrace-load-")  # noqa: SIM115 - until `take`
                self._files[name].write(np.ascontiguousarray(getattr(together, name)).data)
        except OSError as error:
            place = tempfile.gettempdir()
            raise UsageError(f"{place} takes no more measurements: {error.strerror}; TMPDIR names another") from None

    def __repr__(self) -> str:
        return f"<SampleSpool: {self._buffered} in memory, {'more on disk' if self._files else 'none on disk'}>"


def _mapped(file: IO[bytes], name: str) -> npt.NDArray[Any]:
    """The content of a file as a column. The mapping outlives the file."""
    file.flush()
    return np.asarray(np.memmap(file, getattr(NO_SAMPLES, name).dtype, mode="r"))
