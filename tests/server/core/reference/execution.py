"""What a decision may start, and what the end of a run leads to."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from headrace.server.core.engine_api import Part, Run
from tests.server.core.model_specs import FakeTensor
from tests.server.core.reference.ends import Ends
from tests.server.core.reference.expected import MIN_CHARGE_BYTES, ExpectedEvent, ExpectedTicket
from tests.server.core.reference.schedule import Schedule
from tests.server.core.reference.shapes import part_of, static_bytes
from tests.server.core.reference.state import ExpectedState
from tests.server.core.reference.turns import Turns
from tests.server.core.reference.waits import HasFailed

Result = tuple[Sequence[FakeTensor], Sequence[FakeTensor]]
"""The tensors that the run of a ticket sends, and the tensors that it keeps."""


class Execution:
    def __init__(self, state: ExpectedState, turns: Turns, schedule: Schedule, ends: Ends) -> None:
        self._state = state
        self._turns = turns
        self._schedule = schedule
        self._ends = ends

    def start(
        self, starts: Sequence[Run], has_failed: HasFailed, *, only_these: bool = False, direct: bool = True
    ) -> None:
        """Compare the runs that were started with whose turn it was.

        The rules do not say which of two models comes first, so `has_failed` is asked whether a ticket got no slot
        because the quota was used up, and it is checked that it could be. `only_these`: nothing was decided about any
        other ticket. Without `direct` nothing was decided about models that run directly.
        """
        state = self._state
        state.tick()
        runs = [(run, state.tickets_of(run)) for run in starts]
        ahead = [(ticket, run, part) for run, tickets in runs for ticket, part in zip(tickets, run.parts, strict=True)]
        assert len({id(ticket) for ticket, _, _ in ahead}) == len(ahead)
        orders = {
            id(spec): self._schedule.order(
                spec, [tickets for run, tickets in runs if run.spec is spec], has_failed, only_these=only_these
            )
            for spec in state.specs
            if direct or not spec.direct
        }
        assert all(id(run.spec) in orders for run in starts), f"some of {starts} are direct, and must wait"
        reserved = {id(stream): 0 for stream in state.streams}
        for ticket, _, _ in ahead:
            reserved[id(ticket.stream)] += sum(max(MIN_CHARGE_BYTES, each.static_bytes) for each in ticket.outputs)
        used = state.accounts.all_used
        while ahead or any(orders.values()):
            turns = [order[0] for order in orders.values() if order]
            failed = [ticket for ticket in turns if has_failed(ticket)]
            same_model = orders[id(ahead[0][1].spec)][:1] if ahead else []
            if ahead and self._comes_next(ahead[0][0], ahead[0][2], same_model, failed):
                ticket, run, part = ahead.pop(0)
                self._start(ticket, run, part)
            else:
                assert failed, f"{ahead[0]} started, and it was the turn of {turns}"
                ticket = next((ticket for ticket in failed if ticket in same_model), failed[0])
                freed = used - state.accounts.all_used
                self._fail_for_quota(ticket, reserved, max(0, freed))
            assert ticket.call is not None
            orders[id(ticket.call.spec)].remove(ticket)

    def stop(self, stops: Sequence[Run]) -> None:
        """Compare the runs that were stopped with the runs that no ticket wants."""
        assert len(stops) == len({id(run) for run in stops})
        assert {id(run) for run in stops} == {id(run) for run in self._state.stops}
        self._state.stops = []

    def run_ended(self, run: Run, results: Sequence[Result], error: str | None) -> None:
        """A run has ended: with a result for each of its tickets, or with an error."""
        state = self._state
        state.stops = [each for each in state.stops if each is not run]
        tickets = state.tickets_of(run)
        if error is not None and len(tickets) > 1:
            for ticket in tickets:
                if ticket.end is not None:
                    ticket.run = None
                    self._ends.let_go(ticket)
            self._turns.put_back([ticket for ticket in tickets if ticket.end is None])
            return
        if error in ("INTERNAL", "UNAVAILABLE") and self._runs_in_full(tickets[0]):
            return
        for ticket, (sent, kept) in zip(tickets, results, strict=True):
            self._part_ended(ticket, sent, kept, error)

    def _runs_in_full(self, ticket: ExpectedTicket) -> bool:
        """The run of one ticket has failed: if that was in a variant, what the model makes of it is what counts."""
        assert ticket.call is not None
        variant = ticket.call.spec
        full = self._state.full(variant)
        if ticket.end is not None or full is None:
            return False
        ticket.call, ticket.failed_in = replace(ticket.call, spec=full), variant
        self._turns.put_back([ticket])
        return True

    def _part_ended(
        self, ticket: ExpectedTicket, sent: Sequence[FakeTensor], kept: Sequence[FakeTensor], error: str | None
    ) -> None:
        state, stream = self._state, ticket.stream
        state.tick()
        charged = {output: stream.charge_of(output) for output in ticket.outputs}
        used, left = state.accounts.share("keep", stream), state.accounts.left("keep")
        unsent_fits = state.accounts.may_send(stream, sum(tensor.nbytes for tensor in sent))
        ticket.run = None
        if ticket.end is None:
            computed = zip(ticket.kept_positions, kept, strict=not error)
            arrived = [(ticket.outputs[position], tensor) for position, tensor in computed]
            arrived = [(output, tensor) for output, tensor in arrived if stream.is_held(output)]
            more = [max(0, max(MIN_CHARGE_BYTES, tensor.nbytes) - charged[each]) for each, tensor in arrived]
            kept_fit = True
            for nbytes in filter(None, more):
                used, left = used + nbytes, left - nbytes
                kept_fit = kept_fit and used <= state.limits.keep_bytes and left >= 0
            nbytes = sum(tensor.nbytes for tensor in sent)
            if error is not None:
                self._ends.fail(ticket, error)
            elif nbytes > self._ends.max_output_bytes(stream):
                words = ("keep it and fetch slices",)
                self._ends.fail(ticket, "RESOURCE_EXHAUSTED", words=words, retryable=False)
            elif nbytes and not unsent_fits:
                self._ends.fail(ticket, "RESOURCE_EXHAUSTED", words=(f"{nbytes} bytes of output",), retryable=True)
            elif not kept_fit:
                self._ends.fail(ticket, "RESOURCE_EXHAUSTED", words=(str(ticket.tag),), retryable=True)
            else:
                for output, tensor in arrived:
                    output.tensor, output.last_used = tensor, state.now
                ticket.nbytes = nbytes
                if ticket.failed_in is not None:
                    state.doubt(ticket.failed_in)
                names = tuple(output.port.name for output in ticket.outputs if output.owned)
                self._ends.finish(ticket, "DONE", ExpectedEvent("done", ticket.tag, kept=names))
        self._ends.let_go(ticket)
        self._ends.go_on(stream)

    def _comes_next(
        self, ticket: ExpectedTicket, part: Part, turns: Sequence[ExpectedTicket], failed: Sequence[ExpectedTicket]
    ) -> bool:
        """Whether a ticket started before the `failed` ones had their turns: some of them may have held its outputs."""
        return ticket in turns and (not failed or [*part.keep] == _held_positions(ticket))

    def _start(self, ticket: ExpectedTicket, run: Run, part: Part) -> None:
        """Check what a ticket starts with."""
        state = self._state
        assert ticket.call is not None
        spec = ticket.call.spec
        assert run.slot in range(spec.slots)
        assert run.slot not in {each.slot for each in state.runs(spec) if each is not run}
        assert run.spec is spec
        assert part.plan is not None
        assert part.plan.spec is (state.full(spec) or spec)
        assert ticket.ends_at is None or ticket.ends_at > state.now
        ticket.waits_until = None
        assert all(tensor is not None for tensor in part.references)
        _check_references(ticket, part)
        assert [*map(id, part.inline)] == [*map(id, ticket.inline)]
        assert [*part.keep] == _held_positions(ticket)
        assert len(run.parts) == 1 or part.rows == ticket.rows > 0
        sent, accounts = _sent_bytes(ticket), state.accounts
        left = accounts.limits["unsent"] - accounts.used("unsent")
        assert not sent or accounts.share("unsent", ticket.stream) + 2 * sent <= left
        self._turns.served(ticket)
        ticket.run, ticket.kept_positions = run, [*part.keep]
        for position, output in enumerate(ticket.outputs):
            output.promised = position in part.keep

    def _fail_for_quota(self, ticket: ExpectedTicket, reserved: dict[int, int], freed: int) -> None:
        """A ticket failed in its turn: what it keeps or sends must not have fitted.

        What those that start in the same decision keep, `reserved` by stream, may have been charged before. What those
        that fail in it have `freed` may have been freed afterwards.
        """
        accounts, stream = self._state.accounts, ticket.stream
        held = [each for each in ticket.outputs if stream.is_held(each)]
        need = sum(max(MIN_CHARGE_BYTES, each.static_bytes) for each in held)
        all_reserved = sum(reserved.values()) + freed
        mine = all_reserved if stream.single else reserved[id(stream)] + freed
        keeps = need == 0 or accounts.fits("keep", stream, mine + all_reserved + need)
        sends = _sent_bytes(ticket) == 0 or accounts.may_send(stream, _sent_bytes(ticket) + all_reserved)
        assert not (keeps and sends)
        self._turns.served(ticket)
        self._ends.fail(ticket, "RESOURCE_EXHAUSTED", words=("bytes",), retryable=True)


def _check_references(ticket: ExpectedTicket, part: Part) -> None:
    """Each of the tensors that a run gets is a source, or the part of it that was asked for."""
    for tensor, source, slices in zip(part.references, ticket.sources, ticket.parts, strict=True):
        assert isinstance(tensor, FakeTensor)
        assert source.tensor is not None
        assert (tensor.whole if slices else tensor) is source.tensor
        assert tensor.shape == part_of(source.tensor.shape, slices)


def _sent_bytes(ticket: ExpectedTicket) -> int:
    """Bytes of the outputs to send; 0 when a shape is dynamic."""
    assert ticket.call is not None
    sizes = [static_bytes(port) for port in ticket.call.outputs]
    return 0 if None in sizes else sum(size or 0 for size in sizes)


def _held_positions(ticket: ExpectedTicket) -> list[int]:
    return [position for position, each in enumerate(ticket.outputs) if ticket.stream.is_held(each)]
