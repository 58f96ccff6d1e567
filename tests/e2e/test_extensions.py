"""Operations that are not the runtime's own: a real tokenizer, chained with an embedding."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import openvino as ov
import pytest
from openvino import opset15 as opset
from rwkv.rwkv_tokenizer import TRIE_TOKENIZER

import headrace.client as hc
from tests.e2e.serving import Serve
from tests.packaged_models import VOCABULARY, packaged
from tests.tokenizers import make_tokenizers

TEXTS = ("Ich möchte Wasser", "water", "", "the quick brown fox, 水 and naïve café\n\n", " " * 40)
WORDS = 65536


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tokenizers")
    make_tokenizers(packaged(*VOCABULARY), folder)
    return folder


def embedding(folder: Path) -> tuple[Path, np.ndarray[tuple[int, ...], np.dtype[np.float32]]]:
    """ids: i64[?,?] -> vectors: f32[?,?,4], and the table."""
    table = np.random.default_rng(5).random((WORDS, 4), np.float32)
    ids = opset.parameter([-1, -1], np.int64, name="ids")
    ids.output(0).set_names({"ids"})
    vectors = opset.gather(opset.constant(table), ids, opset.constant(0))
    vectors.output(0).set_names({"vectors"})
    path = folder / "embedding.xml"
    ov.save_model(ov.Model([vectors], [ids]), path, compress_to_fp16=False)
    return path, table


async def test_strings_become_ids_become_vectors_by_ticket(serve: Serve, folder: Path, tmp_path: Path) -> None:
    model, table = embedding(tmp_path)
    arguments = (f"tokens={folder / 'tokens.xml'}", f"text={folder / 'text.xml'}", f"vectors={model}")
    served = serve(*arguments, "--extension=openvino_tokenizers", "--property=INFERENCE_PRECISION_HINT=f32")
    reference = TRIE_TOKENIZER(str(packaged(*VOCABULARY)))
    async with hc.connect(served.address) as server, server.stream() as stream:
        name = next(model.inputs[0].name for model in await server.models() if model.name == "text")
        for texts in (TEXTS, *((text,) for text in TEXTS), TEXTS[:2]):
            expected = [reference.encode(text) for text in texts]
            tokens = await stream.submit("tokens", {"string_input": np.array(texts)}, keep=["input_ids"])
            vectors = await stream.submit("vectors", {"ids": tokens["input_ids"]})
            text = await stream.submit("text", {name: tokens["input_ids"]})
            ids = (await tokens)["input_ids"]
            assert ids.shape == (len(texts), max(map(len, expected)))
            for row, numbers in zip(ids, expected, strict=True):
                assert row.tolist() == numbers + [0] * (ids.shape[1] - len(numbers))
            np.testing.assert_array_equal((await vectors)["vectors"], table[ids])
            if not ids.size:  # operations that the runtime does not define get no empty tensors
                with pytest.raises(hc.InvalidArgument, match=r"'input_ids' of ticket \d+ has shape \[1, 0\]"):
                    await text
                continue
            (strings,) = (await text).values()
            assert [string.rstrip(b"\0").decode() for string in strings] == [*texts]


async def test_a_second_start_knows_the_tokenizer(serve: Serve, folder: Path, tmp_path: Path) -> None:
    arguments = (f"tokens={folder / 'tokens.xml'}", "--extension=openvino_tokenizers", f"--cache-dir={tmp_path}")
    for known in (False, True):
        served = serve(*arguments)
        assert ("its trial is known" in served.log) is known
        async with hc.connect(served.address) as server:
            ids = (await server.infer("tokens", {"string_input": np.array(["water"])}))["input_ids"]
        assert ids.tolist() == [TRIE_TOKENIZER(str(packaged(*VOCABULARY))).encode("water")]
