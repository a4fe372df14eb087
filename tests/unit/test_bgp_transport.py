"""What the transport of BGP costs when others behave badly, on real sockets over loopback."""

import asyncio
import fcntl
import os
import socket
import struct
from pathlib import Path

import pytest

from clarion.base.addr import Prefix, parse_address
from clarion.base.limits import BGP_CHUNK_BYTES, BGP_CLOSING_MAX
from clarion.edge import tcp
from clarion.edge.ifaddrs import device_indexes, interface_state
from clarion.proto.bgp.config import State

from .bgp_kit import link
from .test_bgp_speaker import OTHER, Peer, only, peer, routes, speaker, until


def sockets() -> set[str]:
    """Every socket of this process, by inode."""
    found = set()
    for entry in Path("/proc/self/fd").iterdir():
        try:
            target = os.readlink(entry)
        except FileNotFoundError:  # the folder itself
            continue
        if target.startswith("socket:"):
            found.add(target)
    return found


def unsent_bytes(local_port: int) -> int:
    """What the kernel holds for a connection of ours beyond what the other end's window took."""
    for entry in Path("/proc/self/fd").iterdir():
        if not entry.is_socket():
            continue
        with socket.socket(fileno=os.dup(int(entry.name))) as sock:
            if sock.family != socket.AF_INET or sock.type != socket.SOCK_STREAM:
                continue
            if sock.getsockname()[1] == local_port:
                # SIOCOUTQNSD: queued and never sent
                answer = fcntl.ioctl(sock, 0x894B, struct.pack("i", 0))
                (count,) = struct.unpack("i", answer)
                return int(count)
    raise AssertionError(f"no socket at port {local_port}")


def test_a_stalled_peer_holds_no_more_than_two_chunks_of_unsent_bytes() -> None:
    async def scene() -> None:
        stalled, quick = Peer(), Peer()
        # Its window is full after a little, not after what a kernel may hold at most.
        stalled.listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        running = speaker()
        running.set_peers({"a": peer("a", stalled.port), "b": peer("b", quick.port)})
        await asyncio.gather(stalled.establish(), quick.establish())
        for generation in range(1, 11):
            running.set_routes("a", routes(20_000, generation))
            running.set_routes("b", routes(1, generation))
            wanted = b"\xc0\x08\x04" + generation.to_bytes(4, "big")
            while True:  # the quick one has each generation before the next one is made
                frame = await quick.read()
                assert frame is not None
                if wanted in frame.body:
                    break
        status = running.status()["a"]
        assert status.prefixes_pending > 0
        # The kernel takes more while less than a chunk is unsent, and is given a chunk at a time.
        assert 0 < unsent_bytes(status.local_port) <= 2 * BGP_CHUNK_BYTES
        stalled.close()
        quick.close()
        await running.stop()

    asyncio.run(scene())


@pytest.mark.parametrize("known", [True, False], ids=["the peer", "a stranger"])
def test_a_storm_of_connections_costs_a_bound_and_not_the_session(known: bool) -> None:
    async def scene() -> None:
        free = socket.create_server(("127.0.0.1", 0))
        port = free.getsockname()[1]
        free.close()
        left, right = speaker(port=port, name="left"), speaker(name="right")
        left.set_peers({"a": peer("a", 179, local_asn=64513, peer_asn=64512, passive=True)})
        right.set_peers({"a": peer("a", port, router_id=OTHER)})
        await until("established", lambda: only(left).state is State.ESTABLISHED)
        before = sockets()
        clients = []
        for _ in range(4 * BGP_CLOSING_MAX):
            client = socket.socket()
            client.setblocking(False)
            if not known:
                client.bind(("127.0.0.3", 0))
            client.connect_ex(("127.0.0.1", port))
            clients.append(client)
            await asyncio.sleep(0)
        held = len(sockets() - before) - len(clients)
        assert held <= BGP_CLOSING_MAX
        right.set_routes("a", routes(3))
        await until("heard", lambda: only(left).prefixes_received == 3)
        assert only(left).established_count == 1
        for client in clients:
            client.close()
        await right.stop()
        await left.stop()

    asyncio.run(scene())


def test_a_second_listener_needs_to_be_told_that_the_port_is_shared() -> None:
    first = tcp.listen(4, 0)
    port = first.getsockname()[1]
    with first:
        with pytest.raises(OSError, match="in use"):
            tcp.listen(4, port, device="lo")
        with tcp.listen(4, port, device="lo", beside=True) as second:
            second.settimeout(10)
            with socket.create_connection(("127.0.0.1", port)):
                accepted, _ = second.accept()  # the kernel prefers the listener of the device
                accepted.close()


def test_a_key_for_all_link_local_addresses_and_hops_of_a_handshake_are_taken() -> None:
    with tcp.listen(6, 0, parse_address("::1")) as listener:
        tcp.set_md5_key(listener, Prefix(6, 0xFE80 << 112, 10), "secret")
        tcp.set_hops(listener, 6, tcp.TcpOptions(ttl=255, min_ttl=255))
        assert listener.getsockopt(socket.IPPROTO_IPV6, socket.IPV6_UNICAST_HOPS) == 255
        tcp.set_hops(listener, 6, tcp.TcpOptions())
        assert listener.getsockopt(socket.IPPROTO_IPV6, socket.IPV6_UNICAST_HOPS) != 255
        tcp.set_md5_key(listener, Prefix(6, 0xFE80 << 112, 10), "")


def test_an_attempt_is_repeated_at_once_when_asked_and_only_where_one_is_waited_for() -> None:
    joined = link()
    joined.reachable = False
    joined.start()
    assert joined.dialled == ["left"]
    joined.left.retry(joined.now)
    joined.left.retry(joined.now)
    joined.right.retry(joined.now)  # it waits for the other side
    joined.advance(0.0)
    assert joined.dialled == ["left"] * 2
    joined.reachable = True
    joined.left.retry(joined.now)
    joined.advance(0.0)
    assert joined.left.state is State.ESTABLISHED
    joined.left.retry(joined.now)
    joined.advance(0.0)
    assert joined.dialled == ["left"] * 3


def test_the_kernel_tells_of_an_interface_and_its_members() -> None:
    loopback = interface_state("lo")
    assert loopback is not None
    assert loopback.running
    assert loopback.mac == b""  # it has no Ethernet address
    assert device_indexes("lo") == {loopback.index}
    assert interface_state("nosuchdev0") is None
    with pytest.raises(OSError, match="o"):
        device_indexes("nosuchdev0")
