"""The models that come and go, and the log's verbosity."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping

from headrace.oip import open_inference_pb2 as pb
from headrace.server.services.api import NO_CONTROL, Control
from headrace.server.services.gate import Gate
from headrace.wire.errors import InvalidArgument, NotFound, PermissionDenied, Unimplemented, quote

Settings = Mapping[str, pb.LogSettingsRequest.SettingValue]

_VERBOSITIES = {
    "log_verbose_level": ("uint32_param", logging.DEBUG),
    "log_info": ("bool_param", logging.INFO),
    "log_warning": ("bool_param", logging.WARNING),
    "log_error": ("bool_param", logging.ERROR),
}
"""What a setting holds, and the level of the messages that it turns on and off."""
_CONSTANTS = {"log_format": "default", "log_file": ""}
_STEP = 10
"""From one level to the next."""


class RepositoryRpcs:
    """What may take long is given up when `gate` is shut: the server's end does not wait for a model."""

    def __init__(self, control: Control, gate: Gate) -> None:
        self._control = control
        self._gate = gate
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
        """Raises Unimplemented for parameters: a model is loaded as the operator has it."""
        self._check_allowed()
        _check_repository(request.repository_name)
        _check_parameters(request.parameters)
        await self._gate.while_open(self._control.load(request.model_name))
        return pb.RepositoryModelLoadResponse()

    async def unload(self, request: pb.RepositoryModelUnloadRequest) -> pb.RepositoryModelUnloadResponse:
        """No model depends on another here."""
        self._check_allowed()
        _check_repository(request.repository_name)
        _check_parameters(name for name in request.parameters if name != "unload_dependents")
        await self._gate.while_open(self._control.unload(request.model_name))
        return pb.RepositoryModelUnloadResponse()

    async def log_settings(self, request: pb.LogSettingsRequest) -> pb.LogSettingsResponse:
        """Changes all that is asked for or, when any of it is wrong, nothing; then shows what holds."""
        for name in request.settings:
            _check_setting(name, request.settings[name])
        level = _level(request.settings, self._log.getEffectiveLevel())
        if not _VERBOSITIES.keys().isdisjoint(request.settings):
            self._check_allowed()
            self._log.setLevel(level)
        return _shown(self._log.getEffectiveLevel())

    def _check_allowed(self) -> None:
        """Before anything else: who may not change anything learns nothing of what could be."""
        if not self._control.allowed:
            raise PermissionDenied(NO_CONTROL)


def _check_repository(name: str) -> None:
    if name:
        raise NotFound(f"there is no repository {quote(name)}; the only one has no name")


def _check_parameters(names: Iterable[str]) -> None:
    name = next(iter(names), None)
    if name is not None:
        raise Unimplemented(f"parameter {quote(name)} is not taken: models are loaded as they are on disk")


def _check_setting(name: str, value: pb.LogSettingsRequest.SettingValue) -> None:
    """Raises InvalidArgument."""
    kind = value.WhichOneof("parameter_choice")
    if name in _VERBOSITIES:
        wanted = _VERBOSITIES[name][0]
    elif name in _CONSTANTS:
        wanted = "string_param"
    else:
        raise InvalidArgument(f"there is no log setting {quote(name)}; there are {', '.join(_VERBOSITIES)}")
    if kind != wanted:
        raise InvalidArgument(f"log setting {name} is {kind or 'nothing'}, it takes {wanted}")
    if name in _CONSTANTS and value.string_param != _CONSTANTS[name]:
        raise InvalidArgument(f"log setting {name} cannot be changed: clients have no say in it")


def _level(settings: Settings, level: int) -> int:
    """The level that checked settings turn one into. Whoever wants messages of a level wants those that are graver.

    Raises InvalidArgument for settings that contradict this.
    """
    on: dict[int, str] = {}
    off: dict[int, str] = {}
    for name, (kind, graveness) in _VERBOSITIES.items():
        if name in settings:
            wanted = on if getattr(settings[name], kind) else off
            wanted[graveness] = name
    if on and off and min(on) < max(off):
        raise InvalidArgument(f"log setting {off[max(off)]} cannot be off while {on[min(on)]} is on")
    if off:
        level = max(level, max(off) + _STEP)
    return min(level, min(on)) if on else level


def _shown(level: int) -> pb.LogSettingsResponse:
    response = pb.LogSettingsResponse()
    for name, constant in _CONSTANTS.items():
        response.settings[name].string_param = constant
    for name, (kind, graveness) in _VERBOSITIES.items():
        setattr(
            response.settings[name], kind, int(level <= graveness) if kind == "uint32_param" else level <= graveness
        )
    return response
