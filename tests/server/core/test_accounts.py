"""The budget of the process: what is charged to it, and that no stream takes it from the others."""

from __future__ import annotations

import pytest

from headrace.server.core.calls import Call, Inline
from headrace.server.core.limits import Limits
from headrace.server.core.quotas import EVENT_BYTES, TICKET_BYTES, Quota, Share
from headrace.wire.errors import ResourceExhausted
from tests.server.core.model_specs import model, port
from tests.server.core.scenario import Client, Scenario

KILO = 256
"""Elements of 1,024 bytes."""


def wide(memory: int, *, slots: int = 1, kilobytes: int = 4) -> Scenario:
    """give: one output of 4 KiB or so, and one of any size. Half of the memory is for unsent outputs."""
    spec = model("give", [port(0, "x", 4)], [port(0, "s", kilobytes * KILO), port(1, "d", None)], slots=slots)
    return Scenario(spec, limits=Limits(memory=memory))


def used(world: Scenario, client: Client) -> tuple[int, int, int]:
    """What a stream has of unsent outputs, what all have, and all that the budget is spent on."""
    accounts = world.core.accounts
    return client.stream.shares.unsent.used, accounts.unsent.used, accounts.memory.used


class TestShares:
    def test_a_stream_gets_no_more_than_is_left(self) -> None:
        account = Quota(100, Quota(1000))
        one, other = Share(100, account), Share(100, account)
        assert one.fits(100)
        one.charge(40)
        assert one.fits(20)
        assert not one.fits(21)
        assert other.fits(60)
        one.charge(10)
        assert not one.fits(1)
        assert not one.exceeded
        assert not one.is_tight
        other.charge(10)
        assert one.exceeded
        assert one.is_tight
        assert not other.exceeded

    def test_whoever_comes_after_a_hundred_gets_as_much_as_each_of_them(self) -> None:
        account = Quota(1000)
        shares = [Share(1000, account) for _ in range(100)]
        while any(share.fits(1) for share in shares):
            for share in shares:
                if share.fits(1):
                    share.charge(1)
        newcomer = Share(1000, account)
        assert {share.used for share in shares} <= {9, 10}
        assert newcomer.fits(min(share.used for share in shares))

    def test_what_another_account_holds_is_not_left_either(self) -> None:
        root = Quota(100)
        account, other = Quota(80, root), Quota(80, root)
        share = Share(80, account)
        assert share.fits(80)
        other.charge(70)
        assert account.left == 30
        assert share.fits(30)
        assert not share.fits(31)
        other.charge(50)  # what exists is charged even if it is too much
        assert account.left == -20
        assert not share.fits(1)


