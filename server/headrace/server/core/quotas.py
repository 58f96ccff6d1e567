"""Bounds in bytes."""

from __future__ import annotations


class Quota:
    """Bytes in use under a limit, and under that of a parent: a stream has its quota, and the server one for all."""

    __slots__ = ("_parent", "limit", "used")

    def __init__(self, limit: int, parent: Quota | None = None) -> None:
        self.limit = limit
        self.used = 0
        self._parent = parent

    def fits(self, nbytes: int) -> bool:
        return self.used + nbytes <= self.limit and (self._parent is None or self._parent.fits(nbytes))

    def charge(self, nbytes: int) -> None:
        """To be called after `fits` has said yes."""
        self.used += nbytes
        if self._parent is not None:
            self._parent.charge(nbytes)

    def refund(self, nbytes: int) -> None:
        self.used -= nbytes
        assert self.used >= 0, self
        if self._parent is not None:
            self._parent.refund(nbytes)

    def __repr__(self) -> str:
        return f"<Quota {self.used} of {self.limit}>"


class MessageCharge:
    """The bytes of one message, charged as a whole while any ticket that came with it needs its inputs.

    Inputs are views of the message, so that one small input keeps all of it in memory. `strings` counts the elements of
    BYTES in the inputs of its Infers, and `string_bytes` their bytes.
    """

    __slots__ = ("_budget", "_holders", "nbytes", "string_bytes", "strings")

    def __init__(self, nbytes: int, budget: Quota) -> None:
        self.nbytes = nbytes
        self._budget = budget
        self._holders = 0
        self.strings = self.string_bytes = 0

    def fits(self) -> bool:
        return self._holders > 0 or self._budget.fits(self.nbytes)

    def hold(self) -> None:
        if self._holders == 0:
            self._budget.charge(self.nbytes)
        self._holders += 1

    def let_go(self) -> None:
        self._holders -= 1
        if self._holders == 0:
            self._budget.refund(self.nbytes)

    def __repr__(self) -> str:
        return f"<MessageCharge {self.nbytes} bytes, {self._holders} holders>"
