"""Facts of this host for `clarion doctor`: read from /proc, /sys, netlink and nft; nothing written.

What belongs to another network namespace (containers) is left out: it neither takes this host's
ports nor answers on its wires.
"""

import asyncio
import contextlib
import os
import shutil
import socket
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Final

import msgspec

from clarion.base import limits
from clarion.base.addr import Address
from clarion.decide.announcers import by_process
from clarion.decide.doctor import Unread
from clarion.decide.doctor_filters import obstacles
from clarion.decide.doctor_host import HostFacts, Listener, NetInterface, RunningProgram
from clarion.edge.netlink import LinkMonitor
from clarion.edge.tcp import set_md5_key
from clarion.proto.l2.interfaces import Exclusions, Interface, fitness

PORTS: Final = frozenset((179, 7472, 7473, 7946))
"""Those that matter here."""

# include/uapi/linux/capability.h
_CAPABILITIES: Final = {10: "NET_BIND_SERVICE", 12: "NET_ADMIN", 13: "NET_RAW"}
# net/tcp_states.h: listening; an unconnected UDP socket is shown as TCP_CLOSE.
_WAITING: Final = {"tcp": "0A", "udp": "07"}
_DOCUMENTATION: Final = Address.from_packed(socket.inet_aton("192.0.2.1"))
_LINK_SECONDS: Final = 5.0


async def read_interfaces() -> tuple[Interface, ...]:
    """The interfaces of this network namespace, as the kernel tells of them now.

    Raises:
        TimeoutError: the kernel does not answer.
    """
    told: asyncio.Future[tuple[Interface, ...]] = asyncio.get_running_loop().create_future()

    def take(interfaces: tuple[Interface, ...]) -> None:
        if not told.done():
            told.set_result(interfaces)

    task = asyncio.create_task(LinkMonitor(take, lambda _: None).run())
    try:
        async with asyncio.timeout(_LINK_SECONDS):
            return await told
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task


async def read_host(interfaces: Iterable[Interface], exclusions: Exclusions) -> HostFacts:
    """Everything about this host."""
    seen = list(interfaces)
    names = {item.index: item.name for item in seen}
    processes = list(_processes())
    return HostFacts(
        name=socket.gethostname(),
        interfaces=tuple(_interface(item, names, exclusions) for item in seen if not item.loopback),
        listeners=_listeners(processes),
        programs=tuple(
            RunningProgram(_name(path), int(path.name))
            for path in processes
            if by_process(_name(path))
        ),
        capabilities=_capabilities(),
        md5=_md5(),
        filters=await _filters(),
        vendor=_text(Path("/sys/class/dmi/id/sys_vendor")),
    )


def _text(path: Path) -> str:
    """What a file says; empty if it is not there or not for us."""
    try:
        return path.read_text(errors="replace").strip()
    except OSError:
        return ""


def _number(path: Path, default: int) -> int:
    text = _text(path)
    return int(text) if text.lstrip("-").isdigit() else default


def _interface(item: Interface, names: dict[int, str], exclusions: Exclusions) -> NetInterface:
    ipv4, ipv6 = Path("/proc/sys/net/ipv4/conf"), Path("/proc/sys/net/ipv6/conf")
    device = Path("/sys/class/net") / item.name
    found = fitness(item, exclusions)

    def in_force(setting: str) -> int:
        """The kernel takes the greater one (Documentation/networking/ip-sysctl)."""
        return max(_number(ipv4 / name / setting, 0) for name in ("all", item.name))

    return NetInterface(
        name=item.name,
        arp=str(found.arp or ""),
        ndp=str(found.ndp or ""),
        mtu=_number(device / "mtu", 1500),
        master=names.get(item.master, ""),
        wireless=any((device / name).exists() for name in ("wireless", "phy80211")),
        bond_mode=_text(device / "bonding" / "mode").partition(" ")[0],
        arp_ignore=in_force("arp_ignore"),
        arp_announce=in_force("arp_announce"),
        rp_filter=in_force("rp_filter"),
        accept_dad=_number(ipv6 / item.name / "accept_dad", 1),
        disable_ipv6=_number(ipv6 / item.name / "disable_ipv6", 1) != 0,
    )


