"""Libraries with operations that some models need, such as tokenizers. Only the operator names them."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from importlib.util import find_spec
from pathlib import Path

import openvino as ov

from headrace.server.engine.reasons import reason_of
from headrace.wire.errors import quote

_LIBRARY = {"linux": "lib{}.so", "darwin": "lib{}.dylib", "win32": "{}.dll"}
"""The file of a package's library, by platform."""


def extension_libraries(names: Iterable[str]) -> list[Path]:
    """The library files that extensions name: paths, or installed packages, which are not imported.

    Importing a package such as openvino_tokenizers would change the runtime's classes for the whole process. Raises
    ValueError with a clause for one that is not there.
    """
    return [_library(name) for name in names]


def add_extensions(core: ov.Core, names: Iterable[str]) -> None:
    """Let models use the operations of extensions from now on. Raises ValueError with a clause."""
    for name, library in zip(names, extension_libraries(names), strict=True):
        try:
            core.add_extension(str(library))
        except RuntimeError as error:
            raise ValueError(
                f"extension {quote(name)} cannot be loaded by openvino {ov.__version__}, whose version it must have: "
                f"{reason_of(error)}"
            ) from error


def _library(name: str) -> Path:
    if "/" in name or "\\" in name or Path(name).suffix in (".so", ".dylib", ".dll"):
        path = Path(name)
        if not path.is_file():
            raise ValueError(f"extension {quote(name, 1000)} does not exist")
        return path.absolute()
    spec = find_spec(name) if name.isidentifier() else None
    if spec is None:
        raise ValueError(f"extension {quote(name)} is not installed; give an installed package, or a library's path")
    wanted = _LIBRARY.get(sys.platform, _LIBRARY["linux"]).format(name)
    for folder in map(Path, spec.submodule_search_locations or ()):
        for library in (folder / wanted, folder / "lib" / wanted):
            if library.is_file():
                return library
    raise ValueError(f"package {quote(name)} is not an extension of openvino: it has no file lib/{wanted}")
