"""What the link monitor makes of the kernel's messages, in the order the kernel sends them."""

from typing import Any

import pytest
from pyroute2.netlink import rtnl

from clarion.base.addr import parse_address
from clarion.edge.netlink import LinkMonitor
from clarion.proto.l2.interfaces import Interface

LINK_LOCAL, GLOBAL = "fe80::1", "192.0.2.1"
TENTATIVE, DAD_FAILED, PERMANENT = 0x40, 0x08, 0x80
UP = 0x1 | 0x2 | 0x10000


class Message(dict[str, Any]):
    """A message as pyroute2 gives it: fields by key, attributes by `get_attr`."""

    def __init__(self, kind: int, attributes: dict[str, Any], **fields: Any) -> None:
        super().__init__(header={"type": kind}, **fields)
        self.attributes = attributes

    def get_attr(self, name: str) -> Any:
        return self.attributes.get(name)


def link(
    name: str = "eth0", *, kind: int = rtnl.RTM_NEWLINK, index: int = 2, **more: Any
) -> Message:
    fields = {"family": 0, "index": index, "flags": UP, "ifi_type": 1}
    attributes = {"IFLA_IFNAME": name, "IFLA_ADDRESS": "02:00:5e:00:00:aa"}
    for key, value in more.items():
        (attributes if key.startswith("IFLA") else fields)[key] = value
    return Message(kind, attributes, **fields)


def address(text: str, flags: int, *, kind: int = rtnl.RTM_NEWADDR, **more: Any) -> Message:
    attributes = {"IFA_ADDRESS": text, "IFA_FLAGS": flags, **more}
    return Message(kind, attributes, index=2, flags=flags & 0xFF)


class Heard:
    """A monitor with everything that it told."""

    def __init__(self) -> None:
        self.lists: list[tuple[Interface, ...]] = []
        self.monitor = LinkMonitor(self.lists.append, lambda cause: None)

    def feed(self, *messages: Message) -> tuple[Interface, ...]:
        for message in messages:
            self.monitor._hear(message)
        self.monitor._publish()
        return self.lists[-1]


def test_a_link_and_its_addresses() -> None:
    (seen,) = Heard().feed(
        link(), address(LINK_LOCAL, PERMANENT), address(GLOBAL, PERMANENT, IFA_LOCAL="192.0.2.9")
    )
    assert seen == Interface(
        index=2,
        name="eth0",
        mac=bytes.fromhex("02005e0000aa"),
        up=True,
        carrier=True,
        broadcast=True,
        noarp=False,
        loopback=False,
        ethernet=True,
        master=0,
        link_local=parse_address(LINK_LOCAL),
        addresses=(parse_address("192.0.2.9"),),
    )


@pytest.mark.parametrize(
    ("flags", "link_local", "usable"),
    [(PERMANENT, True, True), (TENTATIVE, True, False), (DAD_FAILED | TENTATIVE, False, False)],
)
def test_duplicate_address_detection(flags: int, link_local: bool, usable: bool) -> None:
    (seen,) = Heard().feed(link(), address(LINK_LOCAL, flags), address("2001:db8::1", flags))
    assert (seen.link_local is not None) is link_local
    assert bool(seen.addresses) is usable


def test_nothing_new_is_not_told_again() -> None:
    heard = Heard()
    heard.feed(link(), address(GLOBAL, PERMANENT))
    heard.feed(link(), address(GLOBAL, PERMANENT))
    assert len(heard.lists) == 1


def test_an_interface_that_returns_in_the_same_batch_was_away() -> None:
    heard = Heard()
    before = heard.feed(link())
    after = heard.feed(link(kind=rtnl.RTM_DELLINK), link())
    assert before == after
    assert heard.lists == [before, (), after]


def test_leaving_a_bridge_is_not_going_away() -> None:
    heard = Heard()
    heard.feed(link(IFLA_MASTER=9))
    (seen,) = heard.feed(link(), link(kind=rtnl.RTM_DELLINK, family=7))
    assert (seen.name, seen.master) == ("eth0", 0)


def test_an_address_that_is_removed_or_of_no_known_link() -> None:
    heard = Heard()
    assert heard.feed(address(GLOBAL, PERMANENT)) == ()
    heard.feed(link(), address(GLOBAL, PERMANENT))
    (seen,) = heard.feed(address(GLOBAL, PERMANENT, kind=rtnl.RTM_DELADDR))
    assert seen.addresses == ()


def test_a_rename_keeps_the_addresses() -> None:
    heard = Heard()
    heard.feed(link(), address(LINK_LOCAL, PERMANENT))
    (seen,) = heard.feed(link("uplink"))
    assert (seen.name, seen.link_local) == ("uplink", parse_address(LINK_LOCAL))
