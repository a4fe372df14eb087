"""What running programs report of themselves, as an input of decisions beside the objects.

A decision says who is to have what and who is to tell whom. Whether a program lives to do it, and
whether a session is up, are facts of the network: an answer shows both, so that nobody takes the
one for the other. What is not known stays silent.
"""

import msgspec

from clarion.base import limits
from clarion.decide.reasons import Reason, reason
from clarion.model.meta import ObjectKey
from clarion.model.sessions import ESTABLISHED, BGPSessionStatus

UP = ESTABLISHED


class Program(msgspec.Struct, frozen=True, kw_only=True):
    """How a program's Lease stands.

    Attributes:
        holder: Who holds the Lease; empty: it was given up.
        age: Seconds since it was last renewed; None: never.
        duration: Seconds after which its silence counts as death.
    """

    holder: str = ""
    age: float | None = None
    duration: float

    @property
    def lives(self) -> bool:
        """True if it was renewed in time, give or take the difference of two machines' clocks."""
        longest = self.duration + limits.LEASE_CLOCK_SKEW_SECONDS
        return self.holder != "" and self.age is not None and abs(self.age) <= longest


class Report(msgspec.Struct, frozen=True, kw_only=True):
    """What the speakers say that they do for one service.

    Attributes:
        answering: Nodes that answer for its addresses.
        telling: Node -> peers that it tells.
    """

    answering: tuple[str, ...] = ()
    telling: dict[str, tuple[str, ...]] = msgspec.field(default_factory=dict)


class Observed(msgspec.Struct, frozen=True, kw_only=True):
    """All that programs report.

    Attributes:
        controller: The one that gives addresses; None: not known.
        speakers: Node -> its speaker, of the nodes of which one is known.
        sessions: Node -> peer -> state of the session, as live speakers report it.
        details: Node -> peer -> all that is reported of the session, where it is.
        reports: Service (text) -> what live speakers say of it; only of services asked about.
    """

    controller: Program | None = None
    speakers: dict[str, Program] = msgspec.field(default_factory=dict)
    sessions: dict[str, dict[str, str]] = msgspec.field(default_factory=dict)
    details: dict[str, dict[str, BGPSessionStatus]] = msgspec.field(default_factory=dict)
    reports: dict[str, Report] = msgspec.field(default_factory=dict)

    @property
    def no_controller(self) -> Reason | None:
        """That no controller lives, if that is known."""
        found = self.controller
        if found is None or found.lives:
            return None
        if found.age is None or not found.holder:
            return reason("controller-absent")
        return reason("controller-silent", seconds=round(found.age), holder=found.holder)

    @property
    def no_speaker(self) -> Reason | None:
        """That no speaker lives, where some were seen."""
        if not self.speakers or any(item.lives for item in self.speakers.values()):
            return None
        ages = [item.age for item in self.speakers.values() if item.age is not None]
        seconds = f"for {min(ages):.0f} s" if ages else "ever"
        return reason("speakers-silent", count=len(self.speakers), seconds=seconds)

    def silence(self, node: str) -> Reason | None:
        """That the speaker of a node has fallen silent, if that is known."""
        found = self.speakers.get(node)
        if found is None or found.lives or found.age is None:
            return None
        return reason("speaker-silent", seconds=round(found.age))

    def report(self, service: ObjectKey) -> Report | None:
        """What live speakers say of a service; None: not known."""
        return self.reports.get(str(service))
