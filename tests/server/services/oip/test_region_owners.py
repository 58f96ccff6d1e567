"""Whose shared memory regions are: how many an identity may have, and what becomes of them."""

from __future__ import annotations

from headrace.server.core.clients import NO_LIMITS, Client
from headrace.server.services.oip.region_registry import MAX_REGIONS, OwnedRegions
from headrace.wire.errors import ResourceExhausted
from tests.server.services.oip.shared_memory_objects import MakeObject, open_descriptors

CONTENT = bytes(range(64))


def test_an_identity_that_has_gone_leaves_none(owned: OwnedRegions, make_object: MakeObject) -> None:
    key = f"/{make_object(CONTENT).name}"
    alice, bob = Client("alice", NO_LIMITS), Client("bob", NO_LIMITS)
    before = open_descriptors()
    for client in (alice, bob, "a connection"):
        owned.of(client).register("r", key, 0, 16)
    writing = owned.of(alice).acquire("r", 0, 16)
    owned.keep_only({"bob", "carol"})
    assert [len(owned.of(client)) for client in (alice, bob, "a connection")] == [0, 1, 1]
    assert open_descriptors() == before + 3, "a request still writes to hers"
    owned.release(writing)
    assert open_descriptors() == before + 2
    assert len(owned.of(Client("alice", NO_LIMITS))) == 0
    assert len(owned.of(Client("bob", NO_LIMITS))) == 1, "whichever object stands for him"


def test_identities_without_regions_are_not_remembered(owned: OwnedRegions, make_object: MakeObject) -> None:
    bob = Client("bob", NO_LIMITS)
    owned.of(bob).register("r", f"/{make_object(CONTENT).name}", 0, 16)
    for number in range(10 * MAX_REGIONS):
        assert not owned.of(Client(f"name-{number}", NO_LIMITS)).status("")
        assert len(owned._registries) <= 2 * MAX_REGIONS
    assert len(owned.of(bob)) == 1


def test_no_identity_takes_the_regions_of_all_others(owned: OwnedRegions, make_object: MakeObject) -> None:
    owned._descriptors.most = 8
    key = f"/{make_object(CONTENT).name}"

    def register_all(client: Client | str) -> tuple[int, str]:
        """How many it gets, and why it gets no more."""
        for number in range(10):
            try:
                owned.of(client).register(f"r{number}", key, 0, 16)
            except ResourceExhausted as error:
                return number, error.message
        raise AssertionError("there is no limit")

    alice, bob = Client("alice", NO_LIMITS), Client("bob", NO_LIMITS)
    why = "this identity has {} shared memory regions; it may have no more than are left for all others"
    assert register_all(alice) == (4, why.format(4))
    assert register_all(bob) == (2, why.format(2))
    assert register_all("a connection") == (2, "8 shared memory regions are registered or in use, which is the limit")
    owned.of(alice).unregister("")
    owned.of(bob).unregister("")
    assert register_all(bob) == (3, why.format(3))
