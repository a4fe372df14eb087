"""What FRR shall do, as frozen values, and the same in FRR's words.

As in MetalLB nothing is accepted from neighbours, only what is announced leaves, and route-maps add
the attributes. Each line is written the way in which `show running-config` gives it back (where FRR
says it at all), so that both can be compared.
"""

import zlib
from collections.abc import Iterable, Iterator, Mapping

import msgspec

from clarion.base.addr import Prefix

LargeCommunity = tuple[int, int, int]
Tree = dict[str, "Tree"]
"""Line -> lines inside of it, in order."""

FAMILIES = ((4, "ipv4"), (6, "ipv6"))
CLOSING = 65535
"""Number of the last entry of a route-map, the highest that FRR has."""
TAGGING = "clarion-tag-"
"""With what the names of route-maps begin that give a tag to what is originated."""
TAG_MAX = (1 << 32) - 1
MULTIHOP_TTL = 255
BANDWIDTH_MAX = 25600
"""Mbit/s; FRR takes no more."""


class Route(msgspec.Struct, frozen=True, gc=False):
    """A prefix as one neighbour is told of it.

    Attributes:
        local_pref: None leaves it to FRR.
        extended: Pairs of a kind, `rt` or `soo`, and a value in FRR's words.
        bandwidth: Of the link, in Mbit/s; 0 for none.
    """

    prefix: Prefix
    local_pref: int | None = None
    communities: tuple[int, ...] = ()
    large_communities: tuple[LargeCommunity, ...] = ()
    extended: tuple[tuple[str, str], ...] = ()
    bandwidth: int = 0


class Neighbor(msgspec.Struct, frozen=True, kw_only=True):
    """A neighbour of a router. Times are whole seconds; 0 and None leave it to FRR.

    Attributes:
        target: Address, or the interface of an unnumbered neighbour.
        interface: Whether the target is an interface.
        remote_as: A number, `internal` or `external`.
        nearby: Sessions of IPv6 without multihop: FRR's check that the neighbour is on a connected
            network is left out, as it cannot be met with addresses of the link alone.
        hops: How far packets may have travelled (RFC 5082); 0 for any distance.
        prefixes: More of one family end the session; 0 for any number.
        timers: Keepalive and hold time; (0, 0) is none at all.
        bfd: A profile's name; empty: no BFD.
        families: IP versions of the routes that the session carries.
    """

    target: str
    interface: bool = False
    remote_as: str
    local_as: int = 0
    port: int = 0
    timers: tuple[int, int] | None = None
    connect: int | None = None
    password: str = ""
    source: str = ""
    multihop: bool = False
    hops: int = 0
    prefixes: int = 0
    nearby: bool = False
    graceful_restart: bool = False
    bfd: str = ""
    families: frozenset[int]
    routes: tuple[Route, ...] = ()

    def __repr__(self) -> str:
        """Leave the password out, so that no message can hold it by accident."""
        return f"Neighbor({self.target} AS{self.remote_as})"


class Router(msgspec.Struct, frozen=True, kw_only=True):
    """What FRR is in one VRF; the default one has no name."""

    asn: int
    vrf: str = ""
    router_id: str = ""
    neighbors: tuple[Neighbor, ...] = ()


class BfdProfile(msgspec.Struct, frozen=True, kw_only=True):
    """Settings of BFD; intervals are milliseconds, None is FRR's default."""

    name: str
    receive_ms: int | None = None
    transmit_ms: int | None = None
    detect_multiplier: int | None = None
    echo_ms: int | None = None
    echo: bool = False
    passive: bool = False
    minimum_ttl: int | None = None


class FrrConfig(msgspec.Struct, frozen=True, kw_only=True):
    """Everything that FRR shall do for one node."""

    routers: tuple[Router, ...] = ()
    profiles: tuple[BfdProfile, ...] = ()


def _leaves(lines: Iterable[str]) -> Tree:
    return {line: {} for line in lines}


