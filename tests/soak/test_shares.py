"""A small share of each long test: see `python -m tests.soak`."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from tests import models
from tests.costs.measuring import metered
from tests.costs.requests import BUILDS
from tests.disturbances import retried_if_disturbed
from tests.soak.bad_peers import bad_peers
from tests.soak.clients import live_and_die
from tests.soak.growth import growth, planted_leak
from tests.soak.many_streams import many_streams
from tests.soak.mutations import send_all
from tests.soak.reloads import reloads
from tests.soak.restarts import SILERO, restart_all
from tests.soak.setting import Setting


def test_memory_stays_as_it_is_after_the_first_inferences(tmp_path: Path) -> None:
    growth(Setting(tmp_path, share=0.004)).check()


def test_a_leak_would_be_found(tmp_path: Path) -> None:
    planted_leak(Setting(tmp_path, share=0.04)).check()


@pytest.mark.timeout(900)
@retried_if_disturbed
def test_requests_that_may_be_anything_are_answered_soon_and_reveal_nothing(tmp_path: Path) -> None:
    setting = Setting(tmp_path)
    paths = [build(tmp_path) for build in BUILDS]
    with setting.serving(*paths, "--shared-memory", "--batch=off") as served, metered(served) as meter:
        send_all(served, meter, {"changes": 2800, "seeds": 1000, "examples": 200}, processes=1).check()


def test_clients_that_are_killed_reset_and_expire_leave_nothing(tmp_path: Path) -> None:
    paths = [models.scale(tmp_path), models.slow(tmp_path, steps=2), models.wide(tmp_path)]
    with Setting(tmp_path).serving(*paths) as served:
        live_and_die(served, 150).check()


@pytest.mark.timeout(900)
@retried_if_disturbed
def test_streams_at_once_get_the_same_number_of_answers(tmp_path: Path) -> None:
    many_streams(Setting(tmp_path, share=0.04)).check()


@pytest.mark.timeout(900)
@retried_if_disturbed
def test_peers_that_write_too_fast_or_never_read_hold_up_nobody(tmp_path: Path) -> None:
    bad_peers(Setting(tmp_path, share=0.05)).check()


@pytest.mark.timeout(600)
@pytest.mark.skipif(SILERO is None, reason="the model is not installed: make .venv/.model")
@pytest.mark.parametrize("name", ["SIGKILL", "SIGTERM"])
def test_nothing_is_lost_or_wrong_while_servers_end_and_start_again(tmp_path: Path, name: str) -> None:
    asyncio.run(restart_all(Setting(tmp_path), 2, [name], chains=6)).check()


def test_versions_alternate_under_load(tmp_path: Path) -> None:
    reloads(Setting(tmp_path, share=0.1)).check()
