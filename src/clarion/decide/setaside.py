"""Objects that have an error: what their absence, or their last valid version, may explain.

A running program keeps the last valid version of an object in force. Whoever reads the API later
sees the broken version only: what running programs do with it is then not known, and is said so.
"""

from collections.abc import Iterable
from itertools import chain
from typing import Literal

import msgspec

from clarion.decide.config_build import ref
from clarion.decide.problems import ObjectRef, Problem
from clarion.decide.reasons import Reason, reason
from clarion.decide.selectors import any_matches, faults
from clarion.decide.snapshot import Snapshot
from clarion.model.metallb import (
    BGPAdvertisement,
    BGPPeer,
    IPAddressPool,
    L2Advertisement,
)

Fate = Literal["kept", "left-out", "in-doubt"]
Scoped = IPAddressPool | L2Advertisement | BGPAdvertisement | BGPPeer


class SetAside(msgspec.Struct, frozen=True):
    """One object that has an error.

    Attributes:
        codes: Codes of its errors.
        fate: Its last valid version is in force; it is as if it were not there; or the one in
            programs that saw a valid version, the other in those that did not.
        pools: Pools that it selects as it is written now.
        peers: Peers that it names; empty: every peer.
    """

    object: ObjectRef
    codes: tuple[str, ...]
    fate: Fate
    pools: frozenset[str] = frozenset()
    peers: tuple[str, ...] = ()

    @property
    def reason(self) -> Reason:
        """The case in words."""
        facts = {"object": str(self.object), "codes": ", ".join(self.codes)}
        return reason(f"object-{self.fate}", **facts)

    def concerns(self, kind: str, *, pool: str = "", peer: str = "") -> bool:
        """True if it is of the kind and about the pool or peer that is asked about."""
        return (
            self.object.kind == kind
            and pool in ("", *self.pools)
            and (not peer or not self.peers or peer in self.peers)
        )


def set_aside(snapshot: Snapshot, problems: Iterable[Problem]) -> tuple[SetAside, ...]:
    """Every pool, advertisement and peer that has an error.

    Args:
        snapshot: The objects, and whether the configuration in force is known.
        problems: What is wrong with the objects.
    """
    codes: dict[ObjectRef, dict[str, None]] = {}
    kept = set()
    for item in problems:
        if item.severity == "error":
            codes.setdefault(item.object, {})[item.code] = None
        elif item.code == "last-good-kept":
            kept.add(item.object)
    known = snapshot.in_force is not None or snapshot.options.assume_cluster
    absent: Fate = "left-out" if known else "in-doubt"
    objects: Iterable[Scoped] = chain(
        snapshot.pools, snapshot.l2_advertisements, snapshot.bgp_advertisements, snapshot.peers
    )
    return tuple(
        SetAside(
            ref(obj), tuple(own), "kept" if ref(obj) in kept else absent, *_scope(obj, snapshot)
        )
        for obj in objects
        if (own := codes.get(ref(obj)))
    )


def _scope(obj: Scoped, snapshot: Snapshot) -> tuple[frozenset[str], tuple[str, ...]]:
    """The pools and the peers that an object is about."""
    if isinstance(obj, IPAddressPool):
        return frozenset((obj.name,)), ()
    if isinstance(obj, BGPPeer):
        return frozenset(), (obj.name,)
    names, selectors = obj.spec.ip_address_pools, obj.spec.ip_address_pool_selectors
    sound = [item for item in selectors if not any(faults(item))]
    pools = frozenset(
        pool.name
        for pool in snapshot.pools
        if not (names or selectors)
        or pool.name in names
        or any_matches(sound, pool.metadata.labels)
    )
    return pools, obj.spec.peers if isinstance(obj, BGPAdvertisement) else ()
