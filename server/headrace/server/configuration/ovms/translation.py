"""What the configuration of a model says, as options of Headrace. Each key is used or reported."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import Field

from headrace.server.configuration.given import Given, dotted
from headrace.server.configuration.ovms.entry import Entry
from headrace.server.configuration.ovms.notations import (
    colours,
    datatypes,
    dimension,
    layouts,
    numbers,
    parsed,
    shape,
    version_policy,
)
from headrace.server.configuration.problems import unknown_key
from headrace.server.configuration.values import PathText, errors
from headrace.server.engine.port_options import ExpectedPort

ALL_OTHERS = "*"
_Count = Annotated[int, Field(ge=0)]
KINDS: Mapping[str, Any] = {
    "name": str,
    "base_path": PathText,
    "batch_size": _Count | str,
    "shape": str | dict[str, str | list[int]],
    "layout": str | dict[str, str],
    "mean": float | str | list[float],
    "scale": float | str | list[float],
    "color_format": str,
    "precision": str,
    "model_version_policy": dict[str, Any] | str,
    "target_device": str,
    "plugin_config": dict[str, Any] | str,
    "nireq": _Count,
    "allow_cache": bool,
    "stateful": bool,
    "idle_sequence_cleanup": bool,
    "low_latency_transformation": bool,
    "max_sequence_number": _Count,
    "graph_path": str,
    "subconfig": str,
    "custom_loader_options": dict[str, Any],
}
"""The types of all keys."""
_UNSUPPORTED = {
    "graph_path": "Headrace has no MediaPipe graphs",
    "subconfig": "Headrace has no MediaPipe graphs",
    "custom_loader_options": "Headrace has no custom loaders",
    "max_sequence_number": "the number of sequences is bounded for all models together",
}
_CLOUD = ("gs://", "s3://", "az://", "azfs://", "azure://")


def translate(entry: Entry) -> Given:
    """The options of a model. What is wrong is reported to the problems of the entry."""
    translation = _Translation(entry)
    translation.run()
    return translation.given


class _Translation:
    def __init__(self, entry: Entry) -> None:
        self.given = Given()
        self.given.origins[()] = entry.origin()
        self._entry = entry
        self._config = {name: value for name, value in entry.config.items() if self._is_valid(name, value)}

    def run(self) -> None:
        self._path()
        self._runs()
        self._switches()
        self._shapes()
        self._layouts()
        self._preprocessing()
        self._batch_size()

    def _is_valid(self, name: str, value: Any) -> bool:
        """Whether a key is known and has a value of its type; if not, it is reported."""
        if name not in KINDS:
            self._entry.error(unknown_key(name, KINDS), name)
            return False
        found = [*errors(KINDS[name], value)]
        for location, text in found[:1]:
            self._entry.error(text, name, *location)
        return not found

    def _set(self, path: tuple[str, ...], value: object, *key: str | int) -> None:
        self.given.set(path, value, self._entry.origin(*key))

    def _converted(self, convert: Any, value: Any, *key: str | int) -> Any:
        """None if the value is wrong, which is reported."""
        try:
            return convert(value)
        except ValueError as error:
            self._entry.error(str(error), *key)
            return None

    # ------------------------------------------------------------------------------------------------------- model

    def _path(self) -> None:
        base = self._config.get("base_path")
        if base is None:
            if "base_path" not in self._entry.config:
                self._entry.error("this key is missing", "base_path")
            return
        if base.startswith(_CLOUD):
            self._entry.error(f"{base!r} is not a local path; Headrace has no cloud storage", "base_path")
            return
        path = self._entry.folder / base
        self._set(("path",), str(path), "base_path")
        for file in (path / "graph.pbtxt", *path.glob("*/mapping_config.json")):
            if file.is_file():
                what = "MediaPipe graphs" if file.suffix == ".pbtxt" else "names for the ports of a model"
                self._entry.unsupported(f"Headrace has no {what}: {file}", "base_path")

    def _runs(self) -> None:
        if "target_device" in self._config:
            self._set(("device",), self._config["target_device"], "target_device")
        if self._config.get("nireq"):
            self._set(("slots",), self._config["nireq"], "nireq")
        if "model_version_policy" in self._config:
            policy = self._converted(version_policy, self._config["model_version_policy"], "model_version_policy")
            if policy is not None:
                self._set(("versions",), policy, "model_version_policy")
        self._plugin_config()

    def _plugin_config(self) -> None:
        properties = self._converted(parsed, self._config.get("plugin_config", {}), "plugin_config")
        if not isinstance(properties, dict):
            if properties is not None:
                self._entry.error("an object is expected", "plugin_config")
            return
        for name, value in properties.items():
            if isinstance(value, str | bool | int | float):
                self._set(("properties", name), value, "plugin_config", name)
            else:
                self._entry.unsupported("Headrace takes strings, numbers and booleans", "plugin_config", name)

    def _switches(self) -> None:
        for name, text in _UNSUPPORTED.items():
            if name in self._config:
                self._entry.unsupported(text, name)
        if self._config.get("allow_cache") is False:
            self._entry.unsupported("all compiled models are kept if there is a --cache-dir", "allow_cache")
        if self._config.get("low_latency_transformation"):
            self._entry.unsupported("Headrace does not transform loops", "low_latency_transformation")
        if self._config.get("stateful"):
            self._set(("state",), "sequence", "stateful")
            if self._config.get("idle_sequence_cleanup") is False:
                self._entry.unsupported("idle sequences always end", "idle_sequence_cleanup")

    # ------------------------------------------------------------------------------------------------------ inputs

    def _shapes(self) -> None:
        shapes = self._config.get("shape", {})
        if isinstance(shapes, str):
            self._only_input("shape", {"shape": self._converted(shape, shapes, "shape")})
            return
        for name, each in shapes.items():
            found = self._converted(shape, each, "shape", name)
            if found is not None:
                self._set(("inputs", name, "shape"), found, "shape", name)

    def _layouts(self) -> None:
        given = self._config.get("layout", {})
        if isinstance(given, str):
            self._only_input("layout", self._converted(layouts, given, "layout"))
            return
        for name, each in given.items():
            for option, value in (self._converted(layouts, each, "layout", name) or {}).items():
                self._set(("inputs", name, option), value, "layout", name)

    def _preprocessing(self) -> None:
        for name, convert in (("mean", numbers), ("scale", numbers), ("color_format", colours)):
            if name in self._config:
                found = self._converted(convert, self._config[name], name)
                self._only_input(name, {name: found} if convert is numbers else found)
        if "precision" in self._config:
            found = self._converted(datatypes, self._config["precision"], "precision")
            if found is not None:
                sent, own = found
                self._only_input("precision", {"datatype": sent}, own)

    def _only_input(self, key: str, options: Mapping[str, Any] | None, datatype: str = "") -> None:
        """Set options of the one input that the model is said to have."""
        if options is None or None in options.values():
            return
        named = [name for name in self.given.get("inputs") or {} if name != ALL_OTHERS]
        if len(named) > 1:
            self._entry.error(f"this is for a model with one input, but there are {', '.join(named)}", key)
            return
        name = named[0] if named else ALL_OTHERS
        for option, value in options.items():
            self._set(("inputs", name, option), value, key)
        self.given.expected += (ExpectedPort("input", ALL_OTHERS, self._entry.origin(key), datatype),)

    def _batch_size(self) -> None:
        size = self._config.get("batch_size", 0)
        if size in (0, "0", ""):
            return
        if "shape" in self._config:
            origin = self._entry.origin("batch_size")
            key = dotted((*self._entry.key, "batch_size"))
            self._entry.problems.warnings.append(f"{origin}: {key}: shape comes first; this is ignored")
            return
        rows = self._converted(dimension, str(size), "batch_size")
        if rows is None:
            return
        inputs = self.given.get("inputs") or {}
        for name in {ALL_OTHERS: None, **inputs}:
            layout = inputs.get(name, {}).get("model_layout", "N")
            if layout[:1] != "N":
                self._entry.unsupported(f"the first axis of layout {layout} is not that of the batch", "batch_size")
            else:
                self._set(("inputs", name, "shape"), f"{rows},...", "batch_size")
