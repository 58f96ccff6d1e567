"""The RPCs that list, load and unload models, and that read and change the log settings."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping

from headrace.oip import open_inference_pb2 as pb
from headrace.server.services.api import CONTROL_DISABLED, Control
from headrace.server.services.gate import Gate
from headrace.wire.errors import InvalidArgument, NotFound, PermissionDenied, Unimplemented, quote

Settings = Mapping[str, pb.LogSettingsRequest.SettingValue]

_LEVEL_SETTINGS = {
    "log_verbose_level": ("uint32_param", logging.DEBUG),
    "log_info": ("bool_param", logging.INFO),
    "log_warning": ("bool_param", logging.WARNING),
    "log_error": ("bool_param", logging.ERROR),
}
"""The type of each setting, and the level of the messages that it turns on and off."""
DEFAULT_LOG_FORMAT = "default"
_LEVEL_STEP = 10
"""The distance from one level of `logging` to the next."""


class RepositoryRpcs:
    """Waiting for a model ends when `gate` closes: the server does not delay its end for that."""

    def __init__(self, control: Control, gate: Gate, log_format: str = DEFAULT_LOG_FORMAT) -> None:
        self._control = control
        self._gate = gate
        self._fixed = {"log_format": log_format, "log_file": ""}
        """The settings that clients can only read."""
        self._log = logging.getLogger("headrace")

    async def index(self, request: pb.RepositoryIndexRequest) -> pb.RepositoryIndexResponse:
        _check_repository(request.repository_name)
        models = [state for state in self._control.index() if state.state == "READY" or not request.ready]
        return pb.RepositoryIndexResponse(
            models=[
                pb.RepositoryIndexResponse.ModelIndex(
                    name=model.name, version=model.version, state=model.state, reason=model.reason
                )
                for model in models
            ]
        )

    async def load(self, request: pb.RepositoryModelLoadRequest) -> pb.RepositoryModelLoadResponse:
        """Raises Unimplemented for parameters: the operator's configuration of a model cannot be overridden."""
        self._check_allowed()
        _check_repository(request.repository_name)
        _check_parameters(request.parameters)
        await self._gate.while_open(self._control.load(request.model_name))
        return pb.RepositoryModelLoadResponse()

    async def unload(self, request: pb.RepositoryModelUnloadRequest) -> pb.RepositoryModelUnloadResponse:
        """`unload_dependents` is ignored, since no model depends on another."""
        self._check_allowed()
        _check_repository(request.repository_name)
        _check_parameters(name for name in request.parameters if name != "unload_dependents")
        await self._gate.while_open(self._control.unload(request.model_name))
        return pb.RepositoryModelUnloadResponse()

    async def log_settings(self, request: pb.LogSettingsRequest) -> pb.LogSettingsResponse:
        """Change all the settings or, if one of them is not valid, none. Returns the settings then in force."""
        for name in request.settings:
            _check_setting(name, request.settings[name], self._fixed)
        level = _level(request.settings, self._log.getEffectiveLevel())
        if not _LEVEL_SETTINGS.keys().isdisjoint(request.settings):
            self._check_allowed()
            self._log.setLevel(level)
        return _settings(self._log.getEffectiveLevel(), self._fixed)

    def _check_allowed(self) -> None:
        """Called before any other check, so that a client without permission learns nothing from the errors."""
        if not self._control.allowed:
            raise PermissionDenied(CONTROL_DISABLED)


def _check_repository(name: str) -> None:
    if name:
        raise NotFound(f"there is no repository {quote(name)}; the only repository has an empty name")


def _check_parameters(names: Iterable[str]) -> None:
    name = next(iter(names), None)
    if name is not None:
        raise Unimplemented(f"parameter {quote(name)} is not supported: models are loaded as they are on disk")


def _check_setting(name: str, value: pb.LogSettingsRequest.SettingValue, fixed: Mapping[str, str]) -> None:
    """Raises InvalidArgument."""
    kind = value.WhichOneof("parameter_choice")
    if name in _LEVEL_SETTINGS:
        expected = _LEVEL_SETTINGS[name][0]
    elif name in fixed:
        expected = "string_param"
    else:
        raise InvalidArgument(f"there is no log setting {quote(name)}; the settings are {', '.join(_LEVEL_SETTINGS)}")
    if kind != expected:
        raise InvalidArgument(f"log setting {name} must be {expected}, but it is {kind or 'empty'}")
    if name in fixed and value.string_param != fixed[name]:
        raise InvalidArgument(f"log setting {name} cannot be changed by clients")


def _level(settings: Settings, level: int) -> int:
    """The level that results from changing `level` by settings, whose types have been checked.

    Messages of a level cannot be on while those of a more severe level are off. Raises InvalidArgument for that.
    """
    on: dict[int, str] = {}
    off: dict[int, str] = {}
    for name, (kind, severity) in _LEVEL_SETTINGS.items():
        if name in settings:
            turned = on if getattr(settings[name], kind) else off
            turned[severity] = name
    if on and off and min(on) < max(off):
        raise InvalidArgument(f"log setting {off[max(off)]} cannot be off while {on[min(on)]} is on")
    if off:
        level = max(level, max(off) + _LEVEL_STEP)
    return min(level, min(on)) if on else level


def _settings(level: int, fixed: Mapping[str, str]) -> pb.LogSettingsResponse:
    response = pb.LogSettingsResponse()
    for name, value in fixed.items():
        response.settings[name].string_param = value
    for name, (kind, severity) in _LEVEL_SETTINGS.items():
        on = level <= severity
        setattr(response.settings[name], kind, int(on) if kind == "uint32_param" else on)
    return response
