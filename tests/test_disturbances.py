import subprocess
import sys
from contextlib import AbstractContextManager, nullcontext

import pytest

from tests import disturbances
from tests.disturbances import DisturbanceWatch, retried_if_disturbed

SKIPPED = pytest.skip.Exception


@pytest.fixture
def told(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What is said of the disturbance of each attempt, the last one first."""
    told: list[str] = []
    monkeypatch.setattr(DisturbanceWatch, "disturbance", lambda _: told.pop())
    return told


@pytest.mark.parametrize(
    ("disturbances", "passes_at", "expected"),
    [
        ([], 1, "passed"),
        (["busy"], 2, "passed"),
        (["busy", ""], 9, "failed"),
        (["busy"] * 3, 9, "skipped"),
    ],
)
def test_what_fails_is_repeated_only_if_it_was_disturbed(
    told: list[str], disturbances: list[str], passes_at: int, expected: str
) -> None:
    attempts = 0

    @retried_if_disturbed
    def test() -> None:
        nonlocal attempts
        attempts += 1
        assert attempts >= passes_at

    told += reversed(disturbances)
    ends: dict[str, AbstractContextManager[object]] = {
        "passed": nullcontext(),
        "failed": pytest.raises(AssertionError),
        "skipped": pytest.raises(SKIPPED),
    }
    with ends[expected]:
        test()
    assert told == []


def test_a_pause_is_a_disturbance() -> None:
    with DisturbanceWatch() as watch:
        watch.latest = 0.5
        assert watch.disturbance() == "the machine stood still for 0.5 s"


def test_other_programs_are_a_disturbance_if_they_take_the_processors(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(disturbances, "MAX_LATE_SECONDS", 1000.0)
    for busy, ours, expected in ((100, 85, ""), (75, 0, ""), (90, 30, "other programs took 60% of the processors")):
        monkeypatch.setattr(disturbances, "_processors", lambda: (0.0, 0.0, 0.0))
        with DisturbanceWatch() as watch:
            monkeypatch.setattr(disturbances, "_processors", lambda busy=busy, ours=ours: (100.0, busy, ours))
            assert watch.disturbance() == expected


def test_processors_are_those_of_the_machine_and_of_descendants() -> None:
    before = disturbances._processors()
    subprocess.run([sys.executable, "-c", "sum(range(10**8))"], check=True)
    whole, busy, ours = (now - then for now, then in zip(disturbances._processors(), before, strict=True))
    assert 0.2 < ours <= busy + 0.1 <= whole + 0.2
