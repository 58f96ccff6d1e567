"""Streams spread over addresses; those that fail are avoided, for longer each time, and tried again."""

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from headrace.client.protocol.address_choice import AddressChoice
from headrace.client.protocol.backoff import MAX_SECONDS, backoff


def choice_of(count: int, first: int = 0) -> AddressChoice:
    return AddressChoice(count, first, lambda: 0.0)


def open_stream(choice: AddressChoice) -> int:
    number = choice.best(stream=True)
    assert number is not None
    choice.opened(number)
    return number


def test_streams_go_where_the_fewest_are_open() -> None:
    choice = choice_of(3)
    assert [open_stream(choice) for _ in range(6)] == [0, 1, 2, 0, 1, 2]
    choice.closed(1)
    choice.closed(1)
    assert [open_stream(choice) for _ in range(3)] == [1, 1, 0]


def test_calls_take_turns_beginning_with_the_first() -> None:
    choice = choice_of(3, first=1)
    choice.opened(2)
    assert [choice.best(stream=False) for _ in range(4)] == [1, 2, 0, 1]


def test_an_address_that_fails_is_avoided_until_it_is_due() -> None:
    choice = choice_of(2)
    choice.failed(0, now=100.0)
    assert {choice.best(stream=True) for _ in range(5)} == {1}
    assert choice.has_usable
    assert choice.has_usable_beside(0)
    assert not choice.has_usable_beside(1)
    assert choice.due(100.05) == []
    assert choice.due(100.1) == [0]
    choice.restored(0)
    assert {choice.best(stream=False) for _ in range(2)} == {0, 1}
    choice.failed(0, now=200.0)
    assert choice.due(200.1) == []  # it is avoided for longer now
    choice.answered(0)
    choice.failed(0, now=300.0)
    assert choice.due(300.1) == [0]


def test_an_address_that_failed_has_less_time_to_answer() -> None:
    choice = choice_of(2)
    times = []
    for _ in range(5):
        times.append(choice.patience(0, 1.0))
        choice.failed(0, now=0.0)
    assert times == [1.0, 0.5, 0.25, 0.125, 0.125]
    choice.answered(0)
    assert choice.patience(0, 1.0) == 1.0


def test_when_all_are_avoided_none_is_best_and_the_one_that_failed_least_is_left() -> None:
    choice = choice_of(2)
    for number in (0, 0, 1):
        choice.failed(number, now=0.0)
    assert choice.best(stream=True) is None
    assert not choice.has_usable
    assert choice.best_of([0, 1], stream=True) == 1
    assert choice.best_of([0], stream=True) == 0


@given(failures=st.integers(1, 10_000), random=st.floats(0, 1))
def test_waits_grow_and_are_bounded(failures: int, random: float) -> None:
    wait = backoff(failures, random)
    assert 0 < wait <= MAX_SECONDS
    assert wait >= backoff(failures, 0.0) / 2
    assert backoff(failures + 1, 0.0) >= backoff(failures, 0.0)


@given(st.lists(st.tuples(st.sampled_from(["open", "close", "fail", "heal"]), st.integers(0, 3)), max_size=60))
def test_streams_are_as_even_as_they_can_be(steps: list[tuple[str, int]]) -> None:
    """A new stream never goes to an address that is avoided, or that has more streams than another that is not."""
    choice, streams, avoided = choice_of(4), Counter[int](), set[int]()
    for step, number in steps:
        if step == "close" and streams[number]:
            choice.closed(number)
            streams[number] -= 1
        elif step == "fail":
            choice.failed(number, 0.0)
            avoided.add(number)
        elif step == "heal":
            choice.answered(number)
            avoided.discard(number)
        elif step == "open" and len(avoided) < 4:
            opened = open_stream(choice)
            assert opened not in avoided
            assert streams[opened] == min(streams[other] for other in range(4) if other not in avoided)
            streams[opened] += 1
