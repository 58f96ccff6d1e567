"""A million calls of every kind that end in every way, frame by frame of HTTP/2."""

from __future__ import annotations

from tests import models
from tests.interop.soak import soak
from tests.soak.findings import Findings
from tests.soak.setting import Setting

CALLS = 1_000_000


def calls(setting: Setting) -> Findings:
    paths = [models.scale(setting.folder), models.slow(setting.folder, steps=2)]
    with setting.serving(*paths) as served:
        return soak(served, setting.of(CALLS))
