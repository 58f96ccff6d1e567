"""A server that notes what it opens and lists: `python -m tests.e2e.audited FILE MODEL...`."""

from __future__ import annotations

import os
import sys

from headrace.server.cli import main

EVENTS = ("open", "os.listdir", "os.scandir", "os.mkdir", "os.rename", "os.remove", "os.link", "os.symlink")


def note_into(path: str) -> None:
    """Write the paths, one a line. What is no path, such as a descriptor, is left out."""
    notes = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)

    def hook(event: str, arguments: tuple[object, ...]) -> None:
        if event in EVENTS:
            for argument in arguments[:2]:
                if isinstance(argument, (str, bytes, os.PathLike)):
                    os.write(notes, os.fsencode(argument).replace(b"\n", b"?") + b"\n")

    sys.addaudithook(hook)


if __name__ == "__main__":
    note_into(sys.argv.pop(1))
    main()
