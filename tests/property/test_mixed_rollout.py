"""Speakers of MetalLB beside ours: whom each kind elects, and when that is the same node.

MetalLB's rule is written here anew, from its documented behaviour alone. Its speakers count the
members of their own memberlist, ours the holders of Leases; neither sees the other's.
"""

import hashlib

import msgspec
from hypothesis import given, settings
from hypothesis import strategies as st

from clarion.decide.planner import plan
from clarion.decide.snapshot import Snapshot
from clarion.model.meta import ObjectKey
from clarion.testing import builders as b

NAMES = tuple(f"node-{letter}" for letter in "abcdefgh")
ZONES = ("red", "blue")
WEB = ObjectKey("default", "web")
KIND = "announcer"


class Host(msgspec.Struct, frozen=True):
    name: str
    zone: str
    excluded: bool
    unreachable: bool
    lives: bool
    serves: bool


class Advertisement(msgspec.Struct, frozen=True):
    """Zones that it selects (none: all), and what each zone is preferred by."""

    zones: tuple[str, ...]
    weights: dict[str, int]


class World(msgspec.Struct, frozen=True):
    hosts: tuple[Host, ...]
    ads: tuple[Advertisement, ...]
    address: str
    local: bool


HOSTS = st.lists(st.sampled_from(NAMES), min_size=1, unique=True).flatmap(
    lambda names: st.tuples(
        *(
            st.builds(
                Host,
                st.just(name),
                st.sampled_from(ZONES),
                *(st.integers(0, 4).map(lambda number: number == 0) for _ in range(2)),
                *(st.integers(0, 4).map(lambda number: number > 0) for _ in range(2)),
            )
            for name in names
        )
    )
)
ADS = st.lists(
    st.builds(
        Advertisement,
        st.lists(st.sampled_from(ZONES), unique=True).map(tuple),
        st.dictionaries(st.sampled_from(ZONES), st.integers(1, 100)),
    ),
    min_size=1,
    max_size=3,
).map(tuple)
ADDRESSES = st.one_of(
    st.integers(1, 254).map("192.0.2.{}".format),
    st.integers(1, 0xFFFF).map("2001:db8::{:x}".format),
)
WORLDS = st.builds(World, HOSTS, ADS, ADDRESSES, st.booleans())


def metallb(world: World, members: frozenset[str]) -> str | None:
    """The node that MetalLB's speakers elect when these are the members of their memberlist."""
    if not any(host.serves for host in world.hosts):
        return None
    scores: dict[str, int] = {}
    for host in world.hosts:
        covering = [ad for ad in world.ads if not ad.zones or host.zone in ad.zones]
        may = host.name in members and not host.unreachable and not host.excluded
        if covering and may and (host.serves or not world.local):
            scores[host.name] = sum(ad.weights.get(host.zone, 0) for ad in covering)

    def place(name: str) -> tuple[int, bytes]:
        return -scores[name], hashlib.sha256(f"{name}#{world.address}".encode()).digest()

    return min(scores, key=place) if scores else None


def clarion(world: World, leases: frozenset[str], only: str = "") -> str | None:
    """The node that our speakers elect when these hold Leases.

    Args:
        world: What there is.
        leases: Nodes with a live speaker.
        only: Every advertisement selects nodes with this label, too.
    """
    snapshot = Snapshot.from_objects(
        [
            *(
                b.node(
                    host.name,
                    {"zone": host.zone, KIND: "ours" if host.name in leases else "metallb"},
                    excluded=host.excluded,
                    network_unavailable=host.unreachable,
                )
                for host in world.hosts
            ),
            b.pool("pool", "192.0.2.0/24", "2001:db8::/112"),
            *(
                b.l2_advertisement(
                    f"ad-{number}",
                    nodes=[",".join(filter(None, (f"zone={zone}", only))) for zone in ad.zones]
                    or ([only] if only else ()),
                    prefer={f"zone={zone}": weight for zone, weight in ad.weights.items()},
                )
                for number, ad in enumerate(world.ads)
            ),
            b.service(
                "web",
                families=[6 if ":" in world.address else 4],
                ingress=[world.address],
                local=world.local,
            ),
            b.endpoints("web", *(host.name for host in world.hosts if host.serves)),
        ],
        speakers=leases,
    )
    return plan(snapshot).services[WEB].l2.owner or None


def living(world: World) -> frozenset[str]:
    return frozenset(host.name for host in world.hosts if host.lives)


@settings(derandomize=True, max_examples=300, deadline=None)
@given(WORLDS)
def test_with_the_same_speakers_the_owner_is_the_same(world: World) -> None:
    """So the hand-over of a whole cluster moves no address to another node."""
    assert clarion(world, living(world)) == metallb(world, living(world))


@settings(derandomize=True, max_examples=100, deadline=None)
@given(WORLDS, st.sets(st.sampled_from(NAMES)))
def test_advertisements_for_one_kind_of_nodes_have_one_owner(world: World, moved: set[str]) -> None:
    """The way to move pool by pool: its advertisements select nodes of one kind alone."""
    ours, theirs = living(world) & moved, living(world) - moved
    only_ours = world.hosts and clarion(world, ours, f"{KIND}=ours")
    assert only_ours is None or only_ours in ours
    # MetalLB reads the same advertisements: none of its members is selected, so it is silent.
    assert clarion(world, ours, f"{KIND}=metallb") is None
    # With its nodes alone selected it does as if there were no others.
    rest = msgspec.structs.replace(
        world, hosts=tuple(host for host in world.hosts if host.name not in moved)
    )
    if any(host.serves for host in rest.hosts) == any(host.serves for host in world.hosts):
        assert metallb(world, theirs) == metallb(rest, theirs)


@settings(derandomize=True, max_examples=100, deadline=None)
@given(WORLDS, st.sets(st.sampled_from(NAMES)))
def test_without_that_both_kinds_answer(world: World, moved: set[str]) -> None:
    """What docs/migration.md warns of: each kind elects among its own, so there are two owners."""
    ours, theirs = living(world) & moved, living(world) - moved
    one, other = clarion(world, ours), metallb(world, theirs)
    assert one == metallb(world, ours)
    assert one is None or one in ours
    assert other is None or other in theirs
    assert one is None or one != other
