"""Workers that are restarted one after the other, and then their parent: once, of the ten times of `make rolling`."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.soak.findings import Findings
from tests.soak.rolling import roll_pair, roll_workers
from tests.soak.setting import Setting


@pytest.mark.timeout(300)
@pytest.mark.parametrize("roll", [roll_workers, roll_pair])
def test_a_rolling_restart_loses_nothing(roll: Callable[[Setting, int, Findings], None], tmp_path: Path) -> None:
    findings = Findings()
    roll(Setting(tmp_path), 1, findings)
    print(f"\n{findings}")
    findings.check()
