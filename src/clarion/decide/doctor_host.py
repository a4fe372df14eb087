"""Checks of one host: interfaces, kernel settings, ports, other programs, filters."""

from typing import Final

import msgspec

from clarion.decide.announcers import by_process
from clarion.decide.doctor import Check, Judgement, Unread, failed, ok, skipped, warning
from clarion.decide.registry import listed

IPVS_INTERFACE: Final = "kube-ipvs0"
IPV6_MTU_MIN: Final = 1280  # RFC 8200 §5


class NetInterface(msgspec.Struct, frozen=True, kw_only=True):
    """One interface of this host and its settings.

    Attributes:
        arp: What stands against answering ARP on it; empty: nothing.
        ndp: The same for neighbor discovery.
        master: Name of the bond or bridge that it belongs to; empty: none.
        bond_mode: As the kernel names it (`active-backup`); empty: it is no bond.
        arp_ignore: What is in force: the greater of the interface's own and that of all.
        arp_announce: The same.
        rp_filter: The same.
        accept_dad: Own setting for IPv6.
        disable_ipv6: Own setting; True where this kernel has no IPv6.
    """

    name: str
    arp: str = ""
    ndp: str = ""
    mtu: int = 1500
    master: str = ""
    wireless: bool = False
    bond_mode: str = ""
    arp_ignore: int = 0
    arp_announce: int = 0
    rp_filter: int = 0
    accept_dad: int = 1
    disable_ipv6: bool = False

    @property
    def announces(self) -> bool:
        """True if addresses can be announced on it, of one version at least."""
        return not self.arp or not self.ndp


class Listener(msgspec.Struct, frozen=True, order=True):
    """A port that is listened on, and by whom (name of the process) where that can be seen."""

    port: int
    protocol: str
    program: str = ""


class RunningProgram(msgspec.Struct, frozen=True, order=True):
    """A process that announces addresses or speaks BGP."""

    name: str
    pid: int


class HostFacts(msgspec.Struct, frozen=True, kw_only=True):
    """What was read of this host.

    Attributes:
        capabilities: Names of those in force in this very process.
        md5: Why the kernel signs no TCP segments; empty: it does.
        filters: Places in the packet filter that drop what announcing needs.
        vendor: Maker of the machine by its firmware; empty: not told.
    """

    name: str
    interfaces: tuple[NetInterface, ...] = ()
    listeners: tuple[Listener, ...] | Unread = ()
    programs: tuple[RunningProgram, ...] = ()
    capabilities: tuple[str, ...] = ()
    md5: str = ""
    filters: tuple[str, ...] | Unread = ()
    vendor: str = ""


def _usable(facts: HostFacts) -> list[NetInterface]:
    return [item for item in facts.interfaces if item.announces]


def _interfaces(facts: HostFacts) -> Judgement:
    arp = [item.name for item in facts.interfaces if not item.arp]
    ndp = [item.name for item in facts.interfaces if not item.ndp]
    against = {i.name: i.arp or i.ndp for i in facts.interfaces if not i.announces}
    told = {"arp": arp, "ndp": ndp, "against": against}
    if not arp and not ndp:
        return failed("no interface can announce", **told)
    return ok(f"ARP on {listed(arp) or 'none'}; NDP on {listed(ndp) or 'none'}", **told)


def _wireless(facts: HostFacts) -> Judgement:
    found = [item.name for item in _usable(facts) if item.wireless]
    if found:
        return warning(f"{listed(found)}: wireless", interfaces=found)
    return ok("no wireless interface announces")


def _bonds(facts: HostFacts) -> Judgement:
    bonds = {item.name: item.bond_mode for item in facts.interfaces if item.bond_mode}
    rewriting = [name for name, mode in bonds.items() if mode == "balance-alb"]
    if rewriting:
        return failed(f"{listed(rewriting)}: mode balance-alb", bonds=bonds)
    loose = [name for name, mode in bonds.items() if mode not in ("active-backup", "802.3ad")]
    if loose:
        modes = listed([f"{name} is {bonds[name]}" for name in loose])
        return warning(f"{modes}: the switch must know these ports as one", bonds=bonds)
    return ok(f"bonds: {listed(list(bonds)) or 'none'}", bonds=bonds)


