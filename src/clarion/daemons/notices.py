"""Events and metrics about what a node announces; an event only when something changed."""

from collections.abc import Iterator, Mapping

from clarion.base.addr import Address
from clarion.decide.plan import ServicePlan
from clarion.edge.events import EventRecorder, EventType
from clarion.edge.metrics import SPEAKER_ANNOUNCED, Sample
from clarion.model.core import Service
from clarion.model.meta import ObjectKey
from clarion.model.metallb import BGPPeer
from clarion.proto.bgp.config import State
from clarion.proto.bgp.session import StateChanged

L2, BGP = "layer2", "bgp"
Fact = tuple[EventType, str, str]
"""Type, reason and message of an event."""


class Notices:
    """What one node told about services."""

    def __init__(self, events: EventRecorder, node: str) -> None:
        self._events = events
        self._node = node
        self._told: dict[ObjectKey, tuple[Fact, ...]] = {}
        self._announced: dict[ObjectKey, tuple[tuple[str, ...], tuple[Address, ...]]] = {}
        self._assigned: dict[str, Fact] = {p: _assigned(node, p) for p in (BGP, L2)}

    def report(
        self,
        key: ObjectKey,
        service: Service | None,
        plan: ServicePlan | None,
        peers: tuple[str, ...],
    ) -> None:
        """Take note of what this node now does for a service; tell what is new."""
        before = self._told.pop(key, ())
        self._announced.pop(key, None)
        if service is None or plan is None:
            return
        protocols = self._protocols(plan, peers)
        facts = (*map(self._assigned.__getitem__, protocols), *self._failures(plan))
        for fact in facts:
            if fact not in before:
                self._events.record(service, *fact)
        if facts:
            self._told[key] = facts
        if protocols:
            self._announced[key] = protocols, plan.addresses

    def _protocols(self, plan: ServicePlan, peers: tuple[str, ...]) -> tuple[str, ...]:
        l2 = (L2,) if plan.l2.owner == self._node and plan.l2.announced else ()
        return (BGP, *l2) if peers else l2

    def _failures(self, plan: ServicePlan) -> Iterator[Fact]:
        if plan.l2.owner == self._node and not plan.l2.announced:
            yield "Warning", "announceFailed", plan.l2.reasons[0].text
        refused = plan.bgp.refused.get(self._node)
        if refused and refused.code == "bgp-local-pref-conflict":
            # MetalLB only logs it, and the service is silent without a word to its owner.
            yield "Warning", "announceFailed", refused.text

    def samples(self) -> Iterator[Sample]:
        """One for each address that is announced, by protocol."""
        for key, (protocols, addresses) in self._announced.items():
            for protocol in protocols:
                for item in addresses:
                    yield SPEAKER_ANNOUNCED.sample(1, str(key), protocol, self._node, str(item))


def _assigned(node: str, protocol: str) -> Fact:
    text = f'announcing from node "{node}" with protocol "{protocol}"'
    return "Normal", "nodeAssigned", text


class SessionNotices:
    """Events on BGPPeer objects: that a session came up, and why there is none.

    MetalLB leaves the reason to the logs. Attempts that fail alike are told once.

    Args:
        events: Takes the events.
        node: The node, for the messages: every node has a session of its own to the peer.
        namespace: Where the BGPPeers live.
        peers: The BGPPeers as last seen.
    """

    def __init__(
        self,
        events: EventRecorder,
        node: str,
        namespace: str,
        peers: Mapping[ObjectKey, BGPPeer],
    ) -> None:
        self._events = events
        self._node = node
        self._namespace = namespace
        self._peers = peers
        self._told: dict[str, Fact] = {}

    def keep(self, peers: set[str]) -> None:
        """Forget all other peers."""
        self._told = {name: fact for name, fact in self._told.items() if name in peers}

    def report(self, peer: str, change: StateChanged) -> None:
        """Take note of a session's new state; tell if that is news."""
        fact = self._fact(change)
        obj = self._peers.get(ObjectKey(self._namespace, peer))
        if fact is None or obj is None or fact == self._told.get(peer):
            return
        self._told[peer] = fact
        self._events.record(obj, *fact)

    def _fact(self, change: StateChanged) -> Fact | None:
        if change.new is State.ESTABLISHED:
            return "Normal", "SessionUp", f'the session of node "{self._node}" is established'
        if change.old is State.ESTABLISHED:
            return (
                "Warning",
                "SessionDown",
                f'node "{self._node}" lost its session: {change.reason}',
            )
        if change.reason:
            return "Warning", "SessionDown", f'node "{self._node}" has no session: {change.reason}'
        return None
