"""Whatever happens and in whatever order, the planner's plan is that of the final snapshot."""

from typing import Any

import msgspec
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from clarion.base.addr import Address
from clarion.decide.advertise import AdvertisedRoute
from clarion.decide.config import EMPTY
from clarion.decide.plan import L2Announcement, Plan
from clarion.decide.planner import Planner, plan
from clarion.decide.snapshot import FIELDS, Options, SecretFacts, Snapshot
from clarion.model.annotations import LOAD_BALANCER_IPS
from clarion.model.core import (
    EndpointSlice,
    LoadBalancerStatus,
    Namespace,
    Node,
    Service,
    ServiceStatus,
)
from clarion.model.meta import KubeObject, ObjectKey
from clarion.model.metallb import (
    BFDProfile,
    BGPAdvertisement,
    BGPPeer,
    Community,
    IPAddressPool,
    L2Advertisement,
    SecretReference,
)
from clarion.testing import builders as b

SETTINGS = settings(
    derandomize=True,
    max_examples=500,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)

NAMES = ("a", "b", "c", "d")
NODES = ("n1", "n2", "n3")


def one_of(*items: Any) -> st.SearchStrategy[Any]:
    return st.sampled_from(items)


# Every world is small and tight, so that services compete for addresses, keys and ports.
SERVICES = st.builds(
    b.service,
    st.sampled_from([*NAMES, "other/a", "other/b"]),
    ports=st.lists(one_of(80, 443, "udp/53"), min_size=1, max_size=2, unique=True),
    families=one_of((4,), (4,), (4,), (6,), (4, 6), (6, 4)),
    policy=one_of(None, "SingleStack", "PreferDualStack", "PreferDualStack", "RequireDualStack"),
    local=one_of(False, False, True),
    pool=one_of("", "", "", "p1", "p2", "nowhere"),
    ips=one_of("", "", "", "", "192.0.2.1", "192.0.2.2,2001:db8::1", "bad", "192.0.2.9"),
    share=one_of(None, None, "k", "k", "z"),
    labels=one_of("", "tier=web", "tier=db"),
    ingress=one_of((), (), ("192.0.2.1",), ("192.0.2.2",), ("2001:db8::1",)),
    created=st.integers(0, 3),
    type=one_of(*["LoadBalancer"] * 5, "ClusterIP"),
    selector=one_of({}, {"app": "x"}),
)
SHARERS = st.builds(
    b.service,
    one_of(*NAMES),
    ports=st.lists(one_of(80, 443), min_size=1, max_size=2, unique=True),
    ips=st.just("192.0.2.1"),
    share=one_of("k", "k", "k", "z"),
    local=one_of(False, False, True),
    selector=one_of({"app": "x"}, {"app": "y"}),
)
"""Services that all want one address, under keys, policies and ports that may not go together."""
POOLS = st.one_of(
    st.builds(
        b.pool,
        st.just("p1"),
        one_of("192.0.2.0/31", "192.0.2.0/31", "192.0.2.0/32", "192.0.2.0/30", "192.0.2.0/33"),
        one_of("2001:db8::/127", "2001:db8::/126"),
        auto=one_of(True, True, False),
        avoid_buggy=one_of(False, False, True),
        priority=one_of(None, None, 0, 1),
        labels=one_of("", "zone=east"),
        reserved=one_of("", "", "192.0.2.0", "192.0.2.1, 2001:db8::/127", "192.0.2.9"),
        hold_down=one_of("", "10s", "10s", "2s"),
    ),
    st.builds(
        b.pool,
        st.just("p2"),
        one_of("192.0.2.2-192.0.2.3", "192.0.2.1-192.0.2.2"),
        one_of("2001:db8::2/127", "198.51.100.0/31"),
        auto=one_of(True, True, False),
        namespaces=one_of((), (), ("default",)),
        namespace_selectors=one_of((), (), ("team=red",)),
        service_selectors=one_of((), (), ("tier=web",)),
        labels=one_of("", "zone=east"),
        reserved=one_of("", "", "192.0.2.2"),
        hold_down=one_of("", "", "5s"),
    ),
)
L2_ADS = st.builds(
    b.l2_advertisement,
    one_of("l1", "l2"),
    pools=one_of((), ("p1",), ("p2",)),
    nodes=one_of((), ("zone=east",)),
    services=one_of((), (), ("tier=web",)),
    prefer=one_of({}, {"zone=east": 10}),
    interfaces=one_of((), ("eth0",), ("eth1",)),
)
BGP_ADS = st.builds(
    b.bgp_advertisement,
    one_of("b1", "b2"),
    pools=one_of((), ("p1",), ("p2",)),
    pool_selectors=one_of((), ("zone=east",)),
    nodes=one_of((), ("zone=east",)),
    services=one_of((), (), ("tier=web",)),
    peers=one_of((), ("r1",), ("nobody",)),
    length=one_of(32, 31),
    length6=one_of(128, 127),
    local_pref=one_of(0, 0, 100),
    communities=one_of(
        (), ("no-export",), ("65000:1", "large:1:2:3"), ("backup",), ("extended:rt:1:2",)
    ),
    weighted=one_of(False, True),
)
PEERS = st.builds(
    b.peer,
    one_of("r1", "r2"),
    nodes=one_of((), ("zone=east",)),
    interface=st.just(""),
    vrf=one_of("", "", "red"),
    bfd_profile=one_of("", "", "fast"),
    password_secret=one_of(SecretReference(), SecretReference(), SecretReference(name="md5")),
)
# What other objects name or select: without it they have an error, or select less.
NAMED = st.one_of(
    st.builds(b.namespace, one_of("default", "other"), one_of("", "team=red")),
    st.builds(b.bfd_profile, one_of("fast", "slow"), detect_multiplier=one_of(None, 3, 1)),
    st.builds(
        b.community,
        one_of("c1", "c2"),
        st.dictionaries(
            one_of("backup", "no-export"), one_of("65000:2", "65000:3", "x"), max_size=2
        ),
    ),
    st.builds(
        b.secret,
        one_of("md5"),
        one_of("x", "y", None),
        one_of("kubernetes.io/basic-auth", "kubernetes.io/basic-auth", "Opaque"),
    ),
)
NODE_OBJECTS = st.builds(
    b.node,
    st.sampled_from(NODES),
    one_of("", "zone=east"),
    ready=one_of(None, True, False),
    network_unavailable=one_of(False, False, False, True),
    excluded=one_of(False, False, False, True),
    cordoned=one_of(False, False, True),
)
SLICES = st.builds(
    lambda name, nodes, ready, suffix: b.endpoints(name, *nodes, ready=ready, suffix=suffix),
    st.sampled_from([*NAMES, "other/a"]),
    st.lists(st.sampled_from(NODES), max_size=3),
    st.booleans(),
    one_of("1", "2"),
)
OBJECTS = st.one_of(
    SERVICES,
    SERVICES,
    SERVICES,
    SERVICES,
    SLICES,
    POOLS,
    L2_ADS,
    BGP_ADS,
    PEERS,
    NAMED,
    NODE_OBJECTS,
)
WORLD: tuple[KubeObject, ...] = (
    b.pool("p1", "192.0.2.0/31", "2001:db8::/127", hold_down="10s"),
    b.pool("p2", "192.0.2.2-192.0.2.3", "2001:db8::2/127", labels="zone=east"),
    b.pool("p3", "203.0.113.0/32", namespace_selectors=["team=red"]),
    b.namespace("default", "team=red"),
    b.l2_advertisement("l1"),
    b.bgp_advertisement("b1"),
    b.bgp_advertisement("b3", communities=["backup"]),
    b.community("c1", backup="65000:2"),
    b.bgp_advertisement("b2", length=31, length6=127, communities=["no-export"]),
    b.peer("r1"),
    b.peer("r2", "198.51.100.2"),
    b.peer("r3", "198.51.100.3", password_secret=SecretReference(name="md5")),
    b.secret("md5", "x"),
    *(b.node(name, "zone=east" if name == "n1" else "") for name in NODES),
    *(b.endpoints(name, *NODES) for name in NAMES),
    *(
        b.service(name, created=index, ingress=(f"192.0.2.{index}",))
        for index, name in enumerate(NAMES)
    ),
    b.service("other/c", share="k", created=9),
)
"""Where events begin: everything works, and there are fewer addresses than services may want."""

