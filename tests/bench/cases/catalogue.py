"""All cases, in the order in which they are measured: cases that share servers follow each other."""

from __future__ import annotations

from tests.bench.cases import chains, large_models, live, memory, metrics, open_inference, perf_analyzer, small_models

CASES = [
    *small_models.CASES,
    *metrics.CASES,
    *open_inference.CASES,
    *perf_analyzer.CASES,
    *live.HALF_LOAD,
    *chains.CASES,
    *live.AUDIO,
    *large_models.CASES,
    *memory.CASES,
]
