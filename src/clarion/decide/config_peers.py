"""Checks of BGP peers and BFD profiles, alone and against one another."""

from collections.abc import Callable
from math import ceil
from typing import NamedTuple

from clarion.base.addr import Address, parse_address
from clarion.base.duration import format_duration, parse_duration
from clarion.base.errors import quoted
from clarion.base.limits import TCP_MD5_KEY_BYTES_MAX
from clarion.decide.config_build import Build, age, hint, ref
from clarion.decide.problems import ObjectRef
from clarion.decide.registry import NAMED, Fact, listed
from clarion.decide.selectors import faults, selects
from clarion.decide.settings import Peer
from clarion.decide.snapshot import BASIC_AUTH, Backend
from clarion.decide.special import RESERVED_ASNS, no_peer
from clarion.model.annotations import MAX_PREFIXES, PASSIVE, TTL_SECURITY
from clarion.model.metallb import BFDProfile, BFDProfileSpec, BGPPeer, BGPPeerSpec

ASN_MAX = (1 << 32) - 1
PORT_MAX = 65535
BGP_PORT = 179
HOLD_MAX = CONNECT_MAX = 65535
HOPS_MAX = 254
MAX_PREFIXES_MAX = (1 << 32) - 1
FRRK8S_PORT_MAX = 16384
"""The highest port that an FRRConfiguration can hold; with one above it none of it is accepted."""

BFD_RANGES: dict[str, tuple[str, int, int]] = {
    "receive_interval": ("receiveInterval", 10, 60000),
    "transmit_interval": ("transmitInterval", 10, 60000),
    "detect_multiplier": ("detectMultiplier", 2, 255),
    "echo_interval": ("echoInterval", 10, 60000),
    "minimum_ttl": ("minimumTtl", 1, 254),
}
"""Python field -> its Kubernetes name and the bounds of its value."""


class Gap(NamedTuple):
    """What a back end does not have, and what happens instead.

    Attributes:
        backends: Which ones lack it.
        field: The field's name, or the annotation's.
        used: True for a peer that asks for it.
        no_session: The peer gets no session.
    """

    backends: tuple[Backend, ...]
    field: str
    used: Callable[[BGPPeer], bool]
    effect: str
    no_session: bool = False

    @property
    def path(self) -> str:
        """Where it stands in the object."""
        own = "/" in self.field
        return f"metadata.annotations[{self.field}]" if own else f"spec.{self.field}"


GAPS = (
    Gap(
        ("frr", "frr-k8s"),
        PASSIVE,
        lambda obj: obj.metadata.annotations.get(PASSIVE) == "true",
        "the session is also opened from here",
    ),
    Gap(
        ("frr-k8s",),
        "peerPort",
        lambda obj: obj.spec.peer_port > FRRK8S_PORT_MAX,
        f"it takes ports up to {FRRK8S_PORT_MAX}, and the peer gets no session",
        no_session=True,
    ),
    Gap(
        ("frr-k8s",),
        TTL_SECURITY,
        lambda obj: TTL_SECURITY in obj.metadata.annotations,
        "packets are accepted however far they travelled",
    ),
    Gap(
        ("frr-k8s",),
        MAX_PREFIXES,
        lambda obj: MAX_PREFIXES in obj.metadata.annotations,
        "the peer may announce any number of prefixes, which are all refused",
    ),
)
"""What is not honoured, by whom; every other field and annotation is, by every back end."""


def build_bfd(build: Build, previous: dict[str, BFDProfileSpec]) -> dict[str, BFDProfileSpec]:
    """All valid BFD profiles."""
    return build.accept(build.snapshot.bfd_profiles, lambda obj: _bfd(build, obj), previous)


def _bfd(build: Build, obj: BFDProfile) -> BFDProfileSpec:
    for attribute, (field, least, most) in BFD_RANGES.items():
        value = getattr(obj.spec, attribute)
        if value is not None and not least <= value <= most:
            facts = {"field": field, "value": value, "least": least, "most": most}
            build.report("bfd-range", obj, f"spec.{field}", **facts)
    return obj.spec


def build_peers(build: Build, previous: dict[str, Peer]) -> dict[str, Peer]:
    """All valid peers."""
    admitted: list[tuple[ObjectRef, Peer]] = []

    def admit(obj: BGPPeer, peer: Peer) -> bool:
        if build.options.backend != "native" and _clashes(build, obj, peer, admitted):
            return False
        admitted.append((ref(obj), peer))
        return True

    peers = build.accept(build.snapshot.peers, lambda obj: _peer(build, obj), previous, admit)
    _warn_of_twins(build, peers)
    return peers