GONE: dict[type, tuple[str, ...]] = {
    Service: NAMES,
    EndpointSlice: ("a-1", "b-1"),
    IPAddressPool: ("p1", "p2"),
    L2Advertisement: ("l1",),
    BGPAdvertisement: ("b1",),
    BGPPeer: ("r1",),
    Node: ("n1",),
    Namespace: ("default", "other"),
    BFDProfile: ("fast",),
    Community: ("c1",),
    SecretFacts: ("md5",),
}
"""What may vanish, of every kind of input."""

REMOVALS = st.sampled_from(
    [(kind, name) for kind, names in (*GONE.items(), (Service, NAMES)) for name in names]
)
SECONDS = st.integers(1, 12)
SPEAKERS = st.one_of(st.none(), st.lists(st.sampled_from(NODES), unique=True).map(tuple))
OPTIONS = st.builds(
    Options,
    l2_require_interface=st.booleans(),
    graceful_shutdown=st.booleans(),
    backend=one_of("native", "native", "frr"),
)
HEARD = st.one_of(
    st.tuples(st.just("speakers"), SPEAKERS),
    st.tuples(st.just("stopping"), st.lists(st.sampled_from(NODES), max_size=1)),
    st.tuples(
        st.just("interfaces"),
        st.sampled_from(NODES),
        st.one_of(st.none(), st.lists(one_of("eth0", "eth1"), unique=True)),
    ),
    st.tuples(
        st.just("incumbents"),
        st.dictionaries(
            one_of("192.0.2.0", "192.0.2.1", "192.0.2.3", "2001:db8::1", "nowhere"),
            st.sampled_from(NODES),
            max_size=4,
        ),
    ),
)
"""What is known of the nodes beside their objects."""
STEPS = st.one_of(OBJECTS, OBJECTS, OBJECTS, REMOVALS, HEARD, st.just("refresh"), SECONDS)
"""An object, the removal of one, a look at all that happened, and one after some seconds."""
EVENTS = st.lists(STEPS, min_size=5, max_size=50)


