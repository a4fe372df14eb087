"""Five BGP speakers that announce the same prefixes: how each is configured and started."""

import struct
import sys
from collections.abc import Callable, Sequence
from ipaddress import IPv4Address
from pathlib import Path
from typing import Final

import msgspec

from clarion.lab.netns import Namespace
from clarion.lab.process import Process, run, wait_until
from clarion.lab.routers import Frr, Neighbor, RouterConfig

OUR_ASN, THEIR_ASN = 64513, 64512
OURS = "192.0.2.9"
FIRST: Final = int(IPv4Address("198.18.0.0"))
"""Addresses for benchmarks (RFC 2544 appendix C), 131,072 of them."""
COMMUNITY: Final = (64513, 7)
NLRI_PER_LINE: Final = 1000
"""Prefixes in one command to ExaBGP."""

MRT_PADDING: Final = 5000
"""Times that the last route is repeated in a dump for GoBGP."""


class Task(msgspec.Struct, frozen=True):
    """What a speaker is to do: tell these receivers about so many host routes."""

    host: Namespace
    receivers: tuple[str, ...]
    prefixes: int

    @property
    def addresses(self) -> list[str]:
        """The host routes, without their length."""
        return [str(IPv4Address(FIRST + number)) for number in range(self.prefixes)]

    def file(self, name: str, text: str | bytes) -> Path:
        """Write a file into the lab's folder."""
        path = self.host.lab.run_dir / name
        path.write_bytes(text.encode() if isinstance(text, str) else text)
        path.chmod(0o644)
        return path


Start = Callable[[Task], Process]
"""Starts a speaker; returns the process whose processor time counts."""


def clarion(task: Task) -> Process:
    """Clarion's sessions and sockets alone (`bgpannounce`)."""
    argv = [sys.executable, "-m", "clarion.testing.bgpannounce"]
    return task.host.popen([*argv, str(task.prefixes), *task.receivers], log="clarion.log")


def bird(task: Task) -> Process:
    """BIRD 2: static routes and one protocol for each receiver."""
    community = f"bgp_community.add(({COMMUNITY[0]}, {COMMUNITY[1]}));"
    lines = [f"router id {OURS};", "protocol device { }", "protocol static s4 { ipv4;"]
    lines += [f"route {address}/32 blackhole;" for address in task.addresses]
    lines += ["}"]
    lines += [f"filter tagged {{ if source != RTS_STATIC then reject; {community} accept; }}"]
    for number, receiver in enumerate(task.receivers):
        lines += [
            f"protocol bgp p{number} {{ local {OURS} as {OUR_ASN};",
            f"neighbor {receiver} as {THEIR_ASN}; connect delay time 1; connect retry time 1;",
            "ipv4 { import all; export filter tagged; }; }",
        ]
    path = task.file("bird.conf", "\n".join(lines))
    folder = task.host.lab.run_dir
    argv = ["bird", "-f", "-c", str(path), "-s", str(folder / "bird.ctl")]
    return task.host.popen([*argv, "-P", str(folder / "bird.pid")], log="bird.log")


def frr(task: Task) -> Process:
    """FRR: bgpd takes the kernel's routes from zebra; bgpd alone counts."""
    batch = "".join(f"route add blackhole {address}/32\n" for address in task.addresses)
    run(["ip", "-n", task.host.full_name, "-batch", "-"], stdin=batch)
    neighbors = tuple(
        Neighbor(address=receiver, remote_as=THEIR_ASN, hold_time=240, keepalive=60)
        for receiver in task.receivers
    )
    router = Frr(task.host, RouterConfig(asn=OUR_ASN, router_id=OURS, neighbors=neighbors))
    router.start()
    router.vtysh(
        "configure terminal",
        "route-map tag permit 10",
        f"set community {COMMUNITY[0]}:{COMMUNITY[1]}",
        f"router bgp {OUR_ASN}",
        "address-family ipv4 unicast",
        "redistribute kernel route-map tag",
    )
    return router.daemons[-1]