class TestUnsent:
    def test_clients_that_do_not_read_leave_room_for_one_that_does(self) -> None:
        world = wide(4 << 20, slots=2, kilobytes=128)
        lazy = [world.client() for _ in range(20)]
        good = world.client()
        good.infer(4999, "give", outputs=["s"])
        world.runs()
        good.receives()
        for number, client in enumerate(lazy):
            for tag in range(5):
                client.infer(100 * number + tag + 1, "give", outputs=["s"])
        world.runs()
        accounts = world.core.accounts
        assert accounts.unsent.used <= accounts.unsent.limit == 2 << 20
        assert accounts.unsent.left >= 1 << 20
        for tag in range(5000, 5010):
            good.infer(tag, "give", outputs=["s"])
            world.runs()
            assert good.receives() == [f"done {tag}"]
        for client in lazy:
            client.vanish()
        good.vanish()
        assert accounts.memory.used == 0

    def test_clients_whose_buffers_take_one_large_frame_leave_something_for_small_outputs(self) -> None:
        """The buffers of a transport take a frame before the client reads it, so that it looks as if it did."""
        world = wide(4 << 20)
        good = world.client()
        lazy = [world.client() for _ in range(40)]
        for number in range(2):
            for tag, client in enumerate(lazy):
                client.infer(2 * tag + number, "give", outputs=["d"])
                while world.starts():
                    world.end(2 * tag + number, d=32 << 10)
                if not number:
                    world.take(client.stream)
                    world.core.flushed(client.stream)
        accounts = world.core.accounts
        assert accounts.unsent.used > accounts.unsent.limit // 2
        good.infer(1000, "give", outputs=["s"])
        world.runs()
        assert good.receives() == ["done 1000"]

    def test_the_oldest_infer_fails_where_it_does_not_fit_so_that_nothing_waits_for_others(self) -> None:
        world = wide(64 << 10)
        client = world.client(ordered=True)
        for tag in (1, 2, 3, 4):
            client.infer(tag, "give", outputs=["s"])
        assert world.runs() == [1, 2]
        assert used(world, client)[:2] == (16 << 10, 16 << 10)
        assert client.receives() == ["done 1", "done 2", "failed 3 RESOURCE_EXHAUSTED", "failed 4 RESOURCE_EXHAUSTED"]
        assert client.errors[3].retryable
        assert "4096 bytes of output do not fit" in client.errors[3].message
        client.infer(5, "give", outputs=["s"])
        assert world.runs() == [5]

    def test_outputs_of_any_size_are_dropped_where_they_do_not_fit(self) -> None:
        world = wide(64 << 10)
        client = world.client()
        client.infer(1, "give", outputs=["d"], keep=["s"])
        client.infer(2, "give", outputs=["d"])
        assert world.starts() == [1]
        world.end(1, d=16 * KILO + 1)
        assert world.starts() == [2]
        world.end(2, d=16 * KILO)
        assert client.receives() == ["failed 1 RESOURCE_EXHAUSTED", "done 2"]
        assert client.errors[1].retryable
        assert world.core.accounts.keep.used == 0

    def test_what_one_client_takes_lets_others_start(self) -> None:
        world = wide(128 << 10, slots=2)
        alice, bob = world.client(), world.client()
        alice.infer(1, "give", outputs=["d"])
        bob.infer(11, "give", outputs=["d"])
        assert world.starts() == [1, 11]
        world.end(1, d=15 * KILO)
        world.end(11, d=8 * KILO)
        bob.infer(12, "give")
        bob.infer(13, "give")
        assert bob.stream.shares.unsent.used == 16 << 10
        assert alice.stream.backpressured
        alice.infer(2, "give")
        assert world.starts() == [12, 13]
        world.end(12)
        world.end(13)
        assert world.starts() == []
        assert bob.receives() == ["done 11", "done 12", "done 13"]
        assert world.starts() == [2]

    def test_outputs_are_charged_twice_until_their_frame_is_flushed(self) -> None:
        world = wide(1 << 20)
        client = world.client()
        client.infer(1, "give", outputs=["s"])
        client.infer(2, "give", keep=["s"])
        client.fetch(3, "2.s")
        world.runs()
        client.half_close()
        assert used(world, client)[:2] == (8 << 10, 8 << 10)
        assert len(world.take(client.stream)) == 3
        assert client.stream.ended
        assert used(world, client) == (16 << 10,) * 3
        world.core.flushed(client.stream)
        assert used(world, client) == (0, 0, 0)

    def test_a_client_that_vanishes_while_a_frame_is_written_is_charged_nothing(self) -> None:
        world = wide(1 << 20)
        client = world.client()
        client.infer(1, "give", outputs=["s"])
        world.runs()
        world.take(client.stream)
        client.vanish()
        world.core.flushed(client.stream)
        assert used(world, client) == (0, 0, 0)


class TestTickets:
    def test_each_is_charged_until_its_end_is_handed_off(self) -> None:
        world = Scenario()
        client = world.client()
        client.infer(1, keep=["y"])
        client.fetch(2, "1.y")
        tickets = world.core.accounts.tickets
        assert tickets.used == 2 * TICKET_BYTES
        world.runs()
        assert tickets.used == 2 * TICKET_BYTES
        client.receives()
        assert tickets.used == 0

    def test_more_than_fit_are_refused(self) -> None:
        world = Scenario(limits=Limits(memory=32 << 10))
        client, other = world.client(), world.client()
        for tag in range(1, 6):
            client.infer(tag)
        client.fetch(6, "1.y")
        assert client.receives() == ["failed 5 RESOURCE_EXHAUSTED", "failed 6 RESOURCE_EXHAUSTED"]
        assert client.errors[5].retryable
        assert client.errors[6].retryable
        assert "another ticket" in client.errors[5].message
        other.infer(11)
        assert world.runs() == [1, 11, 2, 3, 4]

    def test_refusals_that_are_not_read_are_charged_and_stop_the_reading(self) -> None:
        world = Scenario(limits=Limits(memory=64 << 10, window=100))
        client, other = world.client(), world.client()
        for _ in range(17):
            client.infer(0)
        tickets = world.core.accounts.tickets
        assert tickets.used == 17 * EVENT_BYTES
        assert not client.stream.may_read
        assert other.stream.may_read
        client.receives()
        assert tickets.used == 0
        assert client.stream.may_read

    def test_unary_calls_have_the_share_of_one_stream(self) -> None:
        world = Scenario(limits=Limits(memory=32 << 10))
        calls = [world.client(unary=True) for _ in range(6)]
        for tag, call in enumerate(calls, 1):
            call.infer(tag)
        refused = [f"failed {tag} RESOURCE_EXHAUSTED" for tag in (5, 6)]
        assert [call.receives()[-1] for call in calls[4:]] == refused
        stream = world.client()
        stream.infer(11)
        assert 11 in world.runs()


