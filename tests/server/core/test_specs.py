"""Inputs and outputs of models, the models that are served, the tables of states, and quotas."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headrace.server.core.model_queue import ModelQueue
from headrace.server.core.models import Models
from headrace.server.core.quotas import MessageCharge, Quota
from headrace.server.core.specs import Dimension, Port
from headrace.server.core.state import Ticket
from headrace.server.core.transitions import SLOT_TRANSITIONS, TICKET_TRANSITIONS, SlotState, TicketState
from headrace.wire.dtypes import Datatype
from headrace.wire.errors import NotFound
from tests.server.core.model_specs import model, port, step
from tests.server.core.scenario import Scenario

MOST = 6
dimensions = st.builds(
    lambda low, more: Dimension(low, -1 if more is None else low + more),
    st.integers(0, MOST),
    st.none() | st.integers(0, MOST),
)


class TestDimension:
    @given(dimensions, st.integers(0, 3 * MOST))
    def test_a_dimension_admits_what_lies_between_its_bounds(self, dimension: Dimension, size: int) -> None:
        top = dimension.max if dimension.max >= 0 else 10 * MOST
        assert dimension.admits(size) == (size in range(dimension.min, top + 1))

    @given(dimensions, dimensions)
    def test_dimensions_overlap_when_a_size_fits_both(self, one: Dimension, other: Dimension) -> None:
        both = any(one.admits(size) and other.admits(size) for size in range(3 * MOST))
        assert one.overlaps(other) == other.overlaps(one) == both

    @pytest.mark.parametrize(
        ("dimension", "shown"),
        [(Dimension(4, 4), "4"), (Dimension(0, -1), "?"), (Dimension(2, -1), "2.."), (Dimension(2, 5), "2..5")],
    )
    def test_a_dimension_shows_its_bounds(self, dimension: Dimension, shown: str) -> None:
        assert str(dimension) == shown


class TestPort:
    @given(st.lists(dimensions, max_size=3), st.lists(st.integers(0, MOST), max_size=3))
    def test_a_port_admits_shapes_of_its_rank(self, sizes: list[Dimension], shape: list[int]) -> None:
        admits = len(sizes) == len(shape) and all(each.admits(size) for each, size in zip(sizes, shape, strict=False))
        assert Port(0, ("x",), Datatype.FP32, tuple(sizes)).admits(shape) == admits

    def test_a_port_of_any_rank_admits_every_shape(self) -> None:
        any_rank = Port(0, ("x",), Datatype.FP32, None)
        assert any_rank.admits(())
        assert any_rank.admits((1, 2, 3))
        assert any_rank.static_shape is None
        assert any_rank.overlaps(port(0, "y", 4))
        assert port(0, "y", 4).overlaps(any_rank)
        assert str(any_rank) == "FP32[any rank]"

    def test_a_port_without_dynamic_dimensions_has_a_static_shape(self) -> None:
        assert port(0, "x", 2, 3).static_shape == (2, 3)
        assert port(0, "x").static_shape == ()
        assert port(0, "x", 2, None).static_shape is None
        assert port(0, "x", 2, (1, 2)).static_shape is None

    def test_ports_overlap_when_a_shape_fits_both(self) -> None:
        assert port(0, "x", 2, None).overlaps(port(0, "y", (1, 2), 7))
        assert not port(0, "x", 2, None).overlaps(port(0, "y", (3, 4), 7))
        assert not port(0, "x", 2).overlaps(port(0, "y", 2, 1))

    def test_a_port_shows_the_first_of_its_names(self) -> None:
        assert port(0, "b|a").name == "a"


class TestModels:
    def versions(self, *versions: str) -> Models:
        models = Models()
        for version in versions:
            models.add(model("m", [], [], version=version))
        return models

    def test_the_newest_version_of_a_model_is_found(self) -> None:
        models = self.versions("2", "10", "9", "beta")
        assert models.find("m").spec.version == "10"
        assert models.find("m", "beta").spec.version == "beta"
        assert [each.spec.version for each in models] == ["beta", "2", "9", "10"]
        assert len(models) == 4

    def test_models_are_listed_by_name(self) -> None:
        models = Models()
        for name in ("b", "a"):
            models.add(model(name, [], []))
        assert [each.spec.name for each in models] == ["a", "b"]
        assert "a/1" in repr(models)

    def test_a_model_that_is_not_there_is_named(self) -> None:
        models = self.versions("1", "2")
        with pytest.raises(NotFound, match="no model 'n'"):
            models.find("n")
        with pytest.raises(NotFound, match=r"model 'm' has no version '3'.*'2', '1'"):
            models.find("m", "3")

    def test_the_message_about_a_version_is_short_however_many_there_are(self) -> None:
        models = self.versions(*map(str, range(1000)), "v" * 1000)
        with pytest.raises(NotFound) as raised:
            models.find("m", "x" * 1000)
        assert "'999'" in raised.value.message
        assert len(raised.value.message) < 500

    def test_every_change_of_the_models_has_its_generation(self) -> None:
        models = self.versions("1")
        before = models.generation
        models.add(model("m", [], [], version="1"))
        assert models.generation != before
        assert len(models) == 1


class TestTransitions:
    """The two lives, as they are drawn in the docstring of the tables."""

    def test_a_ticket_moves_only_as_the_table_says(self) -> None:
        state = TicketState
        ends = {state.DONE, state.FAILED, state.CANCELLED, state.EXPIRED}
        failures = ends - {state.DONE}
        assert {
            state.WAITING: {state.QUEUED, *ends},
            state.QUEUED: {state.RUNNING, *failures},
            state.RUNNING: {state.QUEUED, *ends},
            **{end: {state.CLOSED} for end in ends},
            state.CLOSED: set(),
        } == TICKET_TRANSITIONS

    def test_a_slot_moves_only_as_the_table_says(self) -> None:
        state = SlotState
        assert {
            state.FREE: {state.RUNNING, state.RESTORING},
            state.RUNNING: {state.FREE, state.STOPPING, state.RESTORING},
            state.STOPPING: {state.FREE, state.RESTORING},
            state.RESTORING: {state.FREE},
        } == SLOT_TRANSITIONS

    def test_a_move_that_the_table_does_not_have_is_refused(self) -> None:
        ticket = Ticket(Scenario().client().stream, 1, 0.0, infer=True)
        for old, new in itertools.product(TicketState, TicketState):
            ticket.state = old
            if new in TICKET_TRANSITIONS[old]:
                ticket.move(new)
                assert ticket.state is new
            else:
                with pytest.raises(AssertionError, match=f"{old.name} does not lead to {new.name}"):
                    ticket.move(new)

    def test_no_slot_is_freed_twice(self) -> None:
        slots: ModelQueue[Ticket] = ModelQueue(step(slots=1))
        slots.free(slots.occupy())
        with pytest.raises(AssertionError, match="FREE does not lead to FREE"):
            slots.free(0)


class TestQuota:
    def test_a_quota_of_a_stream_counts_in_that_of_the_server(self) -> None:
        server = Quota(100)
        one, other = Quota(70, server), Quota(70, server)
        assert one.fits(70)
        assert not one.fits(71)
        one.charge(60)
        other.charge(30)
        assert (one.used, other.used, server.used) == (60, 30, 90)
        assert one.fits(10)
        assert not one.fits(11)
        assert other.fits(10)
        assert not other.fits(11)
        one.refund(60)
        assert (one.used, other.used, server.used) == (0, 30, 30)
        assert repr(server) == "<Quota 30 of 100>"

    def test_no_more_is_refunded_than_was_charged(self) -> None:
        quota = Quota(10)
        quota.charge(3)
        with pytest.raises(AssertionError):
            quota.refund(4)

    def test_a_message_is_charged_as_a_whole_while_a_ticket_holds_it(self) -> None:
        budget = Quota(100)
        charge, other = MessageCharge(60, budget), MessageCharge(50, budget)
        assert charge.fits()
        charge.hold()
        charge.hold()
        assert charge.fits()
        assert not other.fits()
        charge.let_go()
        assert budget.used == 60
        assert repr(charge) == "<MessageCharge 60 bytes, 1 holders>"
        charge.let_go()
        assert budget.used == 0
        assert other.fits()
