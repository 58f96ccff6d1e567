"""The parameters of a config.pbtxt: those of Triton's OpenVINO backend, and of others what means the same."""

from __future__ import annotations

from collections.abc import Callable

from headrace.server.configuration.given import Given
from headrace.server.configuration.problems import Problems
from headrace.server.configuration.triton.message import ConfigPbtxt

_THREADS = ("INFERENCE_NUM_THREADS", "intra_op_thread_count", "TF_NUM_INTRA_THREADS")
ALREADY_SO = {
    "RESHAPE_IO_LAYERS": "models get the shapes of the configuration",
    "ENABLE_BATCH_PADDING": "requests may have fewer rows than max_batch_size",
}
"""What these ask for is so in any case."""


def translate_parameters(pbtxt: ConfigPbtxt, given: Given, problems: Problems) -> None:
    """Turn parameters into options. One that is not known is reported."""
    for name, parameter in sorted(pbtxt.config.parameters.items()):
        origin = pbtxt.origin("parameters", name)
        value = parameter.string_value.strip()
        if name in ALREADY_SO:
            continue
        translate = TRANSLATIONS.get(name)
        if translate is None:
            problems.unsupported(origin, f"parameters.{name}", "Headrace does not have this")
            continue
        try:
            path, option = translate(value)
        except ValueError:
            problems.add(origin, f"parameters.{name}", f"{value!r} is not a value of it")
            continue
        if option is not None:
            given.set(path, option, origin)


Translated = tuple[tuple[str, ...], object]


def _threads(value: str) -> Translated:
    return ("threads",), int(value) or None  # 0 is the default


def _streams(value: str) -> Translated:
    return ("streams",), value.lower() if value.upper() in ("AUTO", "NUMA") else int(value)


def _hint(value: str) -> Translated:
    if value.upper() not in ("LATENCY", "THROUGHPUT"):
        raise ValueError
    return ("hint",), value.lower()


def _bf16(value: str) -> Translated:
    return ("precision",), "bf16" if value.upper() == "YES" else None


TRANSLATIONS: dict[str, Callable[[str], Translated]] = {
    **dict.fromkeys(_THREADS, _threads),
    "NUM_STREAMS": _streams,
    "PERFORMANCE_HINT": _hint,
    "HINT_BF16": _bf16,
    "TARGET_DEVICE": lambda value: (("device",), value),
    "CPU_EXTENSION_PATH": lambda value: (("extensions",), [value]),
    "COMPILATION_NUM_THREADS": lambda value: (("properties", "COMPILATION_NUM_THREADS"), str(int(value))),
}
