"""What a look at the disk has found: models by name, each with its versions."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from headrace.server.repository.boundary import EVERYWHERE, Boundary
from headrace.server.repository.files import Stamp, model_files, model_folders, stamp
from headrace.server.repository.labels import configured_label_files, label_files
from headrace.server.repository.layout import CONFIGURATION, FORMATS, find_versions, may_be_folder
from headrace.server.repository.named import NamedModel
from headrace.server.repository.names import NAME_RULE, is_model_name, version_number
from headrace.server.repository.source import NEWEST, MissingError, ModelSource, SourceError, VersionPolicy

_NO_MODELS = ("lost+found",)
"""Folders in the root of a file system that are not for models."""

Configure = Callable[[str, Path], ModelSource]
"""The source of a model in a repository, by its name and folder. Raises SourceError for a wrong configuration."""


class UnreadableRepositoryError(Exception):
    """A repository cannot be listed: nobody knows what is in it. The message is a sentence for the operator."""


@dataclass(frozen=True, slots=True)
class FoundVersion:
    """A version and the stamp of its files: a version that differs from the one that was loaded has changed."""

    model: NamedModel
    stamp: Stamp


@dataclass(frozen=True, slots=True)
class FoundModel:
    """A model by name. `problems` are what is wrong with versions, `problem` with the model as a whole.

    `in_folders`: its versions have folders. `required`: the operator named it, so it does not vanish.
    """

    name: str
    policy: VersionPolicy = NEWEST
    versions: Mapping[int, FoundVersion] = field(default_factory=dict)
    problems: Mapping[int, SourceError] = field(default_factory=dict)
    problem: SourceError | None = None
    in_folders: bool = False
    required: bool = False

    def check(self) -> None:
        """Raises SourceError if the model, or a version that the policy would choose, is not there."""
        if self.problem is not None:
            raise self.problem
        wanted = self.policy.choose(self.versions.keys() | self.problems.keys())
        for number in wanted:
            if number in self.problems:
                raise self.problems[number]
        if not wanted:
            raise self.nothing_chosen()

    def nothing_chosen(self) -> SourceError:
        """The error when the policy chooses none of the versions."""
        return SourceError(f"model {self.name!r}: only {self.policy} may be served, which it does not have")


@dataclass(frozen=True, slots=True)
class Scan:
    """`number` grows from scan to scan. `remarks` are sentences for the operator about what is not a model."""

    number: int
    models: Mapping[str, FoundModel]
    remarks: Sequence[str] = ()


class Disk:
    """The models that the operator has named, and the folders of models: repositories.

    With `follow_links`, links in a repository may lead out of it. `configured` are names of models that have options,
    and where those are. `scan` may be called by several threads.
    """

    def __init__(
        self,
        sources: Iterable[ModelSource],
        repositories: Iterable[Path],
        configure: Configure,
        *,
        follow_links: bool = False,
        configured: Mapping[str, str] | None = None,
    ) -> None:
        self.sources = tuple(sources)
        self.repositories = tuple(repositories)
        self._configure = configure
        self._follow_links = follow_links
        self._configured = configured or {}
        self._turn = threading.Lock()
        self._scans = 0

    def scan(self) -> Scan:
        """Look at everything. Raises UnreadableRepositoryError; what is wrong with a model is in the result."""
        with self._turn:
            self._scans += 1
            return self._scan()

    def _scan(self) -> Scan:
        models = {source.name: _found(source, EVERYWHERE, required=True) for source in self.sources}
        remarks: list[str] = []
        for root in self.repositories:
            boundary = EVERYWHERE if self._follow_links else Boundary(root)
            for name in _names(root):
                folder = root / name
                if not may_be_folder(folder):
                    if folder.suffix.lower() in FORMATS:
                        remarks.append(f"{str(folder)!r} is not served: it is not in a folder of its own")
                elif not is_model_name(name):
                    remarks.append(f"{str(folder)!r} is not served: its name is not valid, {NAME_RULE}")
                elif name in models:
                    models[name] = self._clash(models[name], folder)
                else:
                    models[name] = self._look(name, folder, boundary)
                    if version_number(name) is not None:
                        remarks.append(
                            f"{str(folder)!r} is served as a model that is called {name}: if it is a version of a "
                            "model, name the folder around it as MODEL rather than as --repository"
                        )
        remarks += [
            f"{origin}: there is no model {name!r} that these options are for"
            for name, origin in self._configured.items()
            if name not in models
        ]
        return Scan(self._scans, models, remarks)

    def _look(self, name: str, folder: Path, boundary: Boundary) -> FoundModel:
        try:
            boundary.check([folder, folder / CONFIGURATION])
            source = self._configure(name, folder)
        except (SourceError, OSError) as error:
            return FoundModel(name, problem=_problem(name, folder, error))
        return _found(source, boundary, required=False)

    def _clash(self, other: FoundModel, folder: Path) -> FoundModel:
        why = f"two models have the name {other.name!r}; one of them is in {str(folder)!r}. Rename one of them"
        return FoundModel(other.name, problem=SourceError(why, "another model has its name"), required=other.required)

    def __repr__(self) -> str:
        return f"<Disk {len(self.sources)} models, {len(self.repositories)} repositories>"


def _names(root: Path) -> list[str]:
    try:
        return [name for name in sorted(os.listdir(root)) if not name.startswith(".") and name not in _NO_MODELS]
    except OSError as error:
        raise UnreadableRepositoryError(f"repository {str(root)!r} cannot be read: {error.strerror}") from error


def _found(source: ModelSource, boundary: Boundary, *, required: bool) -> FoundModel:
    try:
        layout = find_versions(source, boundary)
    except (SourceError, OSError) as error:
        problem = _problem(source.name, source.path, error)
        return FoundModel(source.name, source.policy, problem=problem, required=required)
    versions: dict[int, FoundVersion] = {}
    problems = dict(layout.problems)
    configured = configured_label_files(source.compilation)
    for number, path in layout.paths.items():
        try:
            # Before anything of it is opened or listed. What is configured elsewhere is the operator's.
            labels = (*label_files(path), *(each for each in configured if each.is_relative_to(source.path.absolute())))
            boundary.check([path, *labels, *model_folders(path)])
            files = model_files(path)
            boundary.check(files)
            files += filter(Path.is_file, {**dict.fromkeys(labels), **dict.fromkeys(configured)})
            named = NamedModel(source.name, str(number), path, source.compilation)
            versions[number] = FoundVersion(named, stamp(files))
        except (SourceError, OSError) as error:
            problems[number] = _problem(source.name, path, error)
    return FoundModel(source.name, source.policy, versions, problems, None, layout.in_folders, required)


def _problem(name: str, path: Path, error: SourceError | OSError) -> SourceError:
    if isinstance(error, SourceError):
        return error
    why = f"model {name!r} cannot be read from {str(path)!r}: {error.strerror}"
    return MissingError(why) if isinstance(error, FileNotFoundError) else SourceError(why)
