"""Tickets that come one in a message, but thick and fast.

In a frame those who can share a run come together. In protocols without frames each would run alone, however many
there are; and where runs are done in place, one costs several times what a further row of it does. So they wait for
each other for a moment: every run that is shared makes all who come later wait less. Since nobody says how many will
come, that is tried now and then, and the others wait for no more than came then.

    add/multiply, 32 at once    ModelInfer: 350 us each alone, 220 together    ModelStreamInfer: 150, 122
"""

from __future__ import annotations

QUIET = 200e-6
"""Seconds without another one after which all are thought to have come. A client takes half of that to send one."""
MOST = 2e-3
"""Seconds that anybody waits for others."""
FEW = 6
"""When fewer come, it does not pay to wait for them."""
TRIAL_EVERY, SELDOM = 4, 64
"""Runs between trials, which wait until it is quiet to see how many come: at first, and at most when few came."""
URGENT = 10 * MOST
"""Who has to be done in so many seconds waits for nobody."""


class Crowd:
    """Those who are queued for a model, and how many of them are thought to come together."""

    __slots__ = ("_pause", "_until_trial", "expected", "first", "last", "patient")

    def __init__(self) -> None:
        self.expected = 1
        """As many are not waited for any longer."""
        self.first = self.last = 0.0
        """When they came."""
        self.patient = False
        """All of them came alone and have time."""
        self._until_trial = self._pause = TRIAL_EVERY

    def came(self, queued: int, now: float, *, patient: bool) -> None:
        """Another one, beside so many who are queued."""
        if queued:
            self.patient = self.patient and patient
        else:
            self.first, self.patient = now, patient
        self.last = now

    def due(self, queued: int) -> float:
        """When so many should run."""
        if not self.patient or (queued >= self.expected and self._until_trial):
            return self.first
        return min(self.last + QUIET, self.first + MOST)

    def ran(self, count: int) -> None:
        """So many went together. When fewer came than expected, they are thought to have become fewer."""
        if self._until_trial:
            self._until_trial -= 1
            self.expected = _worth_it(min(self.expected, count))
            return
        self.expected = _worth_it(count)
        self._pause = TRIAL_EVERY if self.expected > 1 else min(2 * self._pause, SELDOM)
        self._until_trial = self._pause


def _worth_it(count: int) -> int:
    return count if count >= FEW else 1
