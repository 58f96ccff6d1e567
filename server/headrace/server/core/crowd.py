"""Tickets that come one in a message, but thick and fast.

In a frame those who can share a run come together. In protocols without frames each would run alone, however many
there are; and where runs are done in place, one costs several times what a further row of it does. So they wait until
no more come for a moment: every run that is shared makes all who come later wait less. Since nobody says how many will
come, that is tried now and then, and as long as only few do nobody waits otherwise.

That no more come cannot be told by the time alone: they may have come long since, to a server that is busy. It is when
nothing has come *and* there was nothing else to do.

    add/multiply, so many at once       4      8      16     32     64
    ModelInfer, times as many a second  1.05   1.35   1.57   1.77   1.79
    ModelStreamInfer, the same          0.97   1.09   1.15   1.11   1.35
"""

from __future__ import annotations

QUIET = 75e-6
"""Seconds with nothing to do after which all are thought to have come. A client takes half of that to send one."""
MOST = 2e-3
"""Seconds that anybody waits for others."""
FEW, FEW_OF_ONE = 6, 12
"""When fewer come, it does not pay to wait for them; those of one stream, which are read one after the other while
others are run and answered."""
OFTEN, SELDOM = 4, 64
"""When few came, so many runs wait for nobody before the next trial: twice as many each time."""
LENIENT = 4
"""So often only few may come between many: clients that were answered together send at different times again."""
URGENT = 10 * MOST
"""Who has to be done in so many seconds waits for nobody."""


class Crowd:
    """Those who are queued for a model, and whether it pays to wait for more of them."""

    __slots__ = ("_complete", "_patient", "_pause", "_small", "_source", "_until_trial", "first")

    def __init__(self) -> None:
        self.first = 0.0
        """When the first of them came."""
        self._patient = False
        """All of them came alone and have time."""
        self._complete = False
        """It is quiet: no more will come."""
        self._source = 0
        """The stream that all of them came from, 0 when they came from several."""
        self._small = LENIENT
        """How often only few came since many did."""
        self._until_trial = self._pause = OFTEN
        """Runs that wait for nobody, now and after the next trial that does not pay."""

    def came(self, queued: int, source: int, now: float, *, patient: bool) -> None:
        """Another one, beside so many who are queued. `source` is the id of its stream: nobody is kept alive here."""
        if not queued:
            self.first, self._patient, self._complete = now, patient, False
            self._source = source
        else:
            self._patient = self._patient and patient
            if source != self._source:
                self._source = 0

    def quiet(self) -> None:
        """It has been quiet for long enough."""
        self._complete = True

    @property
    def due(self) -> float:
        """When they should run, if it is not quiet before."""
        return self.first if self._until_trial or self._complete or not self._patient else self.first + MOST

    def ran(self, count: int) -> None:
        """So many of them went together."""
        if not self._patient:
            return
        if self._until_trial:
            self._until_trial -= 1
        elif count >= (FEW_OF_ONE if self._source else FEW):
            self._pause, self._small = OFTEN, 0
        elif self._small < LENIENT:
            self._small += 1
        else:
            self._until_trial = self._pause
            self._pause = min(2 * self._pause, SELDOM)
