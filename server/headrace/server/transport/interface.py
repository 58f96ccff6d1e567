"""What the life of the process needs of a transport."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import ClassVar, Protocol, TypeAlias

from headrace.server.dispatcher.event_loop import PollingLoop, PollingSelector
from headrace.server.services.call import Call, Service
from headrace.server.transport.addresses import Addresses
from headrace.server.transport.credentials import CurrentCertificates
from headrace.server.transport.entrance import Entrance
from headrace.server.transport.options import ServerOptions
from headrace.server.transport.receiving import Receiving
from headrace.wire.errors import HeadraceError

StatusOf: TypeAlias = Callable[[BaseException, Call, str], HeadraceError]
"""Says with which error a call ends that has failed with one, and logs that; the text is the name of the RPC.

An error that is not expected has the details in the log, and clients are told less.
"""


class Server(Protocol):
    """A gRPC server of some services, on the event loop of its transport."""

    def listen(self, addresses: Addresses, certificates: CurrentCertificates | None) -> None:
        """Bind all of these addresses. With `certificates`, clients must use TLS.

        To be called before `start`. Raises CannotListenError.
        """

    async def start(self) -> None:
        """Accept calls."""

    async def stop(self, grace: float | None) -> None:
        """Accept no more calls, and return when the last has ended.

        Calls are cancelled after `grace` seconds, or at once. A later call may shorten the time of an earlier one.
        """


class Transport(Protocol):
    """`selector` is that of the loop, which `new_loop` makes."""

    name: ClassVar[str]

    @property
    def selector(self) -> PollingSelector: ...
    def new_loop(self) -> PollingLoop: ...
    def server(
        self,
        services: Sequence[Service],
        entrance: Entrance,
        status_of: StatusOf,
        receiving: Receiving,
        options: ServerOptions,
    ) -> Server:
        """A server of `services`, which are called through `entrance`.

        `receiving` gets to know the calls that may be receiving a message.
        """
