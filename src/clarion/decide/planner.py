"""The plan kept up to date: objects go in one by one, `refresh` decides what they touch.

An event about one service costs work for that service; a changed configuration costs work for the
services in the pools concerned. Whatever the order of events, the plan is that of the final
snapshot. The controller lets the planner allocate; a speaker takes addresses from the status.
"""

from collections.abc import Iterable, Mapping

import msgspec

from clarion.base.addr import Address, Prefix
from clarion.decide.advertise import AdvertisedRoute, NodeRoutes, decide_bgp
from clarion.decide.allocate import Outcome, Settled, not_ours, place, settle
from clarion.decide.config import EMPTY, build_config
from clarion.decide.config_build import age, ref
from clarion.decide.config_cluster import service_warnings
from clarion.decide.demand import current_addresses, status_texts
from clarion.decide.elect import decide_l2
from clarion.decide.endpoints import EVERYBODY, Serving, service_of, serving
from clarion.decide.findings import findings
from clarion.decide.ledger import Ledger, PoolUsage
from clarion.decide.nodes import NodeFacts, Nodes, node_facts
from clarion.decide.observed import Observed
from clarion.decide.plan import L2Announcement, Plan, ServicePlan, assemble, join_l2, judged_anew
from clarion.decide.problems import Problem
from clarion.decide.reasons import Reason, reason
from clarion.decide.registry import listed
from clarion.decide.resting import Rest
from clarion.decide.settings import BGPSettings, Config, L2Settings, Peer, Pool
from clarion.decide.snapshot import FIELDS, Options, SecretFacts, Snapshot, normalise
from clarion.model.core import EndpointSlice, Namespace, Node, Service
from clarion.model.meta import KubeObject, ObjectKey
from clarion.model.metallb import BGPPeer, BGPPeerV1Beta1

CONFIG_FIELDS = {t: f for t, f in FIELDS.items() if t not in (Service, EndpointSlice)}
"""What the configuration is built from."""

Input = KubeObject | SecretFacts


class Changes(msgspec.Struct, frozen=True, kw_only=True):
    """What a refresh changed.

    Attributes:
        config: The configuration in force is another one.
        problems: The list of problems is another one.
        outcomes: Decisions about addresses that differ from the last ones.
        services: Services whose plan changed or that are gone.
        pools: Pools whose usage changed.
        peers: The watched node's peers or their settings changed.
        routes: Peer -> prefix -> route that the watched node now tells it, None: withdrawn. All
            routes of a new peer are listed.
        l2: Address -> announcement of the watched node, None: it stops answering.
    """

    config: bool = False
    problems: bool = False
    outcomes: tuple[Outcome, ...] = ()
    services: tuple[ObjectKey, ...] = ()
    pools: dict[str, PoolUsage] = msgspec.field(default_factory=dict)
    peers: bool = False
    routes: dict[str, dict[Prefix, AdvertisedRoute | None]] = msgspec.field(default_factory=dict)
    l2: dict[Address, L2Announcement | None] = msgspec.field(default_factory=dict)


