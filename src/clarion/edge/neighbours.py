"""Asks a segment who has an address, and listens to everybody who answers.

The questions teach nobody anything: ARP probes with an empty sender (RFC 5227 §2.1.1), and Neighbor
Solicitations from the interface's own link-local address (RFC 4861 §7.2.2).
"""

import asyncio
import contextlib
from collections.abc import Iterable, Sequence
from typing import Final

from clarion.base import limits
from clarion.base.addr import Address
from clarion.edge.packet import PacketSocket
from clarion.proto.l2 import arp, ndp
from clarion.proto.l2.ethernet import BROADCAST, UNKNOWN, EtherType, FrameError, multicast_mac
from clarion.proto.l2.interfaces import Interface

NOBODY: Final = Address(4, 0)

Heard = dict[tuple[Address, str], set[bytes]]
"""Address and interface -> hardware addresses that claim it."""


def question(address: Address, interface: Interface) -> bytes:
    """The frame that asks for an address on an interface."""
    if address.version == 4:
        return arp.encode(
            arp.ArpPacket(
                destination=BROADCAST,
                source=interface.mac,
                operation=arp.Operation.REQUEST,
                sender_mac=interface.mac,
                sender=NOBODY,  # RFC 5227 §2.1.1: MUST be zero, so that no cache is changed
                target_mac=UNKNOWN,
                target=address,
            )
        )
    group = ndp.solicited_node(address)
    source = interface.link_local or ndp.UNSPECIFIED
    return ndp.encode_solicitation(
        ndp.Solicitation(
            destination_mac=multicast_mac(group),
            source_mac=interface.mac,
            source=source,
            destination=group,
            target=address,
            # RFC 4861 §4.3: MUST NOT be included when the source is the unspecified address
            source_link_layer=None if source == ndp.UNSPECIFIED else interface.mac,
        )
    )


def claim(frame: bytes, version: int) -> tuple[Address, bytes] | None:
    """The address that a frame claims, and for which hardware address; None: it claims none."""
    try:
        if version == 4:
            packet = arp.decode(frame)
            return packet.sender, packet.sender_mac
        told = ndp.decode_advertisement(frame)
    except FrameError:
        return None
    # RFC 4861 §7.2.4: the option may be left out of an answer to a unicast; the frame tells it too.
    return told.target, told.target_link_layer or _source(frame)


def _source(frame: bytes) -> bytes:
    return frame[6:12]


class _Ear:
    """One socket, and what it heard."""

    def __init__(self, interface: Interface, version: int, heard: Heard) -> None:
        self.interface = interface
        self.version = version
        kind = EtherType.ARP if version == 4 else EtherType.IPV6
        self._socket = PacketSocket(interface.index, kind, answers=True)
        self._heard = heard
        asyncio.get_running_loop().add_reader(self._socket.fileno(), self._hear)

    def _hear(self) -> None:
        with contextlib.suppress(OSError):  # the interface went down; it may come back
            for _ in range(limits.L2_RECEIVE_BATCH_FRAMES):
                frame = self._socket.receive()
                if frame is None:
                    return
                found = claim(frame, self.version)
                if found and found[1] != self.interface.mac:
                    known = self._heard.get((found[0], self.interface.name))
                    if known is not None and len(known) < limits.DOCTOR_STATIONS:
                        known.add(found[1])

    def ask(self, address: Address) -> None:
        """Ask once; a full queue loses the question as a switch would."""
        self._heard.setdefault((address, self.interface.name), set())
        with contextlib.suppress(OSError):
            self._socket.send(question(address, self.interface))

    def close(self) -> None:
        asyncio.get_running_loop().remove_reader(self._socket.fileno())
        self._socket.close()


async def ask(interfaces: Sequence[Interface], addresses: Iterable[Address]) -> Heard:
    """Ask for each address on each interface, twice, and wait for answers.

    Raises:
        OSError: this process may not open packet sockets.
    """
    heard: Heard = {}
    wanted = list(addresses)
    versions = sorted({address.version for address in wanted})
    ears: list[_Ear] = []
    try:
        for interface in interfaces:
            ears += [_Ear(interface, version, heard) for version in versions]
        for _ in range(limits.DOCTOR_QUESTIONS):
            for address in wanted:
                for ear in ears:
                    if ear.version == address.version:
                        ear.ask(address)
                await asyncio.sleep(1 / limits.DOCTOR_QUESTIONS_PER_SECOND)
            await asyncio.sleep(limits.DOCTOR_ANSWER_SECONDS)
    finally:
        for ear in ears:
            ear.close()
    return {place: stations for place, stations in heard.items() if stations}