def _peer(build: Build, obj: BGPPeer) -> Peer:
    spec = obj.spec
    _check_asns(build, obj)
    build.selectors(spec.node_selectors, obj, "spec.nodeSelectors")
    build.each_selects_nodes(spec.node_selectors, obj, "spec.nodeSelectors")
    if not spec.peer_address and not spec.interface:
        build.report("peer-address-missing", obj, "spec.peerAddress")
    if spec.peer_address and spec.interface:
        build.report("peer-address-twice", obj, "spec.interface")
    # v1beta1 has no default for the port: there 0 is one that nobody wrote.
    if not 0 <= spec.peer_port <= PORT_MAX:
        build.report("peer-port-range", obj, "spec.peerPort", port=spec.peer_port)
    if obj.key in build.snapshot.outdated:
        build.report("version-deprecated", obj, "apiVersion")
    if spec.disable_mp:
        build.report("field-deprecated", obj, "spec.disableMP", field="disableMP")
    _check_bfd_reference(build, obj)
    backend = build.options.backend
    gaps = [gap for gap in GAPS if backend in gap.backends and gap.used(obj)]
    for gap in gaps:
        facts = {"backend": backend, "field": gap.field, "effect": gap.effect}
        build.report("back-end-lacks", obj, gap.path, **facts)
    address, source = _addresses(build, obj)
    hold, keepalive = _timers(build, obj)
    return Peer(
        name=obj.name,
        my_asn=spec.my_asn,
        peer_asn=spec.peer_asn,
        dynamic_asn=spec.dynamic_asn,
        local_asn=_local_asn(build, obj),
        address=address,
        interface=spec.interface,
        source_address=source,
        port=spec.peer_port or BGP_PORT,
        passive=obj.metadata.annotations.get(PASSIVE, "") == "true",
        hold_time=hold,
        keepalive_time=keepalive,
        connect_time=_connect_time(build, obj),
        router_id=_router_id(build, obj),
        node_selectors=spec.node_selectors,
        password=_password(build, obj),
        password_secret=spec.password_secret.name,
        bfd_profile=spec.bfd_profile,
        graceful_restart=bool(spec.enable_graceful_restart),
        ebgp_multihop=spec.ebgp_multi_hop,
        ttl_security=_ttl_security(build, obj),
        max_prefixes=_annotated(build, obj, MAX_PREFIXES, MAX_PREFIXES_MAX),
        vrf=spec.vrf,
        families=_families(spec, address, native=backend == "native"),
        lacking=tuple(gap.field for gap in gaps if gap.no_session),
    )


def _local_asn(build: Build, obj: BGPPeer) -> int:
    """The ASN shown in place of myASN; FRR and frr-k8s refuse one for internal peers."""
    spec = obj.spec
    if spec.local_asn and _internal(spec):
        build.report("local-asn-internal", obj, "spec.localASN")
        return 0
    if spec.local_asn and spec.local_asn == spec.peer_asn:
        build.report("local-asn-of-peer", obj, "spec.localASN", value=spec.local_asn)
    return spec.local_asn


def _ttl_security(build: Build, obj: BGPPeer) -> int:
    """Hops that a packet of the peer may have travelled (RFC 5082), 0 for any number."""
    hops = _annotated(build, obj, TTL_SECURITY, HOPS_MAX)
    if hops and obj.spec.ebgp_multi_hop:
        where = f"metadata.annotations[{TTL_SECURITY}]"
        build.report("ttl-security-multihop", obj, where, hops=hops)
    return hops


def _annotated(build: Build, obj: BGPPeer, key: str, most: int) -> int:
    """A number from 1 in an annotation, 0 if there is none."""
    text = obj.metadata.annotations.get(key)
    if text is None:
        return 0
    # int() would also take signs, spaces, underscores and digits of other scripts.
    digits = text.isascii() and text.isdigit() and len(text) <= len(str(most))
    if digits and 1 <= int(text) <= most:
        return int(text)
    facts: dict[str, Fact] = {"key": key, "value": quoted(text), "most": most}
    build.report("annotation-number", obj, f"metadata.annotations[{key}]", **facts)
    return 0


def _families(spec: BGPPeerSpec, address: Address | None, *, native: bool) -> frozenset[int]:
    """FRR activates the transport's family only; the native speaker always offers both."""
    if native or address is None or spec.dual_stack_address_family:
        return frozenset((4, 6))
    return frozenset((address.version,))


def _internal(spec: BGPPeerSpec) -> bool:
    """True for iBGP."""
    return spec.my_asn == spec.peer_asn or spec.dynamic_asn == "internal"


