"""Which nodes have a live speaker, told from the speakers' Leases.

A speaker judges others only while it sees its own renewals come back through the watch. If the API
or the watch is away, nobody's renewals can be seen; counting that as death would make every speaker
think itself alone and claim every address. So the last answer stands until the view is back, and
everybody then has a full lease duration to be seen again.
"""

from clarion.base import limits
from clarion.base.ports import Clock
from clarion.edge.leases import record_of
from clarion.model.core import Lease
from clarion.proto.kube.leases import LeaseObserver

LEASE_LABEL = "clarion.metallb.io/component"
LEASE_LABELS = {LEASE_LABEL: "speaker"}
LEASE_SELECTOR = f"{LEASE_LABEL}=speaker"
INTERFACES_ANNOTATION = "clarion.metallb.io/interfaces"
"""On a speaker's Lease: the interfaces on which it can announce, separated by commas."""

SESSIONS_ANNOTATION = "clarion.metallb.io/sessions"
"""On a speaker's Lease: its BGP peers and the states of their sessions, as JSON."""


def lease_name(node: str) -> str:
    """The name of a node's speaker Lease."""
    return f"clarion-speaker-{node}"


class SpeakerLiveness:
    """Follows the Leases of all speakers on behalf of one."""

    def __init__(self, own_node: str, clock: Clock) -> None:
        self._own = lease_name(own_node)
        self._clock = clock
        self._observer = LeaseObserver()
        self._interfaces: dict[str, tuple[str, ...]] = {}
        self._answer: frozenset[str] = frozenset()
        self._blind = True

    def observe(self, name: str, lease: Lease | None) -> None:
        """A Lease was seen to change, or to be gone."""
        now = self._clock.monotonic()
        if lease is None:
            self._observer.observe(name, None, now)
            self._interfaces.pop(name, None)
            return
        self._observer.observe(name, record_of(lease), now)
        text = lease.metadata.annotations.get(INTERFACES_ANNOTATION)
        if text is not None:
            self._interfaces[name] = tuple(part for part in text.split(",") if part)

    @property
    def blind(self) -> bool:
        """Whether the last answer was one that stands because nothing can be seen."""
        return self._blind

    def alive(self) -> frozenset[str]:
        """Names of the nodes whose speakers live, or lived when that could last be seen."""
        now = self._clock.monotonic()
        seen = self._observer.changed_at(self._own)
        if seen is None or now - seen > limits.SPEAKER_LEASE_BLIND_SECONDS:
            self._blind = True
            return self._answer
        if self._blind:
            self._blind = False
            self._observer.forgive(now)
        self._answer = self._observer.alive(now)
        return self._answer

    def recheck_in(self) -> float:
        """Seconds until the answer may change although nothing is seen to change."""
        now = self._clock.monotonic()
        deadline = self._observer.deadline(now)
        return max(0.01, deadline - now) if deadline else limits.SPEAKER_LEASE_DURATION_SECONDS

    def interfaces(self) -> dict[str, tuple[str, ...]]:
        """Node name -> interfaces on which its speaker can announce, where it told."""
        prefix = lease_name("")
        return {name.removeprefix(prefix): value for name, value in self._interfaces.items()}
