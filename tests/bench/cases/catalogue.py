"""All cases, in the order in which they are measured: cases that share servers follow each other."""

from __future__ import annotations

from tests.bench.cases import chains, large_models, open_inference, small_models

CASES = [*small_models.CASES, *open_inference.CASES, *chains.CASES, *large_models.CASES]