def identity(target: str, vrf: str) -> str:
    """With what the names of a neighbour's lists and route-maps begin."""
    return f"{target}-{vrf}" if vrf else target


def zebra_tree() -> Tree:
    """What zebra is told: next hops may also be found by a default route."""
    return {"ip nht resolve-via-default": {}, "ipv6 nht resolve-via-default": {}}


def bfd_tree(config: FrrConfig) -> Tree:
    """What bfdd is told."""
    profiles = sorted(config.profiles, key=lambda item: item.name)
    return {"bfd": {f"profile {item.name}": _leaves(_profile(item)) for item in profiles}}


def _profile(profile: BfdProfile) -> Iterator[str]:
    numbers = (
        ("detect-multiplier", profile.detect_multiplier),
        ("transmit-interval", profile.transmit_ms),
        ("receive-interval", profile.receive_ms),
        ("echo transmit-interval", profile.echo_ms),
        ("echo receive-interval", profile.echo_ms),
        ("minimum-ttl", profile.minimum_ttl),
    )
    yield from (f"{words} {value}" for words, value in numbers if value is not None)
    if profile.passive:
        yield "passive-mode"
    if profile.echo:
        yield "echo-mode"


def bgp_tree(config: FrrConfig) -> Tree:
    """What bgpd is told."""
    # Changes of policy are put in force together; FRR would otherwise wait for 5 seconds.
    tree: Tree = {"bgp route-map delay-timer 1": {}}
    for router in sorted(config.routers, key=lambda item: item.vrf):
        tags = _tags(router)
        for tag in sorted(set(tags.values())):
            tree[f"route-map {TAGGING}{tag} permit 1"] = {f"set tag {tag}": {}}
        for neighbor in _sorted(router):
            _policy(tree, identity(neighbor.target, router.vrf), neighbor, tags)
        vrf = f" vrf {router.vrf}" if router.vrf else ""
        tree[f"router bgp {router.asn}{vrf}"] = _router(router, tags)
    return tree


def _sorted(router: Router) -> list[Neighbor]:
    return sorted(router.neighbors, key=lambda item: item.target)


def told(neighbor: Neighbor) -> Iterator[Route]:
    """The routes that the session can carry."""
    return (route for route in neighbor.routes if route.prefix.version in neighbor.families)


def _tags(router: Router) -> dict[Prefix, int]:
    """Prefix -> the tag that it has inside FRR.

    Prefixes that all neighbours are told of alike have one tag, and route-maps ask for tags: one
    more prefix is one more line, which prefix-lists would make a search through all of them.
    The number comes from what is told, so that another neighbour's or service's change moves none.
    """
    told_as: dict[Prefix, list[str]] = {}
    for neighbor in _sorted(router):
        for route in told(neighbor):
            words = " ".join((neighbor.target, *_actions(route)))
            told_as.setdefault(route.prefix, []).append(words)
    tags: dict[str, int] = {}
    texts = {prefix: "\n".join(words) for prefix, words in told_as.items()}
    for text_ in sorted(set(texts.values())):
        tag = zlib.crc32(text_.encode()) or 1
        while tag in tags.values():
            tag = tag % TAG_MAX + 1
        tags[text_] = tag
    return {prefix: tags[text_] for prefix, text_ in texts.items()}


def _policy(tree: Tree, name: str, neighbor: Neighbor, tags: Mapping[Prefix, int]) -> None:
    """The route-maps of one neighbour."""
    tree[f"route-map {name}-in deny 20"] = {}
    told_as = {tags[route.prefix]: tuple(_actions(route)) for route in told(neighbor)}
    for number, (tag, actions) in enumerate(sorted(told_as.items()), 1):
        lines = (f"match tag {tag}", *actions)
        tree[f"route-map {name}-out permit {number}"] = _leaves(lines)
    # So that the route-map exists; one that does not is nothing to rely on.
    tree[f"route-map {name}-out deny {CLOSING}"] = {}


