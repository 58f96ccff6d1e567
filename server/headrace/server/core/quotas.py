"""Bounds in bytes: a tree of accounts, whose root is the budget of the process."""

from __future__ import annotations

from headrace.server.core.clients import Client

TICKET_BYTES = 1 << 10
"""What a ticket in flight is charged, besides its inputs and outputs: it is an object with a dozen others."""
EVENT_BYTES = 512
"""What an event without a ticket is charged until the transport takes it."""
MIN_EVENTS = 16
"""Events that a stream may always have: a frame of a small window."""
COPIES = 2
"""How often an unsent output is in memory while it is written: in the message, and in gRPC's buffers."""


class Quota:
    """Bytes in use under a limit, and under the limits of all quotas above it.

    Whoever charges asks `fits` first, unless the memory is in use already and the account only records it: then
    `used` may exceed `limit`, and nothing fits until it has fallen again.
    """

    __slots__ = ("_above", "limit", "used")

    def __init__(self, limit: int, parent: Quota | None = None) -> None:
        self.limit = limit
        self.used = 0
        self._above: tuple[Quota, ...] = () if parent is None else (parent, *parent._above)

    @property
    def most(self) -> int:
        """The bytes that fit while nothing is in use."""
        return min([each.limit for each in (self, *self._above)])

    @property
    def left(self) -> int:
        """The bytes that fit. Negative when more is in use than may be."""
        return min([each.limit - each.used for each in (self, *self._above)])

    def fits(self, nbytes: int) -> bool:
        return nbytes <= self.left

    def charge(self, nbytes: int) -> None:
        self.used += nbytes
        for each in self._above:
            each.used += nbytes

    def refund(self, nbytes: int) -> None:
        self.used -= nbytes
        assert self.used >= 0, self
        for each in self._above:
            each.used -= nbytes

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.used} of {self.limit}>"


class Share(Quota):
    """What one stream has of an account: it gets more only as long as it has no more then than was left before.

    So whatever fits is admitted where nothing else is, but one stream that takes all it can get fills half of an
    account; and where a hundred do, the next one still gets as much as each of them.
    """

    __slots__ = ()

    def fits(self, nbytes: int) -> bool:
        used = self.used + nbytes
        if used > self.limit:
            return False
        for each in self._above:  # noqa: SIM110 - all() takes twice as long
            if used > each.limit - each.used:
                return False
        return True

    @property
    def exceeded(self) -> bool:
        """Whether the stream has more than its account, whatever the rest of the tree holds, has left."""
        account = self._above[0]
        return self.used > account.limit - account.used

    def is_first_half(self, nbytes: int) -> bool:
        """Whether the account would be filled up to its half at most."""
        account = self._above[0]
        return 2 * (account.used + nbytes) <= account.limit

    def leaves_as_much(self, nbytes: int) -> bool:
        """Whether the account would have as much left for whoever asks for no more, or has nothing else."""
        account = self._above[0]
        return account.used == 0 or account.used + 2 * nbytes <= account.limit

    @property
    def is_tight(self) -> bool:
        """Whether the account has less left than is in use: only then can a share of it be `exceeded`."""
        account = self._above[0]
        return account.used > account.limit - account.used


class MessageCharge:
    """The bytes of one message, charged as a whole while any ticket that came with it needs its inputs.

    Inputs are views of the message, so that one small input keeps all of it in memory. They also count for `client`, if
    it has limits. `strings` counts the elements of BYTES in the inputs of its Infers, and `string_bytes` their bytes.
    """

    __slots__ = ("_client", "_holders", "_quota", "nbytes", "string_bytes", "strings")

    def __init__(self, nbytes: int, quota: Quota, client: Client | None = None) -> None:
        self.nbytes = nbytes
        self._quota = quota
        self._client = client
        self._holders = 0
        self.strings = self.string_bytes = 0

    def fits(self) -> bool:
        return self._holders > 0 or self._quota.fits(self.nbytes)

    @property
    def uncharged(self) -> int:
        """The bytes that would be charged by the next `hold`."""
        return 0 if self._holders else self.nbytes

    def hold(self) -> None:
        if self._holders == 0:
            self._quota.charge(self.nbytes)
            if self._client is not None:
                self._client.nbytes += self.nbytes
        self._holders += 1

    def let_go(self) -> None:
        self._holders -= 1
        if self._holders == 0:
            self._quota.refund(self.nbytes)
            if self._client is not None:
                self._client.nbytes -= self.nbytes

    def __repr__(self) -> str:
        return f"<MessageCharge {self.nbytes} bytes, {self._holders} holders>"
