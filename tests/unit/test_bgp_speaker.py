"""The speaker on real sockets, over loopback: listeners, slow and hostile peers, clean ends."""

import asyncio
import socket
import zlib
from collections.abc import Callable

import msgspec
import pytest

from clarion.base.addr import Address, Prefix, parse_address, parse_prefix
from clarion.base.errors import InvalidInputError
from clarion.edge import tcp
from clarion.edge.bgp import BgpSpeaker
from clarion.edge.bgp_host import default_router_id
from clarion.edge.clock import SystemClock, SystemEntropy
from clarion.edge.ifaddrs import InterfaceAddress, companions, interface_addresses
from clarion.proto.bgp.config import ChangeEffect, PeerConfig, SessionStatus, State
from clarion.proto.bgp.iana import MessageType
from clarion.proto.bgp.open import Capabilities, decode_open, encode_open, make_open
from clarion.proto.bgp.routes import Route
from clarion.proto.bgp.wire import KEEPALIVE, Frame, Framer

LOOPBACK = parse_address("127.0.0.1")
OTHER = parse_address("127.0.0.2")


def speaker(port: int | None = None, name: str = "node") -> BgpSpeaker:
    return BgpSpeaker(node_name=name, clock=SystemClock(), entropy=SystemEntropy(), port=port)


def peer(name: str, port: int, address: Address = LOOPBACK, **fields: object) -> PeerConfig:
    config = PeerConfig(
        name=name, local_asn=64512, peer_asn=64513, peer_address=address, peer_port=port
    )
    return msgspec.structs.replace(config, **fields)


async def until(_what: str, probe: Callable[[], bool]) -> None:
    async with asyncio.timeout(10):
        while not probe():  # noqa: ASYNC110 - the speaker tells of states only, not of counts
            await asyncio.sleep(0.01)


class Peer:
    """A BGP peer made of a plain socket, as quick or as rude as a test wants."""

    def __init__(self) -> None:
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.listener.setblocking(False)
        self.port: int = self.listener.getsockname()[1]
        self.framer = Framer()
        self.sock: socket.socket | None = None

    async def accept(self) -> None:
        loop = asyncio.get_running_loop()
        if self.sock is not None:
            self.sock.close()
        self.framer = Framer()
        self.sock, _ = await loop.sock_accept(self.listener)
        self.sock.setblocking(False)

    async def read(self) -> Frame | None:
        """The next message; None at the end."""
        assert self.sock is not None
        while (frame := self.framer.next_frame()) is None:
            data = await asyncio.get_running_loop().sock_recv(self.sock, 1 << 16)
            if not data:
                return None
            self.framer.feed(data)
        return frame

    async def write(self, data: bytes) -> None:
        assert self.sock is not None
        await asyncio.get_running_loop().sock_sendall(self.sock, data)

    async def establish(self) -> None:
        await self.accept()
        opening = await self.read()
        assert opening is not None
        assert decode_open(opening.body).true_asn == 64512
        capabilities = decode_open(opening.body).capabilities
        offer = Capabilities(families=capabilities.families)
        await self.write(encode_open(make_open(64513, 90, OTHER, offer)) + KEEPALIVE)

    def close(self) -> None:
        self.listener.close()
        if self.sock is not None:
            self.sock.close()


def routes(count: int, community: int = 0) -> list[Route]:
    base = parse_address("198.18.0.0").value
    return [Route(Prefix(4, base + n, 32), communities=(community,)) for n in range(count)]


def only(running: BgpSpeaker, name: str = "a") -> SessionStatus:
    return running.status()[name]


def test_two_speakers_meet_by_listener_and_dialler_and_part_with_words() -> None:
    async def scene() -> None:
        free = socket.create_server(("127.0.0.1", 0))
        port = free.getsockname()[1]
        free.close()
        left, right = speaker(port=port, name="left"), speaker(name="right")
        listener = left.listener_status()
        assert listener is not None
        assert 4 in listener.versions
        left.set_peers({"a": peer("a", 179, local_asn=64513, peer_asn=64512, passive=True)})
        right.set_peers({"a": peer("a", port, router_id=OTHER)})
        right.set_routes("a", routes(3))
        await until("established", lambda: only(left).prefixes_received == 3)
        assert only(right).state is State.ESTABLISHED
        assert only(right).remote_port == port
        await right.stop("good night")
        await until("told", lambda: "good night" in only(left).last_error)
        assert right.status() == {}
        await left.stop()

    asyncio.run(scene())


def test_a_peer_that_reads_nothing_costs_a_bound_and_delays_nobody() -> None:
    async def scene() -> None:
        stalled, quick = Peer(), Peer()
        stalled.listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        running = speaker()
        running.set_peers({"a": peer("a", stalled.port), "b": peer("b", quick.port)})
        await asyncio.gather(stalled.establish(), quick.establish())
        seen = 0
        for generation in range(1, 11):
            running.set_routes("a", routes(20_000, generation))
            running.set_routes("b", routes(100, generation))
            while True:  # every generation arrives at the quick one, whatever the other does
                frame = await quick.read()
                assert frame is not None
                if frame.type is MessageType.UPDATE and b"\xc0\x08\x04" in frame.body:
                    break
            seen += 1
        assert seen == 10
        status = running.status()
        # 10 generations are 250 UPDATEs; what the kernel did not take is state, not bytes.
        assert status["a"].sent.updates < 60
        assert status["a"].prefixes_pending > 0
        assert status["a"].prefixes_pending + status["a"].prefixes_announced <= 40_000
        assert status["b"].prefixes_pending == 0
        stalled.close()
        quick.close()
        await running.stop()

    asyncio.run(scene())


