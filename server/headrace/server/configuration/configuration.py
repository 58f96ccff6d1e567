"""Everything that is configured: the options in force for the server and for each model, and their origins."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from headrace.server.configuration.given import Given, dotted
from headrace.server.configuration.model_options import check_options, source_of
from headrace.server.configuration.ovms.file import read_json
from headrace.server.configuration.problems import ConfigurationError, Problems
from headrace.server.configuration.toml_file import ConfigurationFile, read_toml
from headrace.server.configuration.triton.message import read_pbtxt
from headrace.server.configuration.triton.translation import translate
from headrace.server.repository.arguments import sources_of
from headrace.server.repository.layout import CONFIGURATION
from headrace.server.repository.names import is_model_name
from headrace.server.repository.source import ModelSource, SourceError
from headrace.server.settings import Settings

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class ConfiguredModel:
    """A model, and the options that were given for it, with their origins."""

    source: ModelSource
    given: Given


class Configuration:
    """`settings` are in force for the server; `origins` has where each of them came from that is no default.

    What is left out, because it is ignored with `lenient`, is logged once.
    """

    def __init__(
        self, file: ConfigurationFile, flags: Settings, origins: Mapping[str, str], *, lenient: bool = False
    ) -> None:
        """`flags` are the options of the command line and the environment, `origins` has those that were given."""
        self.settings = replace(flags, **{name: value for name, value in file.server.items() if name not in origins})
        self.origins = {**file.origins, **origins}
        self._models = file.models
        self._lenient = lenient
        self._warned: set[str] = set()

    def models(self, arguments: Iterable[str], *, repository: bool = False) -> list[ConfiguredModel]:
        """The models that arguments name, `PATH` or `NAME=PATH`, and those of the file that have a path.

        Options for a model without a path are for one of the `repository`. Raises ConfigurationError, and SourceError
        for an argument that names no model.
        """
        problems = Problems(self._lenient)
        named = {source.name: source for source in sources_of(arguments, self.settings.compilation())}
        found: list[ConfiguredModel] = []
        for source in named.values():
            given = Given()
            given.set(("path",), str(source.path), "MODEL")
            own = self._models.get(source.name, Given())
            if own.get("path") is not None:
                text = f"two models have the name {source.name!r}: the other is {source.path}, of the command line"
                problems.add(own.origin(("path",)), dotted(("models", source.name, "path")), text)
            found.append(self._configured(source.name, source.path, given.over(own), problems))
        for name, own in self._models.items():
            if name in named:
                continue
            if own.get("path") is not None:
                found.append(self._configured(name, Path(own.get("path")), own, problems))
            elif not repository:
                text = "there is no model of this name: give it a path"
                problems.add(own.origin(()), dotted(("models", name)), text)
        self._settle(problems)
        return found

    @property
    def shares(self) -> bool:
        """Whether the processor is divided among models: `auto` is on if the file gives one a weight or a priority."""
        given = any(own.get(key) is not None for own in self._models.values() for key in ("weight", "priority"))
        return self.settings.share == "on" or (self.settings.share == "auto" and given)

    @property
    def origins_of_models(self) -> dict[str, str]:
        """Where the options are of each model of the file, by name."""
        return {name: own.origin(()) for name, own in self._models.items()}

    def models_in(self, repository: Path) -> list[ConfiguredModel]:
        """The models in the folders of a repository. Raises ConfigurationError, and OSError if it cannot be listed."""
        problems = Problems(self._lenient)
        folders = [each for each in sorted(repository.iterdir()) if each.is_dir() and is_model_name(each.name)]
        found = [self._configured(each.name, each, self._models.get(each.name, Given()), problems) for each in folders]
        self._settle(problems)
        return found

    def configure(self, name: str, folder: Path) -> ModelSource:
        """The source of a model in a folder of the repository. Raises SourceError for a wrong configuration."""
        problems = Problems(self._lenient)
        own = self._models.get(name, Given())
        if own.get("path") is not None:
            text = f"two models have the name {name!r}: the other is in {str(folder)!r}"
            problems.add(own.origin(("path",)), dotted(("models", name, "path")), text)
        model = self._configured(name, folder, own, problems)
        try:
            self._settle(problems)
        except ConfigurationError as error:
            raise SourceError(f"model {name!r}: {error}", "its configuration is not valid") from error
        return model.source

    def _configured(self, name: str, path: Path, own: Given, problems: Problems) -> ConfiguredModel:
        """A model with its own options over those of the config.pbtxt in its folder."""
        given = _given_in(name, path, problems)
        check_options(given, ("models", name), problems)
        given = own.over(given)
        if problems.errors:
            return ConfiguredModel(ModelSource(name, path), given)
        return ConfiguredModel(source_of(name, given, self.settings, path), given)

    def _settle(self, problems: Problems) -> None:
        """Log warnings. Raises ConfigurationError if there are errors."""
        for warning in problems.warnings:
            if warning not in self._warned:
                self._warned.add(warning)
                logger.warning("%s", warning)
        problems.check()


def _given_in(name: str, path: Path, problems: Problems) -> Given:
    """What a config.pbtxt in the folder of a model says, if it has one."""
    file = path / CONFIGURATION
    try:
        text = file.read_text("utf-8-sig") if file.is_file() else ""
    except (OSError, UnicodeDecodeError) as error:
        problems.add(str(file), "", f"the file cannot be read: {error}")
        return Given()
    pbtxt = read_pbtxt(str(file), text, problems) if text else None
    return Given() if pbtxt is None else translate(pbtxt, name, path, problems)


def read_configuration(
    file: Path | None, flags: Settings, origins: Mapping[str, str], *, lenient: bool = False
) -> Configuration:
    """What a file says, if there is one, under what flags and the environment say. Raises ConfigurationError."""
    problems = Problems(lenient)
    found = ConfigurationFile() if file is None else _read(file, problems)
    problems.check()
    for warning in problems.warnings:
        logger.warning("%s", warning)
    return Configuration(found, flags, origins, lenient=lenient)


def _read(file: Path, problems: Problems) -> ConfigurationFile:
    try:
        text = file.read_text("utf-8-sig")
    except OSError as error:
        problems.add(str(file), "", f"the file cannot be read: {error.strerror}")
    except UnicodeDecodeError as error:
        problems.add(str(file), "", f"the file is not valid UTF-8: byte {error.start} cannot be decoded")
    else:
        folder = file.absolute().parent
        if text.lstrip().startswith("{"):  # which no TOML does
            return ConfigurationFile(models=read_json(str(file), text, folder, problems))
        return read_toml(str(file), text, folder, problems)
    return ConfigurationFile()
