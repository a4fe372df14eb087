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
from clarion.proto.kube.leases import LeaseObserver, Liveness

LEASE_LABEL = "clarion.metallb.io/component"
LEASE_LABELS = {LEASE_LABEL: "speaker"}
LEASE_SELECTOR = f"{LEASE_LABEL}=speaker"
CONTROLLER_LEASE = "clarion-controller"
"""The Lease for which controllers stand, in the namespace of the configuration."""

INTERFACES_ANNOTATION = "clarion.metallb.io/interfaces"
"""On a speaker's Lease: the interfaces on which it can announce, separated by commas."""

SESSIONS_ANNOTATION = "clarion.metallb.io/sessions"
"""On a speaker's Lease: its BGP peers and the states of their sessions, as JSON."""

SETTINGS_ANNOTATION = "clarion.metallb.io/settings"
"""On a speaker's Lease: those of its flags that change decisions, as JSON of their `Options`."""

BOOT_ANNOTATION = "clarion.metallb.io/boot-id"
"""On a speaker's Lease: during which run of the node's kernel it was written."""


def lease_name(node: str) -> str:
    """The name of a node's speaker Lease."""
    return f"clarion-speaker-{node}"


def _lives(what: Liveness) -> bool:
    """Whether a holder counts: whoever was just seen first has the benefit of the doubt."""
    return what in (Liveness.ALIVE, Liveness.UNCONFIRMED)


class SpeakerLiveness:
    """Follows the Leases of all speakers on behalf of one."""

    def __init__(self, own_node: str, clock: Clock) -> None:
        self._own = lease_name(own_node)
        self._clock = clock
        self._observer = LeaseObserver()
        self._interfaces: dict[str, tuple[str, ...]] = {}
        self._answer: frozenset[str] = frozenset()
        self._blind = True

    def observe(self, name: str, lease: Lease | None) -> bool:
        """A Lease was seen to change, or to be gone.

        Returns:
            Whether `alive` or `interfaces` may answer otherwise now. A renewal by somebody who is
            known to live changes nothing, and with many nodes there are many of them.
        """
        now = self._clock.monotonic()
        # One without a holder was left behind by a speaker that ended: it is as good as gone.
        if lease is None or not lease.spec.holder_identity:
            self._observer.observe(name, None, now)
            self._interfaces.pop(name, None)
            return True
        before = self._observer.liveness(name, now)
        self._observer.observe(name, record_of(lease), now)
        after = self._observer.liveness(name, now)
        return self._take_interfaces(name, lease) or _lives(before) != _lives(after) or self._blind

    def _take_interfaces(self, name: str, lease: Lease) -> bool:
        """Keep what a Lease tells of interfaces; whether that is news."""
        text = lease.metadata.annotations.get(INTERFACES_ANNOTATION)
        before = self._interfaces.pop(name, None)
        if text is not None:
            self._interfaces[name] = tuple(part for part in text.split(",") if part)
        return self._interfaces.get(name) != before

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