# Processes and ports.


def _processes() -> Iterator[Path]:
    """Processes in our network namespace; whose namespace is not for us to see is counted in."""
    here = os.readlink("/proc/self/ns/net")
    for path in Path("/proc").iterdir():
        if path.name.isdigit():
            try:
                there = os.readlink(path / "ns" / "net")
            except OSError:
                there = here
            if there == here:
                yield path


def _name(process: Path) -> str:
    """The name of a process; `clarion` for any of ours, which run under an interpreter."""
    first, *rest = _text(process / "cmdline").split("\0")
    # `python .../bin/clarion speaker`, `python -m clarion.daemons.pulse`
    ours = (Path(word).name == "clarion" or word.startswith("clarion.") for word in rest[:2])
    if Path(first).name.startswith("python") and any(ours):
        return "clarion"
    return _text(process / "comm")


def _listeners(processes: Iterable[Path]) -> tuple[Listener, ...] | Unread:
    """Who listens on the ports that matter."""
    waiting: dict[str, tuple[int, str]] = {}
    for protocol, state in _WAITING.items():
        for table in (protocol, f"{protocol}6"):
            for line in _text(Path("/proc/self/net") / table).splitlines()[1:]:
                words = line.split()
                port = int(words[1].rpartition(":")[2], 16)
                if words[3] == state and port in PORTS:
                    waiting[f"socket:[{words[9]}]"] = port, protocol
    if not Path("/proc/self/net/tcp").exists():
        return Unread("the kernel tells of no sockets")
    names = dict(_holders(waiting, processes)) if waiting else {}
    found = {Listener(*place, names.get(sock, "")) for sock, place in waiting.items()}
    return tuple(sorted(found))


def _holders(wanted: Iterable[str], processes: Iterable[Path]) -> Iterator[tuple[str, str]]:
    """Socket -> name of the process that has it open, of the processes that we may look into."""
    sought = set(wanted)
    for process in processes:
        with contextlib.suppress(OSError):
            for descriptor in (process / "fd").iterdir():
                with contextlib.suppress(OSError):
                    target = os.readlink(descriptor)
                    if target in sought:
                        yield target, _name(process)


# The kernel.


def _capabilities() -> tuple[str, ...]:
    """Capabilities in force in this process."""
    for line in _text(Path("/proc/self/status")).splitlines():
        if line.startswith("CapEff:"):
            bits = int(line.split()[1], 16)
            return tuple(name for bit, name in _CAPABILITIES.items() if bits >> bit & 1)
    return ()


def _md5() -> str:
    """Why TCP segments cannot be signed; empty if they can."""
    with socket.socket() as sock:
        try:
            set_md5_key(sock, _DOCUMENTATION, "doctor")
        except OSError as error:
            return error.strerror or str(error)
    return ""


async def _filters() -> tuple[str, ...] | Unread:
    """What the packet filter drops that matters, by nft's own account of its rules."""
    program = shutil.which("nft", path=f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin")
    if program is None:
        return Unread("no nft on this host to tell the rules of the packet filter")
    process = await asyncio.create_subprocess_exec(
        program,
        *("-j", "list", "ruleset"),
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        async with asyncio.timeout(limits.DOCTOR_FILTER_SECONDS):
            out, err = await process.communicate()
    except TimeoutError:
        process.kill()
        await process.wait()
        return Unread(f"nft did not end within {limits.DOCTOR_FILTER_SECONDS:g} s")
    if process.returncode:
        said = err.decode(errors="replace").strip().splitlines()
        return Unread(f"nft: {said[-1] if said else process.returncode}")
    try:
        return obstacles(msgspec.json.decode(out))
    except msgspec.DecodeError as error:
        return Unread(f"nft printed no JSON: {error}")