class Planner:
    """Decides about a changing set of objects.

    Args:
        options: Settings of the program.
        node: The node whose routes and answers are followed; None follows none.
        allocate: Give addresses; otherwise those in the status are taken as they are.
    """

    def __init__(
        self, options: Options | None = None, *, node: str | None = None, allocate: bool = True
    ) -> None:
        self.options = options or Options()
        self.node = node
        self.allocate = allocate
        self.config: Config = EMPTY
        self.problems: tuple[Problem, ...] = ()
        self.ledger = Ledger()
        self.services: dict[ObjectKey, ServicePlan] = {}
        self._objects: dict[type, dict[ObjectKey, Input]] = {kind: {} for kind in FIELDS}
        self._slices: dict[ObjectKey, dict[ObjectKey, EndpointSlice]] = {}
        self._facts: dict[str, NodeFacts] = {}
        self._speakers: frozenset[str] | None = None
        self._stopping: frozenset[str] = frozenset()
        self._interfaces: dict[str, tuple[str, ...]] = {}
        self._incumbents: dict[str, str] = {}
        self._nodes = Nodes(EMPTY, self.options, {})
        self._dirty: set[ObjectKey] = set()
        self._replan: set[ObjectKey] = set()
        self._waiting: set[ObjectKey] = set()
        self._epoch = 0
        self._restore: tuple[Rest, ...] = ()
        self._outdated: set[ObjectKey] = set()
        self._observed = Observed()
        # False: what the objects were before, and is in force somewhere, is not known.
        self._continues = True
        self._usage: dict[str, PoolUsage] = {}
        self._config_dirty = self._facts_stale = self._nodes_dirty = True
        self._outcomes: dict[ObjectKey, Outcome] = {}
        self._routes = NodeRoutes(EMPTY, node or "", {})
        self._owned: dict[Address, dict[ObjectKey, None]] = {}
        self._answers: dict[Address, L2Announcement] = {}

    # Inputs.

    def load(self, snapshot: Snapshot) -> None:
        """Put every object of a snapshot; what is not in it stays."""
        if snapshot.in_force is not None:
            self.config = snapshot.in_force
            self.ledger.set_pools(self.config.pools, lost=bool(self.config.lost_pools))
        self._continues = snapshot.in_force is not None
        self._observed = snapshot.observed
        for obj in snapshot.objects():
            self.put(obj)
        self.set_speakers(snapshot.speakers)
        self.set_stopping(snapshot.stopping)
        for node, names in snapshot.interfaces.items():
            self.set_interfaces(node, names)
        self.set_incumbents(snapshot.incumbents)
        self.restore(snapshot.resting)
        for key in snapshot.outdated:
            self._set_outdated(key, outdated=True)

    def put(self, obj: Input) -> None:
        """An object was created or changed."""
        outdated = isinstance(obj, BGPPeerV1Beta1)
        obj = normalise(obj)
        table = self._objects.get(type(obj))
        if table is None:
            return
        key = ObjectKey(obj.namespace, obj.name)
        if isinstance(obj, BGPPeer):
            self._set_outdated(key, outdated=outdated)
        old = table.get(key)
        if old != obj:
            table[key] = obj
            self._touch(key, old, obj)

    def remove(self, kind: type, key: ObjectKey) -> None:
        """An object was deleted; `kind` is its struct, `SecretFacts` for a Secret."""
        old = self._objects.get(kind, {}).pop(key, None)
        if old is not None:
            self._touch(key, old, None)
        if kind is BGPPeer:
            self._set_outdated(key, outdated=False)

    def _set_outdated(self, key: ObjectKey, *, outdated: bool) -> None:
        if outdated != (key in self._outdated):
            self._outdated ^= {key}
            self._config_dirty = True

    def set_speakers(self, names: Iterable[str] | None) -> None:
        """The nodes with a live speaker; None: assume all."""
        self._speakers = None if names is None else frozenset(names)
        self._facts_stale = True

    def set_stopping(self, names: Iterable[str]) -> None:
        """The nodes whose speaker is about to stop: their routes become the last choice."""
        self._stopping = frozenset(names)
        self._facts_stale = True

    def set_interfaces(self, node: str, names: Iterable[str] | None) -> None:
        """The interfaces of a node; None: not known."""
        self._interfaces.pop(node, None)
        if names is not None:
            self._interfaces[node] = tuple(sorted(names))
        self._config_dirty = True
        self._facts_stale = True

    def set_incumbents(self, owners: Mapping[str, str]) -> None:
        """Who answers for each address (text) now."""
        if dict(owners) != self._incumbents:
            self._incumbents = dict(owners)
            self._nodes_dirty = True

    def restore(self, rests: Iterable[Rest]) -> None:
        """Lay addresses to rest with the next `refresh`, as they did before this planner began."""
        self._restore += tuple(rests)

    def _touch(self, key: ObjectKey, old: Input | None, new: Input | None) -> None:
        for obj in (old, new):
            if isinstance(obj, Service):
                self._dirty.add(key)
            elif isinstance(obj, EndpointSlice):
                self._touch_slice(key, obj, present=obj is new)
            elif isinstance(obj, Node):
                self._config_dirty |= _configuring(old) != _configuring(new)
                self._facts_stale = True
            elif isinstance(obj, Namespace):
                self._config_dirty |= _labels(old) != _labels(new)
            elif obj is not None:
                self._config_dirty = True

    def _touch_slice(self, key: ObjectKey, item: EndpointSlice, *, present: bool) -> None:
        service = service_of(item)
        slices = self._slices.setdefault(service, {})
        slices.pop(key, None)
        if present:
            slices[key] = item
        elif not slices:
            del self._slices[service]
        self._replan.add(service)

    # Deciding.

    def refresh(self, now: float = 0.0) -> Changes:
        """Decide whatever the events since the last call touch.

        Args:
            now: Seconds on a clock that does not go back, for addresses that rest.
        """
        old_config, old_problems, old_terms = self.config, self.problems, self._own_terms()
        self.ledger.advance(now)
        self._refresh_config()
        self.ledger.restore(self._unclaimed())
        self._restore = ()
        self._refresh_nodes(old_config)
        outcomes = self._allocate() if self.allocate else {}
        self._replan |= outcomes.keys()
        changed = self._announce()
        same_terms = old_terms == self._own_terms()
        peers, routes = self._follow_routes(old_config, changed, same_terms=same_terms)
        return Changes(
            config=self.config != old_config,
            problems=self.problems != old_problems,
            outcomes=tuple(outcome for _, outcome in sorted(outcomes.items())),
            services=tuple(sorted(changed)),
            pools=self._changed_usage(),
            peers=peers,
            routes=routes,
            l2=self._follow_answers(changed),
        )

    def next_deadline(self) -> float | None:
        """When `refresh` is due even if nothing happens; None if it is not."""
        return self.ledger.next_deadline() if self.allocate else None

    def _unclaimed(self) -> list[Rest]:
        """Rests to restore, but for addresses that another service was given since then."""
        if not self._restore:
            return []
        holders: dict[str, ObjectKey] = {}
        for item in self._objects[Service].values():
            if isinstance(item, Service) and not not_ours(item, self.options):
                holders.update(dict.fromkeys(status_texts(item), item.key))
        return [r for r in self._restore if holders.get(str(r.address), r.service) == r.service]

    def _own_terms(self) -> tuple[Mapping[str, str], Reason | None] | None:
        """The labels of the watched node, and why its routes are to be the last choice."""
        own = self._facts.get(self.node or "")
        return (own.labels, self._nodes.draining(own)) if own else None

    def _refresh_config(self) -> None:
        """Check the configuration again, and mark the services in the pools that it changes."""
        if not self._config_dirty:
            return
        self._config_dirty = False
        old = self.config
        result = build_config(self._read(CONFIG_FIELDS), old)
        self.problems = result.problems
        if result.config == old:
            return
        self.config = result.config
        changed = _differing(old.pools, self.config.pools)
        touched = changed | _pools_of(old.l2, self.config.l2) | _pools_of(old.bgp, self.config.bgp)
        self.ledger.set_pools(self.config.pools, lost=bool(self.config.lost_pools))
        if changed:
            self._dirty |= self._waiting
        for key, item in self.services.items():
            if item.pool in touched or not item.pool:
                self._replan.add(key)
            if item.pool in changed:
                self._dirty.add(key)
        if bool(old.peers) != bool(self.config.peers):
            self._replan |= self.services.keys()

    def _refresh_nodes(self, old: Config) -> None:
        """Read the nodes again; what changed touches the services whose nodes it concerns."""
        if self._facts_stale:
            self._facts_stale = False
            nodes = (item for item in self._objects[Node].values() if isinstance(item, Node))
            around = self._speakers, self._interfaces, self._stopping
            facts = {n.name: node_facts(n, *around) for n in nodes}
            self._nodes_dirty |= facts != self._facts
            self._facts = facts
        if not self._nodes_dirty and self.config == old:
            return
        before = self._nodes
        self._nodes = Nodes(self.config, self.options, self._facts, self._incumbents)
        if self._nodes_dirty:
            self._replan |= judged_anew(before, self._nodes, self.services)
        self._nodes_dirty = False

    def _allocate(self) -> dict[ObjectKey, Outcome]:
        """Converge the services that events touched and, where it may help, those that wait.

        All that is not kept is released before anything is given, and the oldest service comes
        first, so that the result does not depend on the order of events.
        """
        services = self._objects[Service]
        for key in sorted(self._dirty - services.keys()):
            self.ledger.release(key)
            self._waiting.discard(key)
            self._outcomes.pop(key, None)
        batch = self._dirty & services.keys()
        changed: dict[ObjectKey, Outcome] = {}
        # Every pass but the last gives something to a service that lacks it, so the passes are few;
        # what a bound cuts off is taken up by the next refresh.
        for _ in range(len(batch | self._waiting) + 2):
            settled = self._settle(batch)
            if self.ledger.epoch != self._epoch:
                self._epoch = self.ledger.epoch
                settled.update(self._settle(self._waiting - batch))
            for key in sorted(settled, key=lambda key: age(self._service(key))):
                work = settled[key]
                outcome = work if isinstance(work, Outcome) else place(work)
                (self._waiting.add if outcome.waiting else self._waiting.discard)(key)
                given = key in changed and changed[key].action == "assign"
                if given and outcome.action == "keep":
                    continue  # What an earlier pass gave is what there is to tell.
                if outcome != self._outcomes.get(key):
                    self._outcomes[key] = changed[key] = outcome
            if self.ledger.epoch == self._epoch:
                break
            batch = set()
        return changed

    def _settle(self, keys: Iterable[ObjectKey]) -> dict[ObjectKey, Settled]:
        services = sorted((self._service(key) for key in keys), key=age)
        return {item.key: settle(self.ledger, item, self.options) for item in services}

    def _service(self, key: ObjectKey) -> Service:
        item = self._objects[Service][key]
        assert isinstance(item, Service)
        return item

    def _announce(self) -> dict[ObjectKey, tuple[ServicePlan | None, ServicePlan | None]]:
        """Decide anew who announces the marked services; old and new plan of those that change."""
        changed: dict[ObjectKey, tuple[ServicePlan | None, ServicePlan | None]] = {}
        known = self._objects[Service]
        for key in self._dirty | self._replan:
            old = self.services.get(key)
            new = self._plan_service(self._service(key)) if key in known else None
            if new == old:
                continue
            changed[key] = old, new
            if new is None:
                del self.services[key]
            else:
                self.services[key] = new
        self._dirty.clear()
        self._replan.clear()
        return changed

    def _plan_service(self, service: Service) -> ServicePlan:
        key = service.key
        outcome = self._outcomes.get(key)
        found = outcome.addresses if outcome else self._status_addresses(service)
        if isinstance(found, Reason):
            return ServicePlan(service=key, reasons=(found,))
        written = tuple(status_texts(service)) if outcome else ()
        bare = ServicePlan(service=key, outcome=outcome, written=written, addresses=found)
        if not found:
            why = (reason("no-address", service=str(key)),)
            return msgspec.structs.replace(bare, reasons=why)
        pool = self._common_pool(found)
        if pool is None:
            why = (reason("no-common-pool", addresses=listed(found)),)
            return msgspec.structs.replace(bare, reasons=why)
        ready = self._serving(key)
        return msgspec.structs.replace(
            bare,
            pool=pool.name,
            l2=decide_l2(self._nodes, pool, service, found, ready),
            bgp=decide_bgp(self._nodes, pool, service, found, ready),
        )

    def _status_addresses(self, service: Service) -> tuple[Address, ...] | Reason:
        return not_ours(service, self.options) or current_addresses(service)

    def _common_pool(self, addresses: tuple[Address, ...]) -> Pool | None:
        """The pool that contains all the addresses, if there is one."""
        pools = [self.ledger.pool_of(address) for address in addresses]
        return pools[0] if all(pool is pools[0] for pool in pools) else None

    def _serving(self, key: ObjectKey) -> Serving:
        slices = self._slices.get(key)
        if slices is None and self.options.assume_cluster:
            return EVERYBODY
        return serving(slices[name] for name in sorted(slices)) if slices else serving(())

    # The watched node.

    def _follow_routes(
        self, old_config: Config, changed: Iterable[ObjectKey], *, same_terms: bool
    ) -> tuple[bool, dict[str, dict[Prefix, AdvertisedRoute | None]]]:
        """Keep the routes of the watched node; whether its peers changed, and its new routes."""
        terms = self._own_terms()
        if self.node is None or (terms is None and same_terms):
            return False, {}
        old, config = self._routes, self.config
        same = _effects(config.bgp) == _effects(old_config.bgp)
        if same_terms and same and config.peers == old_config.peers:
            for key in changed:
                item = self.services.get(key)
                old.put(key, item.bgp if item else None)
            return False, old.settle()
        labels, draining = terms or ({}, None)
        self._routes = new = NodeRoutes(config if terms else EMPTY, self.node, labels, draining)
        for key, item in self.services.items():
            new.put(key, item.bgp)
        new.settle()
        deltas = {
            name: _delta(old.routes(name) if name in old.peers else {}, new.routes(name))
            for name in new.peers
        }
        return old.peers != new.peers, {name: items for name, items in deltas.items() if items}

    def _follow_answers(
        self, changed: Mapping[ObjectKey, tuple[ServicePlan | None, ServicePlan | None]]
    ) -> dict[Address, L2Announcement | None]:
        """Keep what the watched node answers for; what changed."""
        touched: dict[Address, None] = {}
        for key, (old, new) in changed.items():
            for address in self._owned_by(old):
                self._owned[address].pop(key, None)
                touched[address] = None
            for address in self._owned_by(new):
                self._owned.setdefault(address, {})[key] = None
                touched[address] = None
        changes: dict[Address, L2Announcement | None] = {}
        for address in sorted(touched):
            keys = self._owned[address]
            before = self._answers.pop(address, None)
            after = join_l2(address, [self.services[key] for key in keys]) if keys else None
            if after is None:
                del self._owned[address]
            else:
                self._answers[address] = after
            if after != before:
                changes[address] = after
        return changes

    def _owned_by(self, item: ServicePlan | None) -> tuple[Address, ...]:
        own = item and item.l2.announced and self.node == item.l2.owner
        return item.addresses if item and own else ()

    def _changed_usage(self) -> dict[str, PoolUsage]:
        """Usage of the pools where it differs from what was last told."""
        usage = {name: self.ledger.usage(name) for name in self.config.pools}
        changed = {name: item for name, item in usage.items() if self._usage.get(name) != item}
        self._usage = usage
        return changed

    # Results.

    @property
    def peers(self) -> Mapping[str, Peer]:
        """Peers to which the watched node has a session."""
        return self._routes.peers

    def routes(self, peer: str) -> Mapping[Prefix, AdvertisedRoute]:
        """All that the watched node tells a peer."""
        return self._routes.routes(peer)

    @property
    def answers(self) -> Mapping[Address, L2Announcement]:
        """All that the watched node answers for."""
        return self._answers

    def outcome(self, service: ObjectKey) -> Outcome | None:
        """The last decision about a service's addresses."""
        return self._outcomes.get(service)

    def peers_told(self, service: ObjectKey) -> tuple[str, ...]:
        """Peers to which the watched node tells of a service."""
        item = self.services.get(service)
        ads = item.bgp.nodes.get(self.node or "", ()) if item else ()
        return tuple(
            name
            for name, peer in sorted(self.peers.items())
            if any(
                self.config.bgp[ad].goes_to(name)
                and any(prefix.version in peer.families for prefix in item.bgp.prefixes[ad])
                for ad in ads
                if item
            )
        )

    def snapshot(self) -> Snapshot:
        """All inputs, as one value."""
        return self._read(FIELDS)

    def _read(self, wanted: Mapping[type, str]) -> Snapshot:
        fields = {
            field: tuple(obj for _, obj in sorted(self._objects[kind].items()))
            for kind, field in wanted.items()
        }
        return msgspec.structs.replace(
            Snapshot(options=self.options),
            **fields,
            speakers=None if self._speakers is None else tuple(sorted(self._speakers)),
            stopping=tuple(sorted(self._stopping)),
            interfaces=dict(sorted(self._interfaces.items())),
            incumbents=dict(sorted(self._incumbents.items())),
            outdated=tuple(sorted(self._outdated)),
            resting=self.ledger.resting(),
            now=self.ledger.now,
            observed=self._observed,
            in_force=self.config if self._continues else None,
        )

    def plan(self, node: str | None = None) -> Plan:
        """Everything decided, for all nodes or for one."""
        snapshot = self.snapshot()
        pools = {obj.name: ref(obj) for obj in snapshot.pools}
        problems = (
            *self.problems,
            *service_warnings(snapshot, self.config),
            *findings(self._nodes, self.ledger, self.services, pools),
        )
        return assemble(snapshot, self._nodes, self.ledger, problems, self.services, node)


