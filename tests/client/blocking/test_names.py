"""The blocking form has every name of the asyncio form, with the same arguments."""

from __future__ import annotations

import inspect
from typing import Any

import pytest

import headrace.client as hc
from headrace.client import blocking

WRAPPED = ("Server", "Stream", "Ticket", "completed", "connect")
"""What is different without `await`."""
LOOPS = {"new_event_loop", "run"}
"""The blocking form has a loop of its own."""
ONLY_ASYNC = {"add_waiter", "remove_waiter", "wait_ended", "__await__", "__aenter__", "__aexit__"}
ONLY_BLOCKING = {"result", "__enter__", "__exit__"}
OPERATORS = {"__getitem__", "__contains__", "__iter__", "__await__", "__aenter__", "__aexit__", "__enter__", "__exit__"}


def names(cls: type) -> set[str]:
    """The public names of a class, and the operators that it defines."""
    own = {name for each in cls.__mro__ if each.__module__.startswith("headrace") for name in vars(each)}
    return {name for name in own if not name.startswith("_") or name in OPERATORS}


def parameters(function: Any) -> list[tuple[str, Any, Any]]:
    found = inspect.signature(function).parameters.values()
    return [(each.name, each.kind, each.default) for each in found]


def test_the_blocking_form_has_every_public_name() -> None:
    names = set(hc.__all__) - LOOPS
    assert sorted(names) == sorted(blocking.__all__)
    for name in names:
        same = getattr(hc, name) is getattr(blocking, name)
        assert same is (name not in WRAPPED), name


@pytest.mark.parametrize("name", ["Server", "Stream"])
def test_classes_have_the_same_methods(name: str) -> None:
    asyncio_form, blocking_form = names(getattr(hc, name)), names(getattr(blocking, name))
    # `target` is an attribute of one and a property of the other.
    assert asyncio_form - ONLY_ASYNC == blocking_form - ONLY_BLOCKING - {"target"}


def test_tickets_have_what_an_application_uses() -> None:
    used = {"cancel", "ended", "fetch", "keep", "queued", "release", "running", "tag", "take", "waiting"}
    used |= {"__contains__", "__getitem__", "__iter__"}
    assert used <= names(blocking.Ticket)
    assert used - {"tag"} <= names(hc.Ticket) | {"tag"}
    assert names(blocking.Ticket) - ONLY_BLOCKING <= names(hc.Ticket)


@pytest.mark.parametrize("name", ["Server", "Stream", "Ticket"])
def test_methods_take_the_same_arguments(name: str) -> None:
    asyncio_form, blocking_form = getattr(hc, name), getattr(blocking, name)
    for method in names(asyncio_form) & names(blocking_form):
        ours, theirs = getattr(blocking_form, method), getattr(asyncio_form, method)
        if inspect.isfunction(ours):
            assert parameters(ours) == parameters(theirs), method


def test_connect_and_completed_take_the_same_arguments() -> None:
    for name in ("connect", "completed"):
        assert parameters(getattr(hc, name)) == parameters(getattr(blocking, name))
