"""Makes `tokens.xml` and `text.xml` in a folder, from a vocabulary: `python -m tests.tokenizers VOCABULARY FOLDER`.

In a process of its own, because importing openvino_tokenizers changes the classes of the runtime.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path


def make_tokenizers(vocabulary: Path, folder: Path) -> tuple[Path, Path]:
    """strings -> input_ids: i64[?,?], filled up with zeros; and i64[?,?] -> string_output."""
    subprocess.run([sys.executable, "-m", "tests.tokenizers", vocabulary, folder], check=True, timeout=120)
    return folder / "tokens.xml", folder / "text.xml"


def main(vocabulary: Path, folder: Path) -> None:
    import openvino as ov
    from openvino_tokenizers import build_rwkv_tokenizer

    tokenizer, detokenizer = build_rwkv_tokenizer(vocabulary.read_text("utf-8").splitlines())
    ov.save_model(tokenizer, folder / "tokens.xml")
    ov.save_model(detokenizer, folder / "text.xml")


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:]))