def plan(snapshot: Snapshot, node: str | None = None) -> Plan:
    """Everything that follows from a snapshot, for all nodes or for one."""
    planner = Planner(snapshot.options)
    planner.load(snapshot)
    planner.refresh(snapshot.now)
    return planner.plan(node)


def _labels(obj: Input | None) -> dict[str, str] | None:
    return obj.metadata.labels if isinstance(obj, KubeObject) else None


def _configuring(obj: Input | None) -> tuple[object, ...]:
    """What the configuration is checked against of a node."""
    if not isinstance(obj, Node):
        return ()
    return obj.metadata.labels, obj.status.addresses, obj.spec.pod_cidrs, obj.spec.pod_cidr


def _differing(old: Mapping[str, object], new: Mapping[str, object]) -> set[str]:
    """Names whose value is not the same in both."""
    return {name for name in old.keys() | new.keys() if old.get(name) != new.get(name)}


Ads = Mapping[str, L2Settings | BGPSettings]


def _effects(ads: Ads) -> dict[str, L2Settings | BGPSettings]:
    """The advertisements without the list of their pools: each pool lists its advertisements."""
    return {name: msgspec.structs.replace(ad, pools=frozenset()) for name, ad in ads.items()}


def _pools_of(old: Ads, new: Ads) -> set[str]:
    """Pools of the advertisements that changed otherwise than by selecting other pools."""
    names = _differing(_effects(old), _effects(new))
    items = [table[name] for name in names for table in (old, new) if name in table]
    return {pool for item in items for pool in item.pools}


def _delta(
    old: Mapping[Prefix, AdvertisedRoute], new: Mapping[Prefix, AdvertisedRoute]
) -> dict[Prefix, AdvertisedRoute | None]:
    return {p: new.get(p) for p in old.keys() | new.keys() if old.get(p) != new.get(p)}
