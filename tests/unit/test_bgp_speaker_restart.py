"""The speaker on real sockets: how it comes back from a restart, and how it leaves."""

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from clarion.edge.bgp import BgpSpeaker
from clarion.edge.clock import SystemClock, SystemEntropy
from clarion.proto.bgp.config import State
from clarion.proto.bgp.iana import IPV4_UNICAST, Cease, MessageType
from clarion.proto.bgp.notify import Notification, cease, decode_notification
from clarion.proto.bgp.open import (
    Capabilities,
    GracefulRestart,
    RestartFamily,
    decode_open,
    encode_open,
    make_open,
)
from clarion.proto.bgp.update import decode_update
from clarion.proto.bgp.wire import KEEPALIVE

from .test_bgp_speaker import LOOPBACK, OTHER, Peer, peer, routes, until

FAMILIES = (RestartFamily(IPV4_UNICAST),)
PLAIN = GracefulRestart(90, families=FAMILIES)
NOTIFIED = GracefulRestart(90, notifications=True, families=FAMILIES)


async def meet(remote: Peer, restart: GracefulRestart) -> GracefulRestart | None:
    """Establish a session with us; returns what we say of restarts."""
    await remote.accept()
    opening = await remote.read()
    assert opening is not None
    offer = Capabilities(families=(IPV4_UNICAST,), graceful_restart=restart)
    await remote.write(encode_open(make_open(64513, 90, OTHER, offer)) + KEEPALIVE)
    return decode_open(opening.body).capabilities.graceful_restart


async def last_words(remote: Peer) -> Notification | None:
    """Everything is read until we close; the NOTIFICATION among it, if there is one."""
    while (frame := await remote.read()) is not None:
        if frame.type is MessageType.NOTIFICATION:
            return decode_notification(frame.body)
    return None


def scene(play: Callable[[BgpSpeaker, Peer], Awaitable[None]], *, restarted: bool = False) -> None:
    async def run() -> None:
        remote = Peer()
        running = BgpSpeaker(
            node_name="node",
            clock=SystemClock(),
            entropy=SystemEntropy(),
            port=None,
            restarted=restarted,
        )
        running.set_peers({"a": peer("a", remote.port, graceful_restart=60.0, connect_time=0.1)})
        async with asyncio.timeout(20):
            await play(running, remote)
            remote.close()  # or the end of the session would wait for it
            await running.stop()

    asyncio.run(run())


@pytest.mark.parametrize("restarted", [True, False])
def test_only_a_speaker_that_restarted_says_so_and_only_until_it_is_heard(restarted: bool) -> None:
    async def play(running: BgpSpeaker, remote: Peer) -> None:
        said = await meet(remote, PLAIN)
        assert said is not None
        assert (said.restart_time, said.restarting) == (60, restarted)
        assert {row.forwarding_preserved for row in said.families} == {restarted}
        await until("established", lambda: running.status()["a"].state is State.ESTABLISHED)
        assert remote.sock is not None
        said = await meet(remote, PLAIN)  # which closes the first connection
        assert said is not None
        assert not said.restarting

    scene(play, restarted=restarted)


@pytest.mark.parametrize(
    ("restart", "words"), [(PLAIN, None), (NOTIFIED, cease(Cease.ADMINISTRATIVE_SHUTDOWN, "soon"))]
)
def test_a_stop_that_keeps_routes(restart: GracefulRestart, words: Notification | None) -> None:
    async def play(running: BgpSpeaker, remote: Peer) -> None:
        running.set_routes("a", routes(1))
        await meet(remote, restart)
        await until("announced", lambda: running.status()["a"].prefixes_announced == 1)
        leaving = asyncio.create_task(running.stop("soon", keep_routes=True))
        assert await last_words(remote) == words
        remote.close()
        await leaving

    scene(play)


def test_bfd_takes_one_session_down_and_it_comes_back() -> None:
    async def play(running: BgpSpeaker, remote: Peer) -> None:
        await meet(remote, NOTIFIED)
        await until("established", lambda: running.status()["a"].state is State.ESTABLISHED)
        running.fail("a", "BFD: the path is down")
        words = await last_words(remote)
        assert words is not None
        assert words.hard_reset == cease(Cease.BFD_DOWN)
        assert running.status()["a"].last_error == "BFD: the path is down"
        await meet(remote, NOTIFIED)
        await until("back", lambda: running.status()["a"].established_count == 2)

    scene(play)


@pytest.mark.parametrize("known", [True, False])
def test_a_reset_session_knows_whether_its_routes_are_known(known: bool) -> None:
    async def play(running: BgpSpeaker, remote: Peer) -> None:
        if known:
            running.set_routes("a", ())
        await meet(remote, PLAIN)
        await until("established", lambda: running.status()["a"].state is State.ESTABLISHED)
        changed = peer("a", remote.port, graceful_restart=60.0, router_id=LOOPBACK)
        running.set_peers({"a": changed})
        await meet(remote, PLAIN)
        if not known:
            await until("established", lambda: running.status()["a"].state is State.ESTABLISHED)
            assert running.status()["a"].sent.updates == 0
            running.set_routes("a", ())
        frame = await remote.read()
        while frame is not None and frame.type is not MessageType.UPDATE:
            frame = await remote.read()
        assert frame is not None
        update = decode_update(frame.body, four_octet_asn=True, internal=False)
        assert update.end_of_rib == IPV4_UNICAST

    scene(play)
