"""Tests that replace a function of the code, inherit from its classes, or refer weakly to their instances.

Compiled code does not allow that.
"""

from __future__ import annotations

import pytest

from headrace.server.version import BUILD

interpreted = pytest.mark.skipif(BUILD == "compiled", reason="compiled code cannot be replaced")
