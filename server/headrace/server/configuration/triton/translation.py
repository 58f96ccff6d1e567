"""What a config.pbtxt says, as options of a model.

Every field that is set is either used here or reported: `USED` has those that are used, so that none can be ignored
in silence.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path, PurePosixPath

from headrace.oip.model_config_pb2 import (
    DataType,
    ModelConfig,
    ModelInput,
    ModelInstanceGroup,
    ModelOutput,
    ModelQueuePolicy,
    ModelWarmup,
)
from headrace.server.configuration.given import Given
from headrace.server.configuration.problems import Problems
from headrace.server.configuration.triton.message import ConfigPbtxt, dotted_field
from headrace.server.configuration.triton.parameters import translate_parameters
from headrace.server.core.specs import MAX_BATCH
from headrace.server.engine.port_options import ExpectedPort

_BACKENDS = ("openvino", "onnxruntime", "tensorflow")
_PLATFORMS = ("onnxruntime_onnx", "tensorflow_graphdef", "tensorflow_savedmodel", *_BACKENDS)
USED = {
    "name",
    "platform",
    "backend",
    "version_policy",
    "version_policy.latest",
    "version_policy.latest.num_versions",
    "version_policy.all",
    "version_policy.specific",
    "version_policy.specific.versions",
    "max_batch_size",
    *("input", "input.name", "input.data_type", "input.format", "input.dims", "input.reshape", "input.reshape.shape"),
    *("output", "output.name", "output.data_type", "output.dims", "output.label_filename"),
    *("output.reshape", "output.reshape.shape"),
    *("instance_group", "instance_group.name", "instance_group.count", "instance_group.kind"),
    "default_model_filename",
    "dynamic_batching",
    "dynamic_batching.preferred_batch_size",
    "dynamic_batching.max_queue_delay_microseconds",
    *(f"dynamic_batching.default_queue_policy.{name}" for name in ("max_queue_size", "default_timeout_microseconds")),
    *(f"dynamic_batching.default_queue_policy.{name}" for name in ("timeout_action", "allow_timeout_override")),
    *("sequence_batching", "sequence_batching.direct", "sequence_batching.oldest"),
    "optimization.execution_accelerators.cpu_execution_accelerator.name",
    "parameters",
    "parameters.string_value",
    *("model_warmup", "model_warmup.name", "model_warmup.batch_size", "model_warmup.count", "model_warmup.inputs"),
    *("model_warmup.inputs.data_type", "model_warmup.inputs.dims", "model_warmup.inputs.zero_data"),
    "model_warmup.inputs.random_data",
}
EMPTY = {
    *("optimization", "optimization.graph", "optimization.cuda", "optimization.execution_accelerators"),
    "optimization.execution_accelerators.cpu_execution_accelerator",
    *("optimization.input_pinned_memory", "optimization.output_pinned_memory"),
    *("model_transaction_policy", "response_cache", "model_repository_agents", "model_operations", "model_metrics"),
    *("instance_group.rate_limiter", "dynamic_batching.default_queue_policy"),
}
"""Messages that say nothing by themselves."""
_INSTEAD = {
    "ensemble_scheduling": "Headrace has no ensembles; clients chain inferences by ticket",
    "sequence_batching.max_sequence_idle_microseconds": "idle sequences of all models end after --keep-seconds",
    "sequence_batching.control_input": "Headrace keeps the state in variables of the model, not by control inputs",
    "sequence_batching.state": "Headrace keeps the state in variables of the model, not in inputs and outputs",
    "model_operations.op_library_filename": "Headrace does not have this; extensions have the operations of a model",
}
"""What there is instead of what is not supported."""


def translate(pbtxt: ConfigPbtxt, name: str, folder: Path, problems: Problems) -> Given:
    """The options of the model in a folder, and the ports that it is said to have."""
    translation = _Translation(pbtxt, folder, problems)
    translation.run(name)
    return translation.given


class _Translation:
    def __init__(self, pbtxt: ConfigPbtxt, folder: Path, problems: Problems) -> None:
        self.given = Given()
        self._pbtxt = pbtxt
        self._config: ModelConfig = pbtxt.config
        self._folder = folder
        self._problems = problems

    def run(self, name: str) -> None:
        self._report_unused()
        self._name(name)
        self._platform()
        self._versions()
        self._ports()
        self._instances()
        self._batching()
        self._warm_up()
        translate_parameters(self._pbtxt, self.given, self._problems)
        if self._config.HasField("sequence_batching"):
            self._set(("state",), "sequence", "sequence_batching")
        if file := self._config.default_model_filename:
            self._set(("file",), self._inside(file, "default_model_filename"), "default_model_filename")

    def _set(self, path: tuple[str, ...], value: object, *key: str | int) -> None:
        self.given.set(path, value, self._pbtxt.origin(*key))

    def _expect(self, port: ExpectedPort) -> None:
        self.given.expected += (port,)

    def _error(self, text: str, *key: str | int) -> None:
        self._problems.add(self._pbtxt.origin(*key), dotted_field(key), text)

    def _unsupported(self, text: str, *key: str | int) -> None:
        self._problems.unsupported(self._pbtxt.origin(*key), dotted_field(key), text)

    def _report_unused(self) -> None:
        reported: set[str] = set()
        for key, path, has_unknown_number in self._pbtxt.fields():
            if has_unknown_number:
                self._error("no value has this number", *key)
            elif path not in USED and path not in EMPTY and not any(path.startswith(f"{each}.") for each in reported):
                reported.add(path)
                self._unsupported(_INSTEAD.get(path, "Headrace does not have this"), *key)
        accelerators = self._config.optimization.execution_accelerators.cpu_execution_accelerator
        for index, accelerator in enumerate(accelerators):
            if accelerator.name != "openvino":
                key = ("optimization", "execution_accelerators", "cpu_execution_accelerator", index, "name")
                self._unsupported(f"{accelerator.name!r} is not openvino", *key)

    def _inside(self, file: str, *key: str | int) -> str:
        """The name of a file in the folder of the model or of a version."""
        if PurePosixPath(file).is_absolute() or ".." in PurePosixPath(file).parts or "\0" in file:
            self._error(f"{file!r} is not in the folder of the model", *key)
        return file

    def _name(self, name: str) -> None:
        said = self._config.name
        if said and said not in (name, self._folder.name):
            self._error(f"the model is called {name!r}, not {said!r}", "name")

    def _platform(self) -> None:
        backend, platform = self._config.backend, self._config.platform
        if backend and backend not in _BACKENDS:
            self._error(
                f"models of {backend!r} cannot be read; Headrace reads those of {', '.join(_BACKENDS)}", "backend"
            )
        if platform and platform not in _PLATFORMS:
            known = ", ".join(_PLATFORMS)
            self._error(f"models of {platform!r} cannot be read; Headrace reads those of {known}", "platform")

    def _versions(self) -> None:
        policy = self._config.version_policy
        match policy.WhichOneof("policy_choice"):
            case "latest":
                self._set(("versions",), f"latest {policy.latest.num_versions or 1}", "version_policy")
            case "all":
                self._set(("versions",), "all", "version_policy")
            case "specific":
                self._set(("versions",), [*policy.specific.versions], "version_policy", "specific", "versions")

    # ------------------------------------------------------------------------------------------------------- ports

    def _ports(self) -> None:
        most = self._config.max_batch_size
        if most < 0:
            self._error("it is negative", "max_batch_size")
        elif most:
            self._set(("inputs", "*", "shape"), f"{_rows(most)},...", "max_batch_size")
        names: set[str] = set()
        for index, each in enumerate(self._config.input):
            if self._named(each.name, names, "input", index):
                self._input(each, index)
        names = set()
        for index, output in enumerate(self._config.output):
            if self._named(output.name, names, "output", index):
                self._output(output, index)

    def _named(self, name: str, names: set[str], kind: str, index: int) -> bool:
        """Whether a port has a name of its own, which joins `names`."""
        if not name:
            self._error("it has no name", kind, index)
        elif name in names:
            self._error(f"two have the name {name!r}", kind, index, "name")
        else:
            names.add(name)
            return True
        return False

    def _input(self, port: ModelInput, index: int) -> None:
        path, own = ("inputs", port.name), [*port.dims]
        origin = self._pbtxt.origin("input", index)
        if port.HasField("reshape"):
            self._set((*path, "reshape"), self._shape(port.dims), "input", index, "dims")
            own = [*port.reshape.shape]
        if port.dims:
            self._set((*path, "shape"), self._shape(own), "input", index, "dims")
        elif self._config.max_batch_size:
            self._set((*path, "shape"), f"{_rows(self._config.max_batch_size)},...", "max_batch_size")
        if port.format != ModelInput.FORMAT_NONE:
            self._format(port, index, len(own) + bool(self._config.max_batch_size))
        self._expect(ExpectedPort("input", port.name, origin, _datatype(port.data_type), self._fits(own, port)))

    def _format(self, port: ModelInput, index: int, axes: int) -> None:
        if len(port.dims) != 3:
            self._error("it needs three dims, without the batch axis", "input", index, "format")
            return
        layout = "NHWC" if port.format == ModelInput.FORMAT_NHWC else "NCHW"
        if axes in (3, 4):
            self._set(("inputs", port.name, "model_layout"), layout[4 - axes :], "input", index, "format")

    def _output(self, port: ModelOutput, index: int) -> None:
        path, own = ("outputs", port.name), [*port.dims]
        origin = self._pbtxt.origin("output", index)
        if port.HasField("reshape"):
            self._set((*path, "reshape"), self._shape(port.dims), "output", index, "dims")
            own = [*port.reshape.shape]
        if port.label_filename:
            key = ("output", index, "label_filename")
            file = self._folder / self._inside(port.label_filename, *key)
            if not file.is_file():
                self._error(f"file {str(file)!r} does not exist", *key)
            self._set((*path, "labels"), str(file.absolute()), *key)
        self._expect(ExpectedPort("output", port.name, origin, _datatype(port.data_type), self._fits(own, port)))

    def _shape(self, dims: Iterable[int]) -> str:
        """Dimensions, with the batch axis that they are said to be without."""
        most = self._config.max_batch_size
        return ",".join([_rows(most)] * bool(most) + ["?" if each < 0 else str(each) for each in dims])

    def _fits(self, own: list[int], port: ModelInput | ModelOutput) -> str:
        """The shape that the model must have: any number of rows will do."""
        if not port.dims:
            return ""
        return ",".join(["?"] * bool(self._config.max_batch_size) + ["?" if each < 0 else str(each) for each in own])

    # -------------------------------------------------------------------------------------------------------- runs

    def _instances(self) -> None:
        groups = self._config.instance_group
        for index, group in enumerate(groups):
            if group.kind == ModelInstanceGroup.KIND_GPU:
                self._unsupported(
                    "Headrace has no KIND_GPU; set the device of the model", "instance_group", index, "kind"
                )
            elif group.kind == ModelInstanceGroup.KIND_MODEL:
                self._unsupported("Headrace has no KIND_MODEL", "instance_group", index, "kind")
        if any(group.count for group in groups):
            self._set(("slots",), sum(group.count or 1 for group in groups), "instance_group")

    def _batching(self) -> None:
        config, most = self._config, self._config.max_batch_size
        if most == 1:
            self._set(("batch",), "off", "max_batch_size")
        if not config.HasField("dynamic_batching"):
            return
        if not most:
            self._error("it needs max_batch_size", "dynamic_batching")
            return
        preferred = [*config.dynamic_batching.preferred_batch_size]
        wrong = [each for each in preferred if not 0 < each <= most]
        if wrong:
            text = f"{wrong[0]} is not from 1 to max_batch_size"
            self._error(text, "dynamic_batching", "preferred_batch_size", preferred.index(wrong[0]))
        rows = min(MAX_BATCH, max(preferred, default=most))
        key = ("dynamic_batching", "preferred_batch_size") if preferred else ("dynamic_batching",)
        self._set(("batch",), rows if rows > 1 else "off", *key)
        microseconds = config.dynamic_batching.max_queue_delay_microseconds
        if microseconds:
            key = ("dynamic_batching", "max_queue_delay_microseconds")
            self._set(("batch_delay",), microseconds / 1e6, *key)
        self._queue_policy(config.dynamic_batching.default_queue_policy)

    def _queue_policy(self, policy: ModelQueuePolicy) -> None:
        key = ("dynamic_batching", "default_queue_policy")
        if policy.max_queue_size:
            self._set(("max_queue",), policy.max_queue_size, *key, "max_queue_size")
        if policy.default_timeout_microseconds and policy.timeout_action == ModelQueuePolicy.REJECT:
            seconds = policy.default_timeout_microseconds / 1e6
            self._set(("max_queue_seconds",), seconds, *key, "default_timeout_microseconds")
        elif policy.timeout_action == ModelQueuePolicy.DELAY:
            text = "Headrace refuses what has waited too long, and lets nothing wait behind all others"
            self._unsupported(text, *key, "timeout_action")

    def _warm_up(self) -> None:
        for index, each in enumerate(self._config.model_warmup):
            if index:
                self._unsupported("Headrace has one request to warm a model up", "model_warmup", index)
            else:
                self._warm_up_with(each)

    def _warm_up_with(self, warm_up: ModelWarmup) -> None:
        self._set(("warm_up",), warm_up.count or 1, "model_warmup", 0)
        rows = [str(warm_up.batch_size or 1)] * bool(self._config.max_batch_size)
        for name, each in sorted(warm_up.inputs.items()):
            key = ("model_warmup", 0, "inputs", name)
            if each.random_data:
                self._unsupported("zeros warm a model up, not random numbers", *key, "value", "random_data")
            if any(size < 0 for size in each.dims):
                self._error("a size is negative", *key, "value", "dims")
            self._set(("inputs", name, "warm_up"), ",".join([*rows, *map(str, each.dims)]), *key)


def _rows(most: int) -> str:
    return f"1..{most}" if most > 1 else "1"


def _datatype(data_type: DataType.ValueType) -> str:
    """The name of the Open Inference Protocol; empty if none is given, or a number that none has."""
    name = DataType.Name(data_type).removeprefix("TYPE_") if data_type in DataType.values() else ""
    return {"INVALID": "", "STRING": "BYTES"}.get(name, name)