class TestDefinitions:
    def test_they_are_charged_what_they_take_rather_than_what_they_say(self) -> None:
        world = Scenario()
        client = world.client()
        shape = (1,) * 10_000
        call = Call("step", "", (Inline("x", 11, shape),), (), False, ())
        world.core.define(client.stream, 1, call, 10_020)
        definitions = world.core.accounts.definitions
        assert 10 * 10_000 < definitions.used == client.stream.shares.definitions.used
        world.core.define(client.stream, 1, Call("step", "", (), (), False, ()), 8)
        assert definitions.used < 1000
        client.vanish()
        assert definitions.used == 0

    def test_one_that_does_not_fit_is_rejected_and_the_one_before_is_not_used_instead(self) -> None:
        world = Scenario(limits=Limits(memory=64 << 10))
        client = world.client()
        number = client.define(Call("step", "", (Inline("x", 11, (4,)),), (), False, ()))
        world.core.define(client.stream, number, Call("step", "", (Inline("x", 11, (1,) * 500),), (), False, ()), 500)
        assert client.receives() == ["failed 0 RESOURCE_EXHAUSTED"]
        assert client.errors[0].retryable
        assert "call 1 takes" in client.errors[0].message
        assert world.core.accounts.definitions.used == 0
        client.infer(7)
        assert client.receives() == ["failed 7 INVALID_ARGUMENT"]
        assert "call 1 is not defined" in client.errors[7].message


class TestInputs:
    def test_a_client_that_fills_the_queue_leaves_room_for_others(self) -> None:
        world = Scenario(limits=Limits(queue_bytes=100))
        flood, good = world.client(), world.client()
        for tag in range(1, 10):
            flood.infer(tag)
        good.infer(11)
        assert flood.receives() == [f"failed {tag} RESOURCE_EXHAUSTED" for tag in range(4, 10)]
        assert isinstance(flood.errors[4], ResourceExhausted)
        assert flood.errors[4].retryable
        assert world.runs() == [1, 11, 2, 3]

    @pytest.mark.parametrize("count", [1, 2, 3])
    def test_streams_that_keep_to_their_part_are_not_refused(self, count: int) -> None:
        spec = model("take", [port(0, "x", None)], [port(0, "y", 4)])
        world = Scenario(spec, limits=Limits(queue_bytes=4000))
        clients = [world.client() for _ in range(count)]
        part = world.core.accounts.queue_bytes
        assert part == 800
        sizes = [16] * (part // 64 - 1) + [50]  # elements of four bytes: almost to the border, and another one
        for tag, size in enumerate(sizes, 1):
            for client in clients:
                client.infer(tag, "take", x=(size,))
        world.runs()
        for client in clients:
            assert client.receives() == [f"done {tag}" for tag in range(1, len(sizes) + 1)]

    def test_a_message_that_is_larger_than_the_budget_is_not_to_be_sent_again(self) -> None:
        world = Scenario(limits=Limits(memory=64 << 10, queue_bytes=1 << 20))
        client = world.client()
        client.infer(1)
        world.core.infer(client.stream, 2, 1, [bytes(16)], world.core.charge(client.stream, 65 << 10), world.now)
        world.core.infer(client.stream, 3, 1, [bytes(16)], world.core.charge(client.stream, 64 << 10), world.now)
        assert client.receives() == ["failed 2 RESOURCE_EXHAUSTED", "failed 3 RESOURCE_EXHAUSTED"]
        assert "never fits: the server has 65536 for inputs" in client.errors[2].message
        assert not client.errors[2].retryable
        assert client.errors[3].retryable

    def test_the_quota_of_kept_outputs_is_not_more_than_half_of_the_budget(self) -> None:
        world = Scenario(limits=Limits(memory=64 << 10))
        assert world.core.accounts.keep_bytes == world.core.accounts.keep.limit == 32 << 10