def exabgp(task: Task) -> Process:
    """ExaBGP 4: a helper writes the routes as commands, many prefixes in each."""
    addresses = task.addresses
    lines = [
        f"announce attributes next-hop self community [{COMMUNITY[0]}:{COMMUNITY[1]}] nlri "
        + " ".join(f"{address}/32" for address in addresses[start : start + NLRI_PER_LINE])
        for start in range(0, len(addresses), NLRI_PER_LINE)
    ]
    commands = task.file("exabgp.commands", "\n".join(lines) + "\n")
    helper = task.file("exabgp.sh", f"#!/bin/sh\ncat {commands}\nexec sleep 3600\n")
    helper.chmod(0o755)
    config = [f"process routes {{ run {helper}; encoder text; }}"]
    config += [
        f"neighbor {receiver} {{ router-id {OURS}; local-address {OURS}; local-as {OUR_ASN};"
        f" peer-as {THEIR_ASN}; hold-time 240; family {{ ipv4 unicast; }}"
        " api { processes [ routes ]; } }"
        for receiver in task.receivers
    ]
    path = task.file("exabgp.conf", "\n".join(config))
    env = {"exabgp.daemon.user": "root", "exabgp.api.cli": "false", "exabgp.api.ack": "false"}
    env |= {"exabgp.log.level": "ERR", "exabgp.tcp.bind": ""}
    return task.host.popen(["exabgp", str(path)], log="exabgp.log", env=env)


def gobgp(task: Task) -> Process:
    """GoBGP 3: the routes come as a dump in MRT format (RFC 6396), and then the neighbours.

    With neighbours that are up already it would send an UPDATE for each of the few routes that its
    client has brought since the one before.
    """
    lines = ["[global.config]", f"as = {OUR_ASN}", f'router-id = "{OURS}"']
    path = task.file("gobgpd.toml", "\n".join(lines))
    argv = ["gobgpd", "-f", str(path), "--api-hosts", "127.0.0.1:50051", "--pprof-disable"]
    process = task.host.popen(argv, log="gobgpd.log")

    def answers() -> bool:
        return task.host.run(["gobgp", "global"], check=False).returncode == 0

    wait_until(answers, 15, "gobgpd answers", interval=0.05)
    # The client ends before the server has read all, so the end of the dump is lost: make it long.
    addresses = task.addresses
    dump = task.file("routes.mrt", mrt_dump(addresses + addresses[-1:] * MRT_PADDING))
    task.host.run(["gobgp", "mrt", "inject", "global", str(dump)], timeout=300)
    for receiver in task.receivers:
        task.host.run(["gobgp", "neighbor", "add", receiver, "as", str(THEIR_ASN)])
    return process


def mrt_dump(addresses: Sequence[str]) -> bytes:
    """A TABLE_DUMP_V2 of host routes from one peer (RFC 6396 §4.3)."""
    us = IPv4Address(OURS).packed
    attributes = bytes.fromhex("40010100 400200 400304") + us
    attributes += bytes.fromhex("c00804") + struct.pack(">HH", *COMMUNITY)
    index = us + struct.pack(">HH", 0, 1) + b"\x02" + us + us + struct.pack(">I", OUR_ASN)
    records = [struct.pack(">IHHI", 0, 13, 1, len(index)) + index]
    entry = struct.pack(">HHIH", 1, 0, 0, len(attributes)) + attributes
    for number, address in enumerate(addresses):
        body = struct.pack(">IB", number, 32) + IPv4Address(address).packed + entry
        records.append(struct.pack(">IHHI", 0, 13, 2, len(body)) + body)
    return b"".join(records)


SPEAKERS: Final[dict[str, Start]] = {
    "Clarion": clarion,
    "BIRD": bird,
    "FRR": frr,
    "GoBGP": gobgp,
    "ExaBGP": exabgp,
}
