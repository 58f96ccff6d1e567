from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.page.browser import Browser

PICTURES = Path(__file__).parents[2] / "build" / "page"


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    try:
        opened = Browser()
    except FileNotFoundError as error:
        pytest.exit(str(error), returncode=1)
    with opened:
        yield opened


@pytest.fixture(scope="session")
def pictures() -> Path:
    """The folder of the screenshots."""
    PICTURES.mkdir(parents=True, exist_ok=True)
    return PICTURES