def _check_asns(build: Build, obj: BGPPeer) -> None:
    spec = obj.spec
    if spec.my_asn == 0:
        build.report("asn-missing", obj, "spec.myASN")
    numbers = (("myASN", spec.my_asn), ("peerASN", spec.peer_asn), ("localASN", spec.local_asn))
    for field, value in numbers:
        if not 0 <= value <= ASN_MAX:
            build.report("asn-range", obj, f"spec.{field}", field=field, value=value)
        elif value in RESERVED_ASNS:
            source = RESERVED_ASNS[value]
            where = f"spec.{field}"
            build.report("asn-reserved", obj, where, field=field, value=value, source=source)
    if not spec.peer_asn and not spec.dynamic_asn:
        build.report("peer-asn-missing", obj, "spec.peerASN")
    if spec.peer_asn and spec.dynamic_asn:
        build.report("peer-asn-twice", obj, "spec.dynamicASN")
    if spec.dynamic_asn not in ("", "internal", "external"):
        build.report("dynamic-asn-invalid", obj, "spec.dynamicASN", value=spec.dynamic_asn)
    if spec.ebgp_multi_hop and _internal(spec):
        build.report("multihop-internal", obj, "spec.ebgpMultiHop", asn=spec.my_asn)


def _ip(build: Build, obj: BGPPeer, text: str, field: str) -> Address | None:
    if not text:
        return None
    return build.parse(parse_address, text, "ip-invalid", obj, f"spec.{field}")


def _addresses(build: Build, obj: BGPPeer) -> tuple[Address | None, Address | None]:
    """The addresses of the peer and of this side, which must be able to connect."""
    address = _ip(build, obj, obj.spec.peer_address, "peerAddress")
    source = _ip(build, obj, obj.spec.source_address, "sourceAddress")
    if block := address and no_peer(address):
        facts = {"address": str(address), "what": block.what}
        build.report("peer-address-unusable", obj, "spec.peerAddress", **facts)
    if address and source and address.version != source.version:
        facts = {"address": str(address), "source": str(source)}
        build.report("source-address-family", obj, "spec.sourceAddress", **facts)
    return address, source


def _router_id(build: Build, obj: BGPPeer) -> Address | None:
    address = _ip(build, obj, obj.spec.router_id, "routerID")
    if address and address.version != 4:
        build.report("router-id-not-ipv4", obj, "spec.routerID", value=str(address))
    elif address and address.value == 0:
        build.report("router-id-zero", obj, "spec.routerID")
    elif address:
        _warn_of_shared_id(build, obj, address)
    return address


def _warn_of_shared_id(build: Build, obj: BGPPeer, address: Address) -> None:
    selectors = obj.spec.node_selectors
    if any(map(any, map(faults, selectors))):
        return
    running = sorted(name for name, own in build.node_labels.items() if selects(selectors, own))
    if len(running) > 1:
        related = [ObjectRef("Node", "", name) for name in running[:NAMED]]
        facts = {"value": str(address), "nodes": listed(running, NAMED)}
        build.report("router-id-shared", obj, "spec.routerID", related, **facts)


def _duration(build: Build, obj: BGPPeer, text: str | None, field: str) -> float | None:
    if text is None:
        return None
    return build.parse(parse_duration, text, "duration-invalid", obj, f"spec.{field}")


def _timers(build: Build, obj: BGPPeer) -> tuple[float | None, float | None]:
    """Hold and keepalive time; each follows from the other by the factor of RFC 4271 §4.4."""
    hold = _duration(build, obj, obj.spec.hold_time, "holdTime")
    keepalive = _duration(build, obj, obj.spec.keepalive_time, "keepaliveTime")
    if hold is None and keepalive is None:
        return None, None
    if hold is None:
        hold = (keepalive or 0.0) * 3
    hold = float(int(hold))
    keepalive = hold / 3 if keepalive is None else keepalive
    if hold != 0 and not 3 <= hold <= HOLD_MAX:
        build.report("hold-time-range", obj, "spec.holdTime", value=format_duration(hold))
    elif keepalive > hold or keepalive < 0:
        texts = {"keepalive": format_duration(keepalive), "hold": format_duration(hold)}
        build.report("keepalive-above-hold", obj, "spec.keepaliveTime", **texts)
    elif keepalive > ceil(hold / 3):
        texts = {"keepalive": format_duration(keepalive), "hold": format_duration(hold)}
        build.report("keepalive-above-third", obj, "spec.keepaliveTime", **texts)
    return hold, keepalive