def apply(planner: Planner, event: Any) -> None:
    if event == "refresh":
        planner.refresh()
    elif isinstance(event, int):
        planner.refresh(planner.ledger.now + event)
    elif isinstance(event, tuple) and event[0] == "speakers":
        planner.set_speakers(event[1])
    elif isinstance(event, tuple) and event[0] == "stopping":
        planner.set_stopping(event[1])
    elif isinstance(event, tuple) and event[0] == "interfaces":
        planner.set_interfaces(event[1], event[2])
    elif isinstance(event, tuple) and event[0] == "incumbents":
        planner.set_incumbents(event[1])
    elif isinstance(event, tuple):
        kind, name = event
        namespaces = {Service: "default", EndpointSlice: "default", Node: "", Namespace: ""}
        planner.remove(kind, ObjectKey(namespaces.get(kind, b.CONFIG_NAMESPACE), name))
    else:
        planner.put(event)


def written(planner: Planner) -> Snapshot:
    """The snapshot once the controller has written what was decided."""
    snapshot = planner.snapshot()
    services = []
    for service in snapshot.services:
        outcome = planner.outcome(service.key)
        if outcome and outcome.action != "ignore":
            status = ServiceStatus(load_balancer=LoadBalancerStatus(ingress=outcome.ingress))
            services.append(msgspec.structs.replace(service, status=status))
        else:
            services.append(service)
    return msgspec.structs.replace(snapshot, services=tuple(services))


