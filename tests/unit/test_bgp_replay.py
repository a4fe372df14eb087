"""Sessions that were recorded with real routers, led again: as they were, and damaged.

What the routers said is theirs; when what *we* say changes on purpose, `UPDATE_GOLDEN=1` writes it
anew beside it. `tests/lab/test_bgp_recordings.py` makes new recordings.
"""

import copy
import os
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from clarion.proto.bgp.config import State
from clarion.proto.bgp.iana import SUBCODES, ErrorCode, MessageType
from clarion.proto.bgp.notify import Notification, decode_notification
from clarion.proto.bgp.wire import HEADER_BYTES, Framer
from clarion.testing.bgprecord import Player, Recording, Step, decode, encode, replay

FOLDER = Path(__file__).resolve().parents[1] / "data" / "bgp-recordings"
FILES = {path.stem: path for path in sorted(FOLDER.glob("*.jsonl"))}
RECORDINGS = {name: decode(path.read_bytes()) for name, path in FILES.items()}
each_recording = pytest.mark.parametrize("name", FILES)


def test_four_makes_of_router_are_recorded() -> None:
    assert set(FILES) == {"bird", "frr", "gobgp", "openbgpd"}


@each_recording
def test_a_recorded_session_goes_the_same_way_again(name: str) -> None:
    again = replay(RECORDINGS[name])
    if os.environ.get("UPDATE_GOLDEN"):
        FILES[name].write_bytes(encode(again))
    kept = decode(FILES[name].read_bytes())
    for now, before in zip(again.steps, kept.steps, strict=True):
        assert now == before, "run with UPDATE_GOLDEN=1 if that was the intention"
    assert again.end == kept.end
    established = [text for step in again.steps for text in step.asks if "Established:" in text]
    assert len(established) == 2


@each_recording
def test_it_does_not_matter_how_the_octets_come_in_pieces(name: str) -> None:
    recording = RECORDINGS[name]
    whole, single = Player(recording.head), Player(recording.head)
    for step in recording.steps:
        told = whole.play(step)
        pieces = [single.play(piece) for piece in octet_by_octet(step)]
        # In one piece, a state that is only passed through is not told of.
        asked = [text for piece in pieces for text in piece.asks]
        assert asked[-1:] == list(told.asks[-1:])
    assert single.end() == whole.end()


def octet_by_octet(step: Step) -> Iterator[Step]:
    if step.do != "receive":
        yield step
        return
    for octet in bytes.fromhex(step.data):
        yield msgspec.structs.replace(step, data=f"{octet:02x}")


class Heard(msgspec.Struct, frozen=True):
    """One message of a router, and the player as it was just before."""

    player: Player
    step: Step
    kind: MessageType
    octets: bytes

    def instead(self, octets: bytes) -> Player:
        """A player that hears this in its place."""
        player = copy.deepcopy(self.player)
        player.play(msgspec.structs.replace(self.step, data=octets.hex()))
        return player


def messages(recording: Recording) -> Iterator[Heard]:
    """Everything that the router said, message by message."""
    player = Player(recording.head)
    for step in recording.steps:
        if step.do != "receive":
            player.play(step)
            continue
        rest = bytes.fromhex(step.data)
        while rest:
            size = int.from_bytes(rest[16:18], "big")
            octets, rest = rest[:size], rest[size:]
            yield Heard(copy.deepcopy(player), step, MessageType(octets[18]), octets)
            player.play(msgspec.structs.replace(step, data=octets.hex()))


def farewell(player: Player) -> Notification | None:
    """The NOTIFICATION that the last step made the session send."""
    words = b"".join(getattr(each, "last_words", b"") for each in player.outputs)
    framer = Framer()
    framer.feed(words)
    frames = []
    while (frame := framer.next_frame()) is not None:
        frames.append(frame)
    assert all(frame.type is MessageType.NOTIFICATION for frame in frames)
    return decode_notification(frames[-1].body) if frames else None


CODES = {
    MessageType.OPEN: ErrorCode.OPEN_MESSAGE,
    MessageType.UPDATE: ErrorCode.UPDATE_MESSAGE,
    MessageType.ROUTE_REFRESH: ErrorCode.ROUTE_REFRESH_MESSAGE,
}


@each_recording
def test_a_flipped_bit_costs_what_its_place_deserves(name: str) -> None:
    outcomes = set()
    for heard in messages(RECORDINGS[name]):
        before = heard.player.session.state
        for place, octet in enumerate(heard.octets):
            flipped = octet ^ (1 << place % 8)
            player = heard.instead(
                heard.octets[:place] + bytes((flipped,)) + heard.octets[place + 1 :]
            )
            said = farewell(player)
            outcomes.add((said.code, said.subcode) if said else None)
            if said is None:
                # Kept, waiting for the rest, or a NOTIFICATION that came damaged (RFC 4271 §6.4).
                goes = heard.kind is MessageType.NOTIFICATION or flipped == MessageType.NOTIFICATION
                assert player.session.state >= before or goes
                continue
            assert player.session.state < State.OPEN_SENT
            assert said.subcode == 0 or said.subcode in set(SUBCODES[said.code])
            if place < 16:
                assert (said.code, said.subcode) == (1, 1)
            elif place >= HEADER_BYTES:
                assert said.code == CODES[heard.kind]
    assert {None, (1, 1), (1, 2)} < outcomes


@each_recording
def test_a_message_cut_short_is_awaited_and_its_end_comes_with_the_connection(name: str) -> None:
    for heard in messages(RECORDINGS[name]):
        before = heard.player.session.state
        for size in range(len(heard.octets)):
            player = heard.instead(heard.octets[:size])
            assert player.session.state is before
            assert farewell(player) is None
            player.play(Step(at=heard.step.at, do="lost", why="cut"))
            assert player.session.state < State.OPEN_SENT
            assert player.session.status().last_error == "cut"
            assert farewell(player) is None
