"""Which nodes may announce, under which advertisements; every other node has its reason."""

from collections.abc import Iterable, Mapping

import msgspec

from clarion.decide.config_ads import clashing_pair
from clarion.decide.reasons import Reason, reason
from clarion.decide.settings import BGPSettings, Config, L2Settings, Pool
from clarion.decide.snapshot import Options
from clarion.model.annotations import LABEL_EXCLUDE_BALANCERS
from clarion.model.core import Node


class NodeFacts(msgspec.Struct, frozen=True, kw_only=True):
    """What decisions read of a node.

    Attributes:
        ready: False only when its condition Ready says so: a node without conditions is ready.
        live: A live speaker runs on it, or speakers are not tracked.
        interfaces: Names of its interfaces; None when not known.
        cordoned: New pods are kept from it, as the first step of `kubectl drain`.
        stopping: Its speaker is about to stop.
    """

    name: str
    labels: dict[str, str] = msgspec.field(default_factory=dict)
    ready: bool = True
    network_unavailable: bool = False
    live: bool = True
    interfaces: tuple[str, ...] | None = None
    cordoned: bool = False
    stopping: bool = False

    @property
    def excluded(self) -> bool:
        """True if its label keeps it from announcing; the value does not matter."""
        return LABEL_EXCLUDE_BALANCERS in self.labels


def node_facts(
    node: Node,
    speakers: Iterable[str] | None = None,
    interfaces: Mapping[str, tuple[str, ...]] | None = None,
    stopping: Iterable[str] = (),
) -> NodeFacts:
    """Read a node."""
    conditions = {item.type: item.status for item in node.status.conditions}
    return NodeFacts(
        name=node.name,
        labels=node.metadata.labels,
        ready=conditions.get("Ready", "True") == "True",
        network_unavailable=conditions.get("NetworkUnavailable") == "True",
        live=speakers is None or node.name in speakers,
        interfaces=(interfaces or {}).get(node.name),
        cordoned=node.spec.unschedulable,
        stopping=node.name in stopping,
    )


Interfaces = tuple[str, ...] | None


class Candidates(msgspec.Struct, frozen=True):
    """Nodes that may own an address under some L2 advertisements: all that an election reads.

    Attributes:
        wanted: Interfaces that the advertisements name for each candidate; None for all.
        usable: Those of them that the candidate has.
    """

    scores: dict[str, int]
    refused: dict[str, Reason]
    wanted: dict[str, Interfaces]
    usable: dict[str, Interfaces]


class Speakers(msgspec.Struct, frozen=True):
    """Nodes that may tell of a pool under some BGP advertisements, with those that cover them."""

    advertisements: dict[str, tuple[str, ...]]
    refused: dict[str, Reason]


class Nodes:
    """The nodes of one snapshot under one configuration. Answers are kept: services repeat them."""

    def __init__(
        self,
        config: Config,
        options: Options,
        facts: Mapping[str, NodeFacts],
        incumbents: Mapping[str, str] | None = None,
    ) -> None:
        self.config = config
        self.options = options
        self.facts = dict(sorted(facts.items()))
        self.incumbents = dict(incumbents or {})
        self._l2: dict[tuple[str, ...], Candidates] = {}
        self._bgp: dict[tuple[str, tuple[str, ...]], Speakers] = {}

    def refusal(self, facts: NodeFacts) -> Reason | None:
        """Why a node may not announce at all, by whatever protocol."""
        if not facts.live:
            return reason("node-without-speaker")
        if facts.network_unavailable:
            return reason("node-network-unavailable")
        if facts.excluded and not self.options.ignore_exclude_lb:
            return reason("node-excluded")
        return None

    def l2_refusal(self, facts: NodeFacts) -> Reason | None:
        """Why a node may not answer on the segment, whatever the service."""
        return self.refusal(facts) or (None if facts.ready else reason("node-not-ready"))

    def draining(self, facts: NodeFacts) -> Reason | None:
        """Why a node sheds the traffic of its routes while it goes on announcing."""
        if facts.stopping:
            return reason("node-stopping")
        if facts.cordoned and self.options.graceful_shutdown:
            return reason("node-cordoned")
        return None

    def candidates(self, names: tuple[str, ...]) -> Candidates:
        """Nodes that may own addresses announced by these L2 advertisements."""
        if names not in self._l2:
            ads = [self.config.l2[name] for name in names]
            found = Candidates({}, {}, {}, {})
            for name, facts in self.facts.items():
                covering = [ad for ad in ads if ad.covers_node(facts.labels)]
                refused = self._l2_refusal(facts, covering)
                if refused:
                    found.refused[name] = refused
                else:
                    found.scores[name] = sum(ad.score(facts.labels) for ad in covering)
                    found.wanted[name] = wanted = wanted_interfaces(covering)
                    found.usable[name] = present(wanted, facts.interfaces)
            self._l2[names] = found
        return self._l2[names]

    def _l2_refusal(self, facts: NodeFacts, covering: list[L2Settings]) -> Reason | None:
        # What befalls a node that is not selected anyway is no news to the service.
        if not covering:
            return reason("node-not-selected")
        refused = self.l2_refusal(facts)
        if refused:
            return refused
        wanted = wanted_interfaces(covering)
        if self.options.l2_require_interface and present(wanted, facts.interfaces) == ():
            return reason("node-without-interface", interfaces=", ".join(wanted or ()))
        return None

    def speakers(self, pool: Pool, names: tuple[str, ...]) -> Speakers:
        """Nodes that may tell of a pool by these BGP advertisements."""
        key = (pool.name, names)
        if key not in self._bgp:
            ads = [self.config.bgp[name] for name in names]
            found = Speakers({}, {})
            for name, facts in self.facts.items():
                covering = [ad for ad in ads if ad.covers_node(facts.labels)]
                refused = self._bgp_refusal(facts, pool, covering)
                if refused:
                    found.refused[name] = refused
                else:
                    found.advertisements[name] = tuple(ad.name for ad in covering)
            self._bgp[key] = found
        return self._bgp[key]

    def _bgp_refusal(
        self, facts: NodeFacts, pool: Pool, covering: list[BGPSettings]
    ) -> Reason | None:
        if not covering:
            return reason("node-not-selected")
        refused = self.refusal(facts)
        if refused:
            return refused
        pair = clashing_pair(pool, covering)
        if pair:
            return reason("bgp-local-pref-conflict", one=pair[0].name, two=pair[1].name)
        return None


def wanted_interfaces(covering: Iterable[L2Settings]) -> tuple[str, ...] | None:
    """Union of the interfaces of advertisements; None for all, as soon as one names none."""
    names: dict[str, None] = {}
    for ad in covering:
        if not ad.interfaces:
            return None
        names.update(dict.fromkeys(ad.interfaces))
    return tuple(sorted(names))


def present(
    wanted: tuple[str, ...] | None, known: tuple[str, ...] | None
) -> tuple[str, ...] | None:
    """Those of the wanted interfaces that a node has; what is not known counts as present."""
    if wanted is None or known is None:
        return wanted
    return tuple(name for name in wanted if name in known)