def essence(made: Plan) -> Any:
    """A plan without what tells how it came about: events, and whether an address is new."""
    services = {
        key: (
            item.addresses,
            item.pool,
            item.outcome and item.outcome.waiting,
            item.outcome and not item.addresses and item.outcome.reasons[-1:],
            item.l2,
            item.bgp,
            item.reasons,
        )
        for key, item in made.services.items()
    }
    return services, made.nodes, made.pools, made.config, made.problems


def assert_sound(planner: Planner) -> None:
    """No address is held by services that may not share it, and every count adds up."""
    ledger = planner.ledger
    users: dict[Address, list[ObjectKey]] = {}
    for key, holding in ledger.holdings().items():
        assert len({address.version for address in holding.addresses}) == len(holding.addresses)
        for address in holding.addresses:
            users.setdefault(address, []).append(key)
            home = ledger.pool_of(address)
            assert home is not None
            assert home.name == holding.pool
    for keys in users.values():
        tenancies = [ledger.holdings()[key].tenancy for key in keys]
        if len(keys) > 1:
            assert all(item.sharing for item in tenancies)
            assert len({(item.sharing, item.backend) for item in tenancies}) == 1
            ports = [port for item in tenancies for port in item.ports]
            assert len(ports) == len(set(ports))
    for rest in ledger.resting():
        home = ledger.pool_of(rest.address)
        assert rest.address not in users
        assert home is not None
        assert rest.released <= ledger.now < rest.released + home.hold_down
    for name in planner.config.pools:
        usage = ledger.usage(name)
        for version in (4, 6):
            held = sum(
                a.version == version and ledger.pool_of(a) is planner.config.pools[name]
                for a in users
            )
            assert usage.assigned[version] == held
            assert usage.available(version) >= 0


@SETTINGS
@given(EVENTS, SPEAKERS, OPTIONS)
def test_events_lead_to_the_plan_of_the_final_snapshot(
    events: list[Any], speakers: tuple[str, ...] | None, options: Options
) -> None:
    planner = Planner(options)
    planner.set_speakers(speakers)
    planner.set_interfaces("n1", ["eth0"])
    for event in (*WORLD, *events):
        apply(planner, event)
    planner.refresh()
    assert_sound(planner)
    assert planner._epoch == planner.ledger.epoch, "deciding did not come to rest"
    assert essence(planner.plan()) == essence(plan(written(planner)))
    assert planner.refresh().outcomes == ()


@SETTINGS
@given(st.lists(SHARERS, min_size=2, max_size=8))
def test_no_address_is_shared_by_services_that_do_not_go_together(events: list[Any]) -> None:
    planner = Planner()
    planner.put(b.pool("p1", "192.0.2.0/31"))
    for event in events:
        planner.put(event)
        planner.refresh()
        assert_sound(planner)


@SETTINGS
@given(st.lists(OBJECTS, max_size=25), st.randoms(use_true_random=False))
def test_the_order_of_events_does_not_matter(objects: list[KubeObject], random: Any) -> None:
    final = {(type(obj), obj.namespace, obj.name): obj for obj in (*WORLD, *objects)}
    shuffled = list(final.values())
    random.shuffle(shuffled)
    planner = Planner()
    for obj in shuffled:
        planner.put(obj)
    planner.refresh()
    begun = msgspec.structs.replace(Snapshot.from_objects(final.values()), in_force=EMPTY)
    assert planner.plan() == plan(begun)