def _connect_time(build: Build, obj: BGPPeer) -> float | None:
    value = _duration(build, obj, obj.spec.connect_time, "connectTime")
    if value is not None and (value != int(value) or not 1 <= value <= CONNECT_MAX):
        build.report("connect-time-range", obj, "spec.connectTime", value=format_duration(value))
    return value


def _password(build: Build, obj: BGPPeer) -> str:
    """The password in clear, from the object or from the Secret beside it."""
    password, path = obj.spec.password, "spec.password"
    if obj.spec.password_secret.name:
        path = "spec.passwordSecret"
        password = _password_of_secret(build, obj, path)
    octets = len(password.encode())
    if octets > TCP_MD5_KEY_BYTES_MAX:
        build.report("password-too-long", obj, path, octets=octets, most=TCP_MD5_KEY_BYTES_MAX)
    return password


def _password_of_secret(build: Build, obj: BGPPeer, path: str) -> str:
    """The reference's namespace is not used: the Secret is looked up where the peer lives."""
    name = obj.spec.password_secret.name
    if obj.spec.password:
        build.report("password-twice", obj, path)
    place = (obj.namespace, name)
    facts = next((s for s in build.snapshot.secrets if (s.namespace, s.name) == place), None)
    if facts is None:
        code = "secret-not-given" if build.options.assume_cluster else "secret-missing"
        build.report(code, obj, path, name=name, namespace=obj.namespace or "(none)")
        return ""
    secret = ObjectRef("Secret", facts.namespace, facts.name)
    if facts.type != BASIC_AUTH:
        build.report("secret-type", obj, path, [secret], name=name, type=facts.type or "(none)")
    elif not facts.has_password:
        build.report("secret-without-password", obj, path, [secret], name=name)
    return facts.password


def _check_bfd_reference(build: Build, obj: BGPPeer) -> None:
    name = obj.spec.bfd_profile
    profiles = [profile.name for profile in build.snapshot.bfd_profiles]
    if name and name not in profiles:
        known = hint(name, profiles)
        build.report("bfd-profile-missing", obj, "spec.bfdProfile", name=name, hint=known)


def _clashes(
    build: Build, obj: BGPPeer, peer: Peer, admitted: list[tuple[ObjectRef, Peer]]
) -> bool:
    """Report what FRR cannot hold in one router: two router IDs, ASNs or equal neighbours."""
    before = build.errors()
    for other_ref, other in admitted:
        if not _share_node(build, peer, other):
            continue
        facts = {"other": str(other_ref)}
        if peer.router_id != other.router_id:
            values = {"value": _id_text(peer), "other_value": _id_text(other)}
            where = "spec.routerID"
            build.report("router-id-conflict", obj, where, [other_ref], **facts, **values)
        if (peer.target, peer.vrf) == (other.target, other.vrf):
            where, target = "spec.peerAddress", peer.target
            build.report("peer-target-conflict", obj, where, [other_ref], **facts, target=target)
        if peer.vrf == other.vrf and peer.my_asn != other.my_asn:
            build.report(
                "my-asn-conflict",
                obj,
                "spec.myASN",
                [other_ref],
                **facts,
                value=peer.my_asn,
                other_value=other.my_asn,
            )
    return build.errors() > before


def _warn_of_twins(build: Build, peers: dict[str, Peer]) -> None:
    """Warn of peers whose sessions would have the same two ends; FRR refuses them."""
    known: dict[tuple[object, ...], list[BGPPeer]] = {}
    objects: dict[str, BGPPeer] = {}
    for obj in sorted(build.snapshot.peers, key=age):
        objects.setdefault(obj.name, obj)
    for name, obj in objects.items():
        peer = peers.get(name)
        if peer is None:
            continue
        same = known.setdefault((peer.target, peer.port, peer.source_address, peer.vrf), [])
        twin = next((old for old in same if _meet(build, peers[old.name], peer)), None)
        if twin:
            facts: dict[str, Fact] = {"target": peer.target, "port": peer.port}
            facts["other"] = str(ref(twin))
            build.report("peer-twice", obj, "spec.peerAddress", [ref(twin)], **facts)
        same.append(obj)


def _meet(build: Build, one: Peer, two: Peer) -> bool:
    """True if both surely run on one node; MetalLB takes that for granted without nodes."""
    free = not (one.node_selectors and two.node_selectors)
    alike = free or one.node_selectors == two.node_selectors
    return _share_node(build, one, two) and bool(alike or build.node_labels)


def _id_text(peer: Peer) -> str:
    return str(peer.router_id) if peer.router_id else "(unset)"


def _share_node(build: Build, one: Peer, two: Peer) -> bool:
    labels = build.node_labels.values()
    return not labels or any(one.runs_on(own) and two.runs_on(own) for own in labels)