def _mtu(facts: HostFacts) -> Judgement:
    sizes = {item.name: item.mtu for item in facts.interfaces}
    small = [i.name for i in _usable(facts) if i.mtu < IPV6_MTU_MIN and not i.disable_ipv6]
    if small:
        return failed(f"{listed(small)}: MTU below {IPV6_MTU_MIN}", mtu=sizes)
    uneven = [i.name for i in facts.interfaces if i.master and i.mtu != sizes.get(i.master, i.mtu)]
    if uneven:
        return warning(f"{listed(uneven)}: another MTU than the bond or bridge above", mtu=sizes)
    used = sorted({item.mtu for item in _usable(facts)})
    return ok(f"MTU {listed(used) or 'unknown'}", mtu=sizes)


def _strict_arp(facts: HostFacts) -> Judgement:
    if not any(item.name == IPVS_INTERFACE for item in facts.interfaces):
        return ok("the kernel holds no service addresses itself")
    loose = [i.name for i in _usable(facts) if i.arp_ignore < 1 or i.arp_announce < 2]
    if loose:
        says = f"{IPVS_INTERFACE} holds service addresses, and {listed(loose)} answer ARP for them"
        return failed(says, interfaces=loose)
    return ok(f"{IPVS_INTERFACE} is there, and arp_ignore and arp_announce keep the kernel silent")


def _reverse_path(facts: HostFacts) -> Judgement:
    usable = _usable(facts)
    strict = [item.name for item in usable if item.rp_filter == 1]
    if strict and len(usable) > 1:
        says = f"{listed(strict)}: strict, and there are {len(usable)} ways in"
        return warning(says, interfaces=strict)
    return ok("not strict" if not strict else "strict, with one way in", interfaces=strict)


def _ipv6(facts: HostFacts) -> Judgement:
    if not facts.interfaces or all(item.disable_ipv6 for item in facts.interfaces):
        return warning("IPv6 is switched off on this host")
    usable = [item for item in facts.interfaces if not item.arp]
    without = [item.name for item in usable if item.ndp]
    risky = [item.name for item in usable if not item.ndp and item.accept_dad == 2]
    if without:
        return warning(f"{listed(without)}: ARP only, no link-local address", interfaces=without)
    if risky:
        says = f"{listed(risky)}: accept_dad 2, one duplicate switches IPv6 off"
        return warning(says, interfaces=risky)
    return ok("spoken wherever ARP is")


_PORTS: Final = {
    (179, "tcp"): "BGP: peers that are waited for cannot connect to the speaker",
    (7472, "tcp"): "the speaker's health and metrics",
    (7473, "tcp"): "the controller's health and metrics",
    (7946, "tcp"): "membership of MetalLB's speakers: one runs here",
    (7946, "udp"): "membership of MetalLB's speakers: one runs here",
}


def _ports(facts: HostFacts) -> Judgement:
    if isinstance(facts.listeners, Unread):
        return facts.listeners.skipped
    found = [item for item in facts.listeners if (item.port, item.protocol) in _PORTS]
    others = [item for item in found if item.program != "clarion"]
    told = [msgspec.to_builtins(item) for item in found]
    if not others:
        held = listed([item.port for item in found])
        return ok(f"clarion listens on {held}" if held else "free", listeners=told)
    texts = [
        f"{item.port}/{item.protocol} is {item.program or 'somebody'}'s"
        f" ({_PORTS[item.port, item.protocol]})"
        for item in others
    ]
    return warning("; ".join(texts), listeners=told)


def _programs(facts: HostFacts) -> Judgement:
    rivals: list[str] = []
    others: list[str] = []
    for item in facts.programs:
        row = by_process(item.name)
        if row:
            (rivals if row.rival else others).append(f"{row.name} (pid {item.pid}): {row.remedy}")
    told = [msgspec.to_builtins(item) for item in facts.programs]
    if rivals:
        return failed("; ".join(rivals + others), programs=told)
    if others:
        return warning("; ".join(others), programs=told)
    return ok("none runs here")


def _capabilities(facts: HostFacts) -> Judgement:
    told = {"effective": list(facts.capabilities)}
    wanted = {"NET_RAW": "ARP and NDP", "NET_BIND_SERVICE": "port 179 for peers that are awaited"}
    lacking = [f"{name} ({use})" for name, use in wanted.items() if name not in facts.capabilities]
    if lacking:
        return warning(f"this process lacks {listed(lacking)}", **told)
    return ok("NET_RAW and NET_BIND_SERVICE", **told)


def _md5(facts: HostFacts) -> Judgement:
    if facts.md5:
        return warning(f"the kernel does not sign: {facts.md5}")
    return ok("the kernel signs TCP segments")


