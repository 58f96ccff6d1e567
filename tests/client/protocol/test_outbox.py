"""Items are gathered into frames, which close at their limits."""

from headrace.client.protocol.outbox import Outbox


def outbox(items: int = 3, nbytes: int = 10) -> Outbox:
    box = Outbox()
    box.set_limits(items, nbytes)
    return box


def messages(box: Outbox) -> list[bytes]:
    taken = []
    while (message := box.next_message()) is not None:
        taken.append(message)
    return taken


def add(box: Outbox, *items: bytes) -> None:
    for item in items:
        box.add(item, len(item))


def test_an_empty_outbox_has_no_message() -> None:
    assert outbox().next_message() is None


def test_a_message_holds_every_item_that_is_ready() -> None:
    box = outbox()
    add(box, b"a", b"b")
    assert messages(box) == [b"ab"]
    add(box, b"c")
    assert messages(box) == [b"c"]


def test_a_frame_closes_at_its_number_of_items() -> None:
    box = outbox()
    add(box, b"a", b"b", b"c", b"d")
    assert messages(box) == [b"abc", b"d"]


def test_a_frame_closes_at_its_number_of_bytes() -> None:
    box = outbox()
    add(box, b"123456", b"1234", b"1")
    assert messages(box) == [b"1234561234", b"1"]


def test_a_larger_item_travels_alone() -> None:
    box = outbox()
    add(box, b"a", b"x" * 11, b"b")
    assert messages(box) == [b"a", b"x" * 11, b"b"]


def test_unsent_bytes_are_counted() -> None:
    box = outbox()
    add(box, b"123456", b"123456")
    assert box.unsent == 12
    box.next_message()
    assert box.unsent == 6
    box.clear()
    assert box.unsent == 0
    assert box.next_message() is None


def test_its_repr_shows_its_load() -> None:
    box = outbox()
    add(box, b"123456", b"123456")
    assert repr(box) == "<Outbox: 2 frames, 12 bytes unsent>"
