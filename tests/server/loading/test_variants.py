"""Variants are loaded after a trial, from the very files that their model was loaded from."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import pytest

from headrace.server.core.specs import ModelSpec
from headrace.server.repository.named import NamedModel
from headrace.wire.errors import FailedPrecondition, Unavailable
from tests import models
from tests.server.loading.test_loader import F32, House
from tests.waiting import until


@pytest.fixture
def house(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[House]:
    house = House(monkeypatch, tmp_path / "cache")
    yield house
    house.engine.close()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return models.wide(tmp_path)


def named(path: Path) -> NamedModel:
    return NamedModel("m", "1", path, F32)


def test_a_variant_is_loaded_beside_its_model_and_tried_once(
    house: House, path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    spec = house.load(path)
    variant = house.loader.load_variant(named(path), spec, (0,))
    assert house.trials == 2
    assert (variant.pruned_to, variant.fingerprint) == ((0,), spec.fingerprint)
    assert len(house.engine._models) == 2
    assert "loaded model 'm' version 1 pruned to 'small' (runs directly, no batches) in" in caplog.text
    again = House(monkeypatch, tmp_path / "cache")
    spec = again.load(path)
    assert again.loader.load_variant(named(path), spec, (0,)).direct == variant.direct
    assert again.trials == 0
    again.engine.close()


def test_findings_of_a_variant_are_not_those_of_its_model_or_of_another(house: House, path: Path) -> None:
    spec = house.load(path)
    assert house.loader.load_variant(named(path), spec, (0,)).direct
    with pytest.raises(FailedPrecondition, match=r"^it saves \d+% of a run$"):  # and is not loaded
        house.loader.load_variant(named(path), spec, (1,))
    assert house.trials == 3
    assert len(house.engine._models) == 2
    assert not house.load(path).direct


def test_files_that_have_changed_since_the_model_was_loaded_make_no_variant(house: House, tmp_path: Path) -> None:
    path = models.two_heads(tmp_path)
    spec = house.load(path)
    models.two_heads(tmp_path, width=256)
    with pytest.raises(FailedPrecondition, match="the files of model 'm' have changed since it was loaded"):
        house.loader.load_variant(named(path), spec, (0,))
    assert house.trials == 1


def test_files_that_change_while_a_variant_is_loaded_make_none(
    house: House, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spec = house.load(path)
    load = house.engine.load_variant

    def touch_after(*arguments: object) -> ModelSpec:
        variant = load(*arguments)  # type: ignore[arg-type]  # as they were given
        path.touch()
        return variant

    monkeypatch.setattr(house.engine, "load_variant", touch_after)
    with pytest.raises(FailedPrecondition, match="its files changed meanwhile"):
        house.loader.load_variant(named(path), spec, (0,))
    assert len(house.engine._models) == 1


def test_a_model_that_was_unloaded_gets_no_variant(house: House, path: Path) -> None:
    spec = house.load(path)
    house.engine.unload(spec)
    with pytest.raises(Unavailable, match="model 'm' has been unloaded"):
        house.loader.load_variant(named(path), spec, (0,))


def during_the_trial(house: House, path: Path, act: Callable[[], object]) -> Future[ModelSpec]:
    """A variant whose trial is in progress when something else happens."""
    spec = house.load(path)
    with ThreadPoolExecutor(1) as threads:
        loading = threads.submit(house.loader.load_variant, named(path), spec, (0,))
        until(lambda: "trying" in repr(house.loader))
        act()
    return loading


def test_closing_ends_the_trial_of_a_variant(house: House, path: Path) -> None:
    loading = during_the_trial(house, path, house.loader.close)
    with pytest.raises(Unavailable, match="the server is stopping"):
        loading.result()


def test_the_trial_of_a_variant_gives_way_to_a_model(house: House, path: Path, tmp_path: Path) -> None:
    other = models.scale(tmp_path)
    loading = during_the_trial(house, path, lambda: house.load(other))
    with pytest.raises(Unavailable, match="another model is to be loaded, which comes first"):
        loading.result()
    assert len(house.engine._models) == 2


def test_unloading_during_the_trial_leaves_a_variant_that_can_be_unloaded(house: House, path: Path) -> None:
    spec = house.load(path)
    with ThreadPoolExecutor(1) as threads:
        loading = threads.submit(house.loader.load_variant, named(path), spec, (0,))
        until(lambda: "trying" in repr(house.loader))
        house.engine.unload(spec)
        variant = loading.result()
    house.engine.unload(variant)
    assert house.engine._models == {}