@SETTINGS
@given(EVENTS)
def test_what_a_speaker_is_told_to_change_adds_up_to_the_plan(events: list[Any]) -> None:
    speaker = Planner(node="n1", allocate=False)
    routes: dict[str, dict[Any, AdvertisedRoute]] = {}
    answers: dict[Address, L2Announcement] = {}
    for event in (*WORLD, *events, "refresh"):
        if event != "refresh":
            if not isinstance(event, int):
                apply(speaker, event)
            continue
        changes = speaker.refresh()
        routes = {peer: routes.get(peer, {}) for peer in speaker.peers}
        for peer, items in changes.routes.items():
            for prefix, route in items.items():
                if route is None:
                    del routes[peer][prefix]
                else:
                    assert routes[peer].get(prefix) != route
                    routes[peer][prefix] = route
        for address, announcement in changes.l2.items():
            if announcement is None:
                del answers[address]
            else:
                answers[address] = announcement
    node = speaker.plan("n1").nodes.get("n1")
    if node is None:
        assert not routes
        assert not answers
        return
    told = {
        name: {item.route.prefix: item.route for item in peer.routes}
        for name, peer in node.peers.items()
        if not peer.refused
    }
    assert routes == told
    assert tuple(answers[address] for address in sorted(answers)) == node.l2


@SETTINGS
@given(EVENTS)
def test_a_speaker_announces_what_the_controllers_plan_says(events: list[Any]) -> None:
    controller = Planner()
    for event in (*WORLD, *events):
        apply(controller, event)
    controller.refresh()
    snapshot = written(controller)
    for name in ("n1", "n2"):
        speaker = Planner(node=name, allocate=False)
        speaker.load(snapshot)
        speaker.refresh()
        ours, theirs = speaker.plan(name).nodes, controller.plan(name).nodes
        assert ours == theirs


HOLD = 10.0
MOVES = st.lists(
    st.one_of(
        st.integers(1, 6),
        st.tuples(st.just("leaves"), st.sampled_from(NAMES)),
        st.builds(
            b.service,
            st.sampled_from(NAMES),
            ips=one_of("", "", "192.0.2.0", "192.0.2.1", "192.0.2.3"),
            share=one_of(None, None, "k"),
            ports=one_of((80,), (81,), (82,)),
            created=st.integers(0, 3),
        ),
    ),
    max_size=60,
)


@SETTINGS
@given(MOVES)
def test_no_address_changes_hands_before_its_hold_down_and_no_reserved_one_unasked(
    moves: list[Any],
) -> None:
    planner = Planner()
    planner.put(b.pool("p", "192.0.2.0/30", reserved="192.0.2.3", hold_down=f"{HOLD:.0f}s"))
    now = 100.0
    before: dict[Address, set[ObjectKey]] = {}
    left: dict[Address, tuple[float, set[ObjectKey]]] = {}
    for move in moves:
        if isinstance(move, int):
            now += move
        elif isinstance(move, tuple):
            planner.remove(Service, ObjectKey("default", move[1]))
        else:
            planner.put(move)
        planner.refresh(now)
        after: dict[Address, set[ObjectKey]] = {}
        for key, holding in planner.ledger.holdings().items():
            for address in holding.addresses:
                after.setdefault(address, set()).add(key)
        wishes = {item.key: item.metadata.annotations for item in planner.snapshot().services}
        for address in before.keys() | after.keys():
            old, new = before.get(address, set()), after.get(address, set())
            if str(address) == "192.0.2.3":
                asked = {key for key in new - old if LOAD_BALANCER_IPS in wishes[key]}
                assert asked == new - old
            if old and not old & new:
                left[address] = now, old
            when, holders = left.get(address, (now - HOLD, set()))
            # Who comes before the time is over had it before, or shares it with one who had.
            assert now >= when + HOLD or not new or new & (holders | old)
        before = after
        due = planner.next_deadline()
        assert due is None or due > now


@SETTINGS
@given(st.lists(OBJECTS, max_size=25))
def test_a_snapshot_survives_being_written_down(objects: list[KubeObject]) -> None:
    snapshot = Snapshot.from_objects(objects, speakers=["n1"], interfaces={"n1": ["eth0"]})
    assert msgspec.json.decode(msgspec.json.encode(snapshot), type=Snapshot) == snapshot


def test_every_kind_of_input_takes_part() -> None:
    assert GONE.keys() == FIELDS.keys()
