"""Which files in a folder are a model, and which folders are its versions.

A folder has one model, or a folder for each version of it. Files that are no models do not matter: labels,
configurations, documents, and whatever begins with a dot, such as the links of a mounted ConfigMap.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from headrace.server.repository.boundary import Boundary
from headrace.server.repository.names import version_number
from headrace.server.repository.source import MissingError, ModelSource, SourceError

FORMATS = (".xml", ".onnx", ".pb", ".pbtxt", ".tflite", ".pdmodel")
"""The extensions of the files that the runtime reads. Their companions (`.bin`, `.pdiparams`) have others."""
CONFIGURATION = "config.pbtxt"
"""The file in the folder of a model in which Triton has its configuration: no model, although of such an extension."""
_SAVED_MODEL = "saved_model.pb"


@dataclass(frozen=True, slots=True)
class Layout:
    """The paths of versions by number, and what is wrong with others.

    `in_folders`: each version has a folder. A model without has the version 1.
    """

    paths: Mapping[int, Path]
    problems: Mapping[int, SourceError] = field(default_factory=dict)
    in_folders: bool = False


def find_versions(source: ModelSource, boundary: Boundary) -> Layout:
    """The versions of a model on disk.

    Raises SourceError when there is none, or when it is not clear which. Other folders than those of versions are not
    looked into.
    """
    path = source.path
    boundary.check([path])
    if not path.is_dir():
        if not path.exists():
            raise MissingError(f"model {source.name!r}: file {str(path)!r} does not exist")
        return Layout({1: path.parent if path.name == _SAVED_MODEL else path})
    folders = _version_folders(path)
    try:
        own = find_model(path, source.file, boundary)
    except SourceError:
        if not folders:
            raise
        own = None
    if own is not None and folders:
        several = ", ".join(sorted(folder.name for each in folders.values() for folder in each)[:8])
        raise SourceError(
            f"model {source.name!r}: folder {str(path)!r} has both a model ({own.name}) and versions ({several}): move "
            "the model into the folder of a version",
            "its folder has both a model and versions",
        )
    if own is not None:
        return Layout({1: own})
    if not folders:
        raise SourceError(f"model {source.name!r}: {_nothing_in(path)}", "its folder has no model")
    paths: dict[int, Path] = {}
    problems: dict[int, SourceError] = {}
    for number, same in sorted(folders.items()):
        try:
            paths[number] = _model_of_version(source, number, same, boundary)
        except SourceError as error:
            problems[number] = error
        except OSError as error:
            problems[number] = _unreadable(source, same[0], error)
    return Layout(paths, problems, in_folders=True)


def find_model(folder: Path, file: str, boundary: Boundary) -> Path | None:
    """The model in a folder: a file, the folder of a SavedModel, or None. `file` is its name, if that is known.

    Raises SourceError when there are several, none of them called `model`, or when `file` is missing.
    """
    boundary.check([folder])
    if file:
        path = folder / file
        boundary.check([path])
        if not path.exists():
            raise MissingError(f"file {str(path)!r} does not exist")
        return path
    found = {path.name: path for path in _candidates(folder, boundary)}
    if (folder / _SAVED_MODEL).is_file():
        found = {name: path for name, path in found.items() if path.suffix != ".pb"} | {_SAVED_MODEL: folder}
    if len(found) > 1:
        called = [path for name, path in found.items() if name.partition(".")[0] == "model"]
        if len(called) != 1:
            raise SourceError(
                f"folder {str(folder)!r} has several models: {', '.join(sorted(found))}. Name one of the files as "
                "NAME=FILE, or call it model, with its extension",
                "its folder has several models",
            )
        return called[0]
    return next(iter(found.values()), None)


def _candidates(folder: Path, boundary: Boundary) -> list[Path]:
    found: list[Path] = []
    for name in sorted(os.listdir(folder)):
        path = folder / name
        suffix = path.suffix.lower()
        if name.startswith(".") or name == CONFIGURATION or suffix not in (*FORMATS, ".savedmodel"):
            continue
        boundary.check([path])
        if not path.is_dir():
            found += [path] if suffix in FORMATS else []
        elif suffix == ".onnx" and (path / "model.onnx").is_file():  # with its weights, as Triton has it
            found.append(path / "model.onnx")
        elif (path / _SAVED_MODEL).is_file():
            found.append(path)
    return found


def may_be_folder(path: Path) -> bool:
    """False for what is certainly no folder. If that cannot be known, whoever looks into it says why."""
    try:
        return path.is_dir()
    except OSError:
        return True


def _version_folders(path: Path) -> dict[int, list[Path]]:
    """The folders of each version: one, unless their names differ in leading zeros."""
    folders: dict[int, list[Path]] = {}
    for name in sorted(os.listdir(path)):
        number = version_number(name)
        if number is not None and may_be_folder(path / name):
            folders.setdefault(number, []).append(path / name)
    return folders


def _model_of_version(source: ModelSource, number: int, folders: list[Path], boundary: Boundary) -> Path:
    if len(folders) > 1:
        raise SourceError(
            f"model {source.name!r}: version {number} has several folders: {', '.join(map(str, folders))}",
            "it has several folders",
        )
    try:
        found = find_model(folders[0], source.file, boundary)
    except SourceError as error:
        raise SourceError(f"model {source.name!r} version {number}: {error}", error.told) from error
    if found is None:
        raise SourceError(f"model {source.name!r} version {number}: {_nothing_in(folders[0])}", "its folder is empty")
    return found


def _nothing_in(folder: Path) -> str:
    names = sorted(name for name in os.listdir(folder) if not name.startswith("."))
    inside = f"only {', '.join(names[:8])}{', ...' if len(names) > 8 else ''}" if names else "it is empty"
    hint = ""
    if any((folder / name).is_dir() and version_number(name) is None for name in names):
        hint = f". A folder of models is served with --repository {folder}"
    return f"folder {str(folder)!r} has no model ({', '.join(FORMATS)} or {_SAVED_MODEL}), {inside}{hint}"


def _unreadable(source: ModelSource, path: Path, error: OSError) -> SourceError:
    return SourceError(f"model {source.name!r} cannot be read from {str(path)!r}: {error.strerror}")
