"""What is found under a name while models are added and removed."""

from __future__ import annotations

from dataclasses import replace

import pytest

from headrace.server.core.models import Models
from headrace.wire.errors import NotFound, Unavailable
from tests.server.core.model_specs import add, grow, step


def test_a_name_that_was_never_served_is_not_found() -> None:
    models = Models()
    models.add(add())
    for version in ("", "1"):
        with pytest.raises(NotFound, match="there is no model 'step'"):
            models.find("step", version)


def test_an_unknown_name_is_told_with_the_known_ones_and_their_number() -> None:
    models = Models()
    with pytest.raises(NotFound, match=r"^there is no model 'x'$"):
        models.find("x")
    for number in range(100):
        models.add(replace(add(), name=f"a{number:02}" + "b" * 100))
    with pytest.raises(
        NotFound, match=r"^there is no model 'x'; there are 'a00b.*', .*'a07b.*' and 92 more$"
    ) as unknown:
        models.find("x")
    assert len(unknown.value.message) < 500


def test_a_known_name_without_a_version_is_unavailable() -> None:
    models = Models()
    models.withhold("step", "is loading")
    for version in ("", "1"):
        with pytest.raises(Unavailable, match=r"^model 'step' is loading$") as loading:
            models.find("step", version)
        assert loading.value.retryable
    models.add(step())
    assert models.find("step").spec.name == "step"
    models.remove("step", "1", "is unloaded")
    with pytest.raises(Unavailable, match=r"^model 'step' is unloaded$"):
        models.find("step")
    with pytest.raises(Unavailable, match=r"^model 'step' version 1 is unloaded$"):
        models.find("step", "1")
    with pytest.raises(NotFound, match=r"^model 'step' has no version '2'$"):
        models.find("step", "2")
    assert not [*models]
    assert len(models) == 0


def test_a_version_that_is_not_there_is_not_found_though_another_is() -> None:
    models = Models()
    for version in ("1", "2", "10"):
        models.add(replace(step(), version=version))
    models.withhold("step", "is loading")
    assert models.find("step").spec.version == "10"
    models.remove("step", "10", "is unloaded")
    assert models.find("step").spec.version == "2"
    with pytest.raises(NotFound, match="model 'step' has no version '11'; the newest are '2', '1'"):
        models.find("step", "11")
    assert [spec.version for spec in models.unneeded] == ["10"]


def test_a_known_version_that_cannot_be_used_says_why_until_it_is_forgotten() -> None:
    models = Models()
    for version in ("2", "10"):
        models.add(replace(step(), version=version))
    models.remove("step", "10", "is unloaded")
    models.withhold("step", "could not be loaded", "11")
    for version, why in (("10", "is unloaded"), ("11", "could not be loaded")):
        with pytest.raises(Unavailable, match=f"^model 'step' version {version} {why}$"):
            models.find("step", version)
    assert models.find("step").spec.version == "2"
    models.add(replace(step(), version="11"))
    assert models.find("step").spec.version == "11"
    models.forget("step")
    with pytest.raises(NotFound, match="has no version '10'; the newest are '11', '2'"):
        models.find("step", "10")


@pytest.mark.parametrize(
    "version", ["01", "+1", "1 ", " 1", "1.0", "1_0", "\u0661", "\uff11", "1\0", "v1", "-1", "1" * 300]
)
def test_a_version_has_one_spelling(version: str) -> None:
    models = Models()
    models.add(replace(step(), version="1"))
    with pytest.raises(NotFound, match="has no version"):
        models.find("step", version)


def test_every_change_of_the_models_is_a_generation() -> None:
    models = Models()
    generations = {models.generation}
    for spec in (grow(), grow(), add()):
        models.add(spec)
        generations.add(models.generation)
    models.remove("grow", "1", "is unloaded")
    assert len(generations | {models.generation}) == 5
