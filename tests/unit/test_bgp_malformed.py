"""The rows of malformed messages in memory; `tests/lab` sends them to real routers, too."""

import pytest
from tests.lab.bgp_malformed import ROWS
from tests.lab.bgp_malformed_bytes import THEIR_ASN, Row, meets, outcome

from clarion.base.addr import parse_address
from clarion.proto.bgp.config import Direction, Endpoints, PeerConfig, State
from clarion.proto.bgp.iana import FAMILY_OF_VERSION
from clarion.proto.bgp.session import Drop, Session
from clarion.proto.bgp.wire import HEADER_BYTES, KEEPALIVE

US, PEER = parse_address("192.0.2.21"), parse_address("192.0.2.100")
ENDS = Endpoints(local=US, remote=PEER, router_id=US)
LINE = Direction.INCOMING


def play(row: Row) -> str:
    """What a session makes of a row, in the words of the table."""
    config = PeerConfig(
        name="peer",
        local_asn=THEIR_ASN,
        peer_asn=row.asn,
        peer_address=PEER,
        hold_time=3.0,
        passive=True,
    )
    session = Session(config, 0.0)
    session.start(0.0)
    assert session.admit(0.0) is None
    session.connected(LINE, ENDS, 0.0)
    if row.state != "OpenSent":
        session.receive(LINE, row.opening(PEER), 0.0)
    if row.state == "Established":
        session.receive(LINE, KEEPALIVE + row.announces, 0.0)
        assert session.status().prefixes_received == 2
    assert str(session.state) == row.state
    session.outputs()
    session.take(LINE, 1 << 16)
    session.receive(LINE, row.octets, 0.0)
    if row.state == "OpenSent":
        session.receive(LINE, KEEPALIVE, 0.0)
    drops = [each for each in session.outputs() if isinstance(each, Drop)]
    if drops:
        words = drops[0].last_words
        return outcome(row, words[HEADER_BYTES:].hex() or "closed", has_route=False)
    assert session.state is State.ESTABLISHED
    counts = {each.family: each.prefixes for each in session.status().inbound}
    return outcome(row, "up", has_route=counts.get(FAMILY_OF_VERSION[row.version], 0) > 0)


@pytest.mark.parametrize("row", ROWS, ids=[f"{each.state} {each.name}" for each in ROWS])
def test_a_malformed_message_costs_what_the_clause_says(row: Row) -> None:
    said = play(row)
    assert meets(row, said), f"{said} instead of {row.wants} ({row.clause})"
