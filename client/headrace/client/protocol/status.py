"""The load of a server and of its models. Pure."""

from __future__ import annotations

from dataclasses import dataclass

from headrace.v1 import inference_pb2 as pb


@dataclass(frozen=True, slots=True)
class Histogram:
    """How many values were in each bucket: up to the first of `bounds`, up to the next ..., above the last.

    `later - earlier` has the values that came in between.
    """

    bounds: tuple[float, ...] = ()
    counts: tuple[int, ...] = ()

    def __sub__(self, earlier: Histogram) -> Histogram:
        """A server that was restarted meanwhile begins again: then these are all the values."""
        if self.bounds != earlier.bounds or any(
            count < before for count, before in zip(self.counts, earlier.counts, strict=True)
        ):
            return self
        counts = (count - before for count, before in zip(self.counts, earlier.counts, strict=True))
        return Histogram(self.bounds, tuple(counts))

    def quantile(self, part: float) -> float | None:
        """The value that this part of all is at most, as if those of a bucket were spread evenly over it.

        For values above the last bound it is that. None without values.
        """
        rank = part * sum(self.counts)
        if not rank:
            return None
        lower = 0.0
        for bound, count in zip(self.bounds, self.counts, strict=False):
            if count and rank <= count:
                return lower + (bound - lower) * rank / count
            rank -= count
            lower = bound
        return lower


@dataclass(frozen=True, slots=True)
class Variant:
    """A variant of a model that computes only these outputs, for requests that ask for no others.

    `executions`: its runs since it was made. `memory_bytes`: what making it has added to the memory of the server.
    """

    outputs: tuple[str, ...]
    executions: int
    memory_bytes: int


@dataclass(frozen=True, slots=True)
class ModelStatus:
    """The load of a version of a model: its slots by state, and the number of tickets that wait for one.

    `slots_stopping`: their ticket was cancelled or has expired, and the runtime has not let go of them yet.
    `slots_restoring`: a failed run has spoiled their compiled model, which is being restored.
    `inferences`: done since the model was loaded, in `executions` runs. `failures`: ended in any other way.
    `restorations`: how often a compiled model was restored. The slots, tickets and runs of `variants` are among these.
    `refused`: requests that the bounds of its queue have kept out. `overdue`: failures because of these bounds.
    `durations`: seconds from the arrival of requests with a result until the transport had that.
    """

    name: str
    version: str
    slots_free: int
    slots_running: int
    slots_stopping: int
    tickets_queued: int
    inferences: int
    failures: int
    executions: int
    slots_restoring: int = 0
    restorations: int = 0
    variants: tuple[Variant, ...] = ()
    refused: int = 0
    overdue: int = 0
    durations: Histogram = Histogram()


@dataclass(frozen=True, slots=True)
class Account:
    """An account of the memory for requests: what is in use, and how much may be, in bytes."""

    name: str
    used_bytes: int
    limit_bytes: int


@dataclass(frozen=True, slots=True)
class StreamStatus:
    """A stream. `client` is an identity, or an address. `unsent_bytes` are of outputs that it has not taken."""

    client: str
    tickets_in_flight: int
    kept_bytes: int
    unsent_bytes: int


@dataclass(frozen=True, slots=True)
class WorkerStatus:
    """A worker of a server that has several. `problem` says why it has not answered; then there is nothing else."""

    number: int
    problem: str
    streams: int
    tickets_in_flight: int
    inferences: int
    resident_bytes: int


@dataclass(frozen=True, slots=True)
class ServerStatus:
    """What a server holds at one moment. `kept_bytes` counts kept outputs, `queued_bytes` inputs that wait or run.

    `memory` is what requests take of the memory they may have, and `accounts` say what for. `resident_bytes` is what
    the process has, models and the runtime included. `busiest_streams` are up to 32 of those with most tickets in
    flight. `loop_lag` is the longest that anything due has waited for the event loop within the last five seconds, in
    seconds. A server of an earlier version says none of the five. `workers` are those of a server that has several:
    what is above is of all of them together that have answered.
    """

    version: str
    draining: bool
    streams: int
    tickets_in_flight: int
    kept_bytes: int
    queued_bytes: int
    models: tuple[ModelStatus, ...]
    memory: Account = Account("memory", 0, 0)
    accounts: tuple[Account, ...] = ()
    resident_bytes: int = 0
    busiest_streams: tuple[StreamStatus, ...] = ()
    workers: tuple[WorkerStatus, ...] = ()
    loop_lag: float = 0.0


def status_from(message: pb.ServerStatusResponse) -> ServerStatus:
    models = (
        ModelStatus(
            model.name,
            model.version,
            model.slots_free,
            model.slots_running,
            model.slots_stopping,
            model.tickets_queued,
            model.inferences,
            model.failures,
            model.executions,
            model.slots_restoring,
            model.restorations,
            tuple(Variant(tuple(each.outputs), each.executions, each.memory_bytes) for each in model.variants),
            model.refused,
            model.overdue,
            Histogram(tuple(model.durations.bounds), tuple(model.durations.counts)),
        )
        for model in message.models
    )
    return ServerStatus(
        message.version,
        message.draining,
        message.streams,
        message.tickets_in_flight,
        message.kept_bytes,
        message.queued_bytes,
        tuple(models),
        _account_from(message.memory),
        tuple(map(_account_from, message.accounts)),
        message.resident_bytes,
        tuple(
            StreamStatus(each.client, each.tickets_in_flight, each.kept_bytes, each.unsent_bytes)
            for each in message.busiest_streams
        ),
        tuple(
            WorkerStatus(
                each.number, each.problem, each.streams, each.tickets_in_flight, each.inferences, each.resident_bytes
            )
            for each in message.workers
        ),
        message.loop_lag_us * 1e-6,
    )


def _account_from(message: pb.Account) -> Account:
    return Account(message.name or "memory", message.used_bytes, message.limit_bytes)
