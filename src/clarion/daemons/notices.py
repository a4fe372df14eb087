"""Events and metrics about what a node announces; an event only when something changed."""

from collections.abc import Iterator

from clarion.base.addr import Address
from clarion.decide.plan import ServicePlan
from clarion.edge.events import EventRecorder, EventType
from clarion.edge.metrics import SPEAKER_ANNOUNCED, Sample
from clarion.model.core import Service
from clarion.model.meta import ObjectKey

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
