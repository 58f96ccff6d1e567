"""Tests that replace a function of the code, which compiled code does not allow."""

from __future__ import annotations

import pytest

from headrace.server.version import BUILD

interpreted = pytest.mark.skipif(BUILD == "compiled", reason="a function of compiled code cannot be replaced")