def test_a_rude_peer_gets_a_notification_and_the_connection_closes() -> None:
    async def scene() -> None:
        rude = Peer()
        running = speaker()
        running.set_peers({"a": peer("a", rude.port)})
        await rude.accept()
        await rude.write(b"SSH-2.0-OpenSSH_9.2p1 Debian-2\r\n")
        kinds = []
        while (frame := await rude.read()) is not None:
            kinds.append((frame.type, frame.body[:2]))
        assert kinds == [
            (MessageType.OPEN, kinds[0][1]),
            (MessageType.NOTIFICATION, b"\x01\x01"),
        ]
        assert only(running).last_error == "the marker of a message is not all ones"
        rude.close()
        await running.stop()

    asyncio.run(scene())


def test_strangers_are_turned_away() -> None:
    async def scene() -> None:
        free = socket.create_server(("127.0.0.1", 0))
        port = free.getsockname()[1]
        free.close()
        running = speaker(port=port)
        running.set_peers({"a": peer("a", 1, parse_address("127.0.0.9"), passive=True)})
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        assert await reader.read() == b""
        writer.close()
        await writer.wait_closed()
        await running.stop()

    asyncio.run(scene())


def test_what_cannot_be_dialled_is_explained() -> None:
    async def scene() -> None:
        free = socket.create_server(("127.0.0.1", 0))
        port = free.getsockname()[1]
        free.close()
        running = speaker()
        running.set_peers(
            {
                "a": peer("a", port),
                "b": peer("b", port, source_address=parse_address("192.0.2.1")),
                "c": peer("c", port, password="x" * 81),
                "d": peer("d", port, interface="nosuchdev0"),
            }
        )
        await until("all tried", lambda: all(each.last_error for each in running.status().values()))
        said = {name: each.last_error for name, each in running.status().items()}
        where = f"cannot connect to 127.0.0.1 port {port}"
        assert said == {
            "a": f"{where}: Connection refused",
            "b": f"{where} from 192.0.2.1: Cannot assign requested address",
            "c": f"{where}: a TCP MD5 password has at most 80 octets",
            "d": f"{where} on nosuchdev0: {said['d'].rpartition(': ')[2]}",
        }
        await running.stop()

    asyncio.run(scene())


def test_a_reset_keeps_the_routes_and_an_unchanged_peer_its_connection() -> None:
    async def scene() -> None:
        first, second = Peer(), Peer()
        running = speaker()
        peers = {"a": peer("a", first.port), "b": peer("b", second.port)}
        running.set_peers(peers)
        await asyncio.gather(first.establish(), second.establish())
        running.set_routes("a", routes(2))
        running.change_routes("a", {parse_prefix("198.18.0.0/32"): None})
        await until("sent", lambda: only(running).prefixes_announced == 1)
        changed = msgspec.structs.replace(peers["a"], router_id=OTHER)
        effects = running.set_peers({"a": changed, "b": peers["b"]})
        assert effects == {"a": ChangeEffect.RESET, "b": ChangeEffect.NONE}
        await first.establish()
        await until("sent again", lambda: only(running).prefixes_announced == 1)
        assert running.status()["b"].established_count == 1
        running.set_peers({"b": peers["b"]})
        assert set(running.status()) == {"b"}
        with pytest.raises(KeyError):
            running.set_routes("a", [])
        first.close()
        second.close()
        await running.stop()

    asyncio.run(scene())


def test_a_taken_port_is_told_and_taken_over_when_free() -> None:
    async def scene() -> None:
        holder = socket.create_server(("0.0.0.0", 0))
        running = speaker(port=holder.getsockname()[1])
        status = running.listener_status()
        assert status is not None
        assert status.errors == (f"IPv4 port {status.port}: Address already in use",)
        holder.close()
        await running.stop()

    asyncio.run(scene())


def test_the_identifier_of_last_resort() -> None:
    """As MetalLB: CRC-32 of the name, little end first; never the zero that RFC 6286 forbids."""
    digest = zlib.crc32(b"node")
    assert default_router_id("node").packed == digest.to_bytes(4, "little")
    assert str(default_router_id("")) == "0.0.0.1"


def test_companions_of_an_address() -> None:
    a4, b4 = parse_address("192.0.2.1"), parse_address("198.51.100.1")
    a6, b6, near = (parse_address(t) for t in ("2001:db8::1", "2001:db8:1::1", "fe80::1"))
    known = [
        InterfaceAddress(2, a4, usable=True),
        InterfaceAddress(3, b4, usable=True),
        InterfaceAddress(2, near, usable=False),
        InterfaceAddress(2, a6, usable=True),
        InterfaceAddress(2, b6, usable=True),
    ]
    assert companions(a4, known) == {4: a4, 6: a6}
    assert companions(b4, known) == {4: b4}
    assert companions(b6, known) == {4: a4, 6: b6}
    assert companions(near, known) == {4: a4, 6: a6}
    assert companions(parse_address("203.0.113.1"), known) == {4: parse_address("203.0.113.1")}


def test_the_kernel_tells_of_loopback() -> None:
    loopback = [row for row in interface_addresses() if row.address == LOOPBACK]
    assert [row.usable for row in loopback] == [False]


def test_a_long_password_is_refused() -> None:
    with pytest.raises(InvalidInputError, match="80 octets"):
        tcp.check_password("ß" * 41)