def _filters(facts: HostFacts) -> Judgement:
    if isinstance(facts.filters, Unread):
        return facts.filters.skipped
    if facts.filters:
        return warning("; ".join(facts.filters), places=list(facts.filters))
    return ok("nothing drops ARP and neighbor discovery below the sockets, or BGP")


_GUARDED: Final = {
    "Amazon EC2": "forwards by its own tables: neither ARP nor unknown addresses pass",
    "Google": "forwards by its own tables: neither ARP nor unknown addresses pass",
    "Microsoft Corporation": "Hyper-V drops foreign addresses unless MAC spoofing is allowed",
    "OpenStack Foundation": "port security drops foreign addresses: allow address pairs",
    "VMware, Inc.": "the port group must allow forged transmits",
}


def _hypervisor(facts: HostFacts) -> Judgement:
    if not facts.vendor:
        return skipped("the firmware does not tell the maker of this machine")
    for name, says in _GUARDED.items():
        if name in facts.vendor:
            return warning(f"{facts.vendor} {says}", vendor=facts.vendor)
    return ok(facts.vendor, vendor=facts.vendor)


HOST_CHECKS: Final[tuple[Check[HostFacts], ...]] = (
    Check(
        "interfaces",
        "host",
        "interfaces that can announce",
        "without one, layer 2 is silent on this node",
        "`ip link set IF up`; see `--l2-exclude-interface` and members of bonds and bridges",
        _interfaces,
    ),
    Check(
        "wireless",
        "host",
        "wireless interfaces among them",
        "access points and cards drop ARP for addresses that are not the station's own",
        "announce on a wire (`interfaces` of the L2Advertisement), or switch promiscuous mode on",
        _wireless,
    ),
    Check(
        "bond-mode",
        "host",
        "modes of bonds",
        "balance-alb rewrites ARP answers; other modes need a switch that knows of them",
        "use active-backup or 802.3ad",
        _bonds,
    ),
    Check(
        "mtu",
        "host",
        "MTU of interfaces",
        "large packets vanish where MTUs differ; below 1280 octets there is no IPv6",
        "one MTU for the whole segment",
        _mtu,
    ),
    Check(
        "strict-arp",
        "host",
        "arp_ignore and arp_announce beside kube-ipvs0",
        "each kernel answers ARP for every service address: traffic goes to any node",
        "kube-proxy: `ipvs.strictARP: true`",
        _strict_arp,
    ),
    Check(
        "rp-filter",
        "host",
        "reverse-path filters",
        "with several ways in, packets whose way back is another are dropped",
        "`sysctl net.ipv4.conf.all.rp_filter=2`",
        _reverse_path,
    ),
    Check(
        "ipv6",
        "host",
        "IPv6 and its address detection",
        "without a link-local address nobody answers for IPv6 addresses",
        "`sysctl net.ipv6.conf.IF.disable_ipv6=0`, `accept_dad=1`",
        _ipv6,
    ),
    Check(
        "ports",
        "host",
        "listeners on 179, 7472, 7473 and 7946",
        "the speaker cannot listen where another does; 7946 shows a speaker of MetalLB",
        "stop the other program, or move ours: `--listen-http`, `--bgp-port`",
        _ports,
    ),
    Check(
        "programs",
        "host",
        "processes that announce addresses or speak BGP",
        "two announcers answer one client twice, two speakers of BGP share one session",
        "stop the other one, or keep their addresses and peers apart",
        _programs,
    ),
    Check(
        "capabilities",
        "host",
        "capabilities of this process",
        "without NET_RAW no ARP, no NDP and no look at the wire",
        "run as root, or as the speaker runs: `add: [NET_RAW, NET_BIND_SERVICE]`",
        _capabilities,
    ),
    Check(
        "tcp-md5",
        "host",
        "TCP MD5 signatures of the kernel",
        "BGP peers with a password stay down",
        "a kernel with CONFIG_TCP_MD5SIG",
        _md5,
    ),
    Check(
        "packet-filter",
        "host",
        "nftables: drops of ARP and neighbor discovery before the speaker hears them, and of BGP",
        "what is dropped is never answered",
        "accept ARP and ICMPv6 types 135 and 136 in netdev and bridge tables, and TCP port 179",
        _filters,
    ),
    Check(
        "hypervisor",
        "host",
        "who made this machine",
        "clouds and hypervisors drop frames for addresses that they did not give out",
        "allow the addresses there, or announce by BGP to a router of theirs",
        _hypervisor,
    ),
)
