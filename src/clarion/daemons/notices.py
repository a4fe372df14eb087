"""Events and metrics about what a node announces; an event only when something changed."""

from collections.abc import Iterator

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
        self._announced: dict[ObjectKey, tuple[tuple[str, str], ...]] = {}

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
        facts = (*map(self._assigned, protocols), *self._failures(plan))
        for fact in facts:
            if fact not in before:
                self._events.record(service, *fact)
        if facts:
            self._told[key] = facts
        if protocols:
            self._announced[key] = tuple(
                (protocol, str(address)) for protocol in protocols for address in plan.addresses
            )

    def _protocols(self, plan: ServicePlan, peers: tuple[str, ...]) -> tuple[str, ...]:
        l2 = (L2,) if plan.l2.owner == self._node and plan.l2.announced else ()
        return (BGP, *l2) if peers else l2

    def _assigned(self, protocol: str) -> Fact:
        text = f'announcing from node "{self._node}" with protocol "{protocol}"'
        return "Normal", "nodeAssigned", text

    def _failures(self, plan: ServicePlan) -> Iterator[Fact]:
        if plan.l2.owner == self._node and not plan.l2.announced:
            yield "Warning", "announceFailed", plan.l2.reasons[0].text

    def samples(self) -> Iterator[Sample]:
        """One for each address that is announced, by protocol."""
        for key, items in self._announced.items():
            for protocol, address in items:
                yield SPEAKER_ANNOUNCED.sample(1, str(key), protocol, self._node, address)
