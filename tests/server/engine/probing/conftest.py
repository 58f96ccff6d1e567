"""Probes that a busy machine does not cut short."""

from __future__ import annotations

import pytest

from headrace.server.engine.probing import batching


@pytest.fixture
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """The machine may be busy: measure a size until it pays off, and check for as long as that takes."""
    monkeypatch.setattr(batching, "MAX_MEASUREMENTS", 50)
    for name in ("FIRST_RUN_SECONDS", "MEASURING_SECONDS", "CHECKING_SECONDS", "REQUESTED_CHECKING_SECONDS"):
        monkeypatch.setattr(batching, name, 40.0)