def _actions(route: Route) -> Iterator[str]:
    """What a route-map does to a route."""
    if route.local_pref is not None:
        yield f"set local-preference {route.local_pref}"
    if route.communities:
        plain = (f"{value >> 16}:{value & 0xFFFF}" for value in sorted(route.communities))
        yield f"set community {' '.join(plain)} additive"
    if route.large_communities:
        large = (":".join(map(str, parts)) for parts in sorted(route.large_communities))
        yield f"set large-community {' '.join(large)} additive"
    for kind in sorted({kind for kind, _ in route.extended}):
        values = (value for own, value in sorted(route.extended) if own == kind)
        yield f"set extcommunity {kind} {' '.join(values)}"
    if route.bandwidth:
        yield f"set extcommunity bandwidth {min(route.bandwidth, BANDWIDTH_MAX)}"


def _router(router: Router, tags: Mapping[Prefix, int]) -> Tree:
    tree: Tree = {
        "no bgp ebgp-requires-policy": {},
        "no bgp default ipv4-unicast": {},
        "bgp graceful-restart preserve-fw-state": {},
        "no bgp network import-check": {},
    }
    if router.router_id:
        tree[f"bgp router-id {router.router_id}"] = {}
    neighbors = _sorted(router)
    for neighbor in neighbors:
        tree.update(_leaves(_session(neighbor)))
    for version, family in FAMILIES:
        inside: Tree = {}
        for neighbor in neighbors:
            if version in neighbor.families:
                name = identity(neighbor.target, router.vrf)
                # Policy before activation: nothing may slip through in between.
                inside[f"neighbor {neighbor.target} route-map {name}-in in"] = {}
                inside[f"neighbor {neighbor.target} route-map {name}-out out"] = {}
                if neighbor.prefixes:  # also those that the route-map refuses
                    limit = f"maximum-prefix {neighbor.prefixes} force"
                    inside[f"neighbor {neighbor.target} {limit}"] = {}
                inside[f"neighbor {neighbor.target} activate"] = {}
        for prefix in sorted(tags):
            if prefix.version == version:
                inside[f"network {prefix} route-map {TAGGING}{tags[prefix]}"] = {}
        if inside:
            tree[f"address-family {family} unicast"] = inside
    return tree


def _session(neighbor: Neighbor) -> Iterator[str]:
    """A neighbour outside of the address families, line by line as FRR is told."""
    timers = neighbor.timers
    said = (
        (True, f"remote-as {neighbor.remote_as}"),
        (neighbor.multihop, f"ebgp-multihop {MULTIHOP_TTL}"),
        (neighbor.local_as, f"local-as {neighbor.local_as} no-prepend replace-as"),
        (neighbor.hops, f"ttl-security hops {neighbor.hops}"),
        (neighbor.port, f"port {neighbor.port}"),
        (timers, f"timers {timers[0]} {timers[1]}" if timers else ""),
        (neighbor.connect is not None, f"timers connect {neighbor.connect}"),
        (neighbor.password, f"password {neighbor.password}"),
        (neighbor.source, f"update-source {neighbor.source}"),
        (neighbor.graceful_restart, "graceful-restart"),
        (neighbor.bfd, "bfd"),
        (neighbor.bfd, f"bfd profile {neighbor.bfd}"),
        (neighbor.nearby, "disable-connected-check"),
    )
    interface = "interface " if neighbor.interface else ""
    for number, (wanted, words) in enumerate(said):
        if wanted:
            yield f"neighbor {neighbor.target} {interface * (number == 0)}{words}"


def text(tree: Tree, depth: int = 0) -> str:
    """A tree as a file that `vtysh -f` takes."""
    lines = []
    for line, inside in tree.items():
        lines.append(f"{' ' * depth}{line}\n")
        if opens(line):
            lines.append(text(inside, depth + 1))
            lines.append(f"{' ' * depth}exit\n")
    return "".join(lines)


CONTEXTS = ("router bgp ", "route-map ", "address-family ", "profile ")


def opens(line: str) -> bool:
    """Whether other lines can be inside of this one."""
    return line == "bfd" or line.startswith(CONTEXTS)
