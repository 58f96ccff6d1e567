"""The journal of a stream: what was submitted and may have to be sent again. Pure."""

from __future__ import annotations

from collections.abc import Iterable

from headrace.client.resuming.entry import Entry, size_of

MAX_LINKS = 32
"""The most inferences that are repeated for one kept output: then a checkpoint is due."""
MAX_LINK_BYTES = 4 << 20
"""The most bytes of inputs that are kept for one kept output, not counting those of the last inference."""
MAX_BYTES = 64 << 20
"""Bytes of inputs in the journal at which each kept output gets a checkpoint."""
EXPIRY_SECONDS = 1.0
"""How much longer than the server the journal remembers an output that is not used."""


class Journal:
    """Entries in the order of their tags, from submission until nothing can need them again.

    An entry is needed while it is unfinished, while the application may refer to one of its kept outputs, and while
    another entry that is needed refers to one. It is bounded: unfinished entries by the window, kept outputs by the
    server's quota and keep time, and what has to be sent again for one of them by checkpoints.
    """

    def __init__(self) -> None:
        self.entries: dict[int, Entry] = {}
        self.unfinished: dict[int, Entry] = {}
        self.bytes = 0
        """Bytes of the inputs of all entries."""
        self.keep_seconds = float("inf")
        self.left: list[Entry] = []
        """Sources that have one user less: a server may not need to keep their outputs any more."""
        self._used: dict[Entry, float] = {}
        """When each held entry that has ended was last used, in the order of these times."""

    def add(self, entry: Entry) -> None:
        """A new entry, whose tag is larger than those of all others."""
        own = sum(map(size_of, entry.inputs.values()))
        sources = {link.source for link in entry.sources}
        entry.links = 1 + sum([0 if source.checkpointing else source.links for source in sources])
        entry.bytes = own + sum([0 if source.checkpointing else source.bytes for source in sources])
        self.bytes += own
        limited = entry.links >= MAX_LINKS or entry.bytes - own >= MAX_LINK_BYTES or self.bytes >= MAX_BYTES
        entry.checkpointing = bool(entry.asked.keep) and limited
        self.entries[entry.tag] = self.unfinished[entry.tag] = entry
        for link in entry.sources:
            link.source.users.add(entry)
            if link.reference.take:
                link.source.held.discard(link.reference.output)

    def discard(self, entry: Entry) -> None:
        """Undo `add`: the entry was never submitted."""
        self.give_back(entry)
        entry.held.clear()
        self.end(entry, 0.0)

    def give_back(self, entry: Entry) -> None:
        """The entry was refused: it has not taken its sources."""
        for source, reference in entry.sources:
            if reference.take and not source.error and reference.output in source.asked.keep:
                source.held.add(reference.output)
                if source.attempt is not None:
                    source.attempt.give_back(reference.output)

    def end(self, entry: Entry, now: float) -> None:
        """The outcome of an entry is known. If it has failed, it keeps nothing."""
        entry.ended = True
        self.unfinished.pop(entry.tag, None)
        for source, _ in entry.sources:
            self.use(source, now)
        if entry.error is not None:
            entry.held.clear()
            self.entries.pop(entry.tag, None)
            self._drop_inputs(entry)
        elif entry.checkpoint is not None:
            self._drop_inputs(entry)
        self.use(entry, now)
        self.forget(entry)

    def use(self, entry: Entry, now: float) -> None:
        """The keep time of its outputs begins again."""
        self._used.pop(entry, None)
        if entry.held and entry.ended:
            self._used[entry] = now

    def release(self, entry: Entry, names: Iterable[str]) -> None:
        """The application does not refer to these outputs any more."""
        entry.held.difference_update(names)
        if entry.checkpoint is not None and not entry.users:
            entry.checkpoint = {name: entry.checkpoint[name] for name in entry.checkpoint if name in entry.held}
        self.forget(entry)

    def expire(self, now: float) -> None:
        """Forget the outputs that the server has dropped because nothing has used them."""
        limit = now - self.keep_seconds - EXPIRY_SECONDS
        while self._used:
            entry, used = next(iter(self._used.items()))
            if used > limit:
                return
            self.release(entry, tuple(entry.held))

    def forget(self, entry: Entry) -> None:
        """Forget the entry unless something needs it, and then its sources."""
        leaving = [entry]
        while leaving:
            entry = leaving.pop()
            if not entry.held:
                self._used.pop(entry, None)
            if entry.ended and not entry.held and not entry.users:
                self.entries.pop(entry.tag, None)
                entry.checkpoint = None
                leaving += self._without_inputs(entry)

    def _drop_inputs(self, entry: Entry) -> None:
        for source in self._without_inputs(entry):
            self.forget(source)

    def _without_inputs(self, entry: Entry) -> list[Entry]:
        """Drop the inputs of an entry that is not sent again. Returns its sources, which may not be needed now."""
        self.bytes -= sum(map(size_of, entry.inputs.values()))
        sources = [source for source, _ in entry.sources]
        entry.inputs, entry.sources = {}, ()
        for source in sources:
            source.users.discard(entry)
            self.left.append(source)
        return sources

    def closure(self, wanted: Iterable[Entry]) -> list[Entry]:
        """These entries and all that must be sent again before them, in order.

        What is on the connection, or has a checkpoint, need not be sent again.
        """
        found = dict.fromkeys(wanted)
        following = list(found)
        while following:
            for source, _ in following.pop().sources:
                if source not in found and source.attempt is None and source.checkpoint is None and not source.error:
                    found[source] = None
                    following.append(source)
        return sorted(found, key=_tag)

    def affected(self, lost: Entry) -> list[Entry]:
        """All that depends on this entry, however indirectly, in order."""
        affected = {lost}
        found = []
        for entry in self.entries.values():
            if any(source in affected for source, _ in entry.sources):
                affected.add(entry)
                found.append(entry)
        return found

    def __repr__(self) -> str:
        return f"<Journal: {len(self.entries)} entries, {len(self.unfinished)} unfinished, {self.bytes} bytes>"


def _tag(entry: Entry) -> int:
    return entry.tag
