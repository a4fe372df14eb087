"""Which interfaces may announce, and what is said of the others."""

import msgspec
import pytest

from clarion.base.addr import parse_address
from clarion.base.errors import InvalidInputError
from clarion.base.limits import L2_EXCLUDE_PATTERNS_MAX
from clarion.proto.l2.interfaces import Exclusions, Fitness, Interface, Obstacle, fitness

GOOD = Interface(
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
    link_local=parse_address("fe80::1"),
)


def of(*patterns: str, **change: object) -> Fitness:
    return fitness(msgspec.structs.replace(GOOD, **change), Exclusions(patterns))


def test_an_ordinary_interface_is_fit() -> None:
    assert of() == Fitness(None, None)
    assert of(carrier=False) == Fitness(None, None), "a cable may come back"
    assert of(addresses=()) == Fitness(None, None), "no IPv4 address is needed"


@pytest.mark.parametrize(
    ("change", "obstacle"),
    [
        ({"up": False}, Obstacle.DOWN),
        ({"master": 7}, Obstacle.MEMBER),
        ({"noarp": True}, Obstacle.NO_ARP),
        ({"ethernet": False}, Obstacle.NOT_ETHERNET),
        ({"loopback": True}, Obstacle.NOT_ETHERNET),
        ({"mac": bytes(20)}, Obstacle.NOT_ETHERNET),
        ({"mac": b""}, Obstacle.NOT_ETHERNET),
    ],
)
def test_obstacles_for_both(change: dict[str, object], obstacle: Obstacle) -> None:
    assert of(**change) == Fitness(obstacle, obstacle)


def test_obstacles_for_one() -> None:
    assert of(broadcast=False) == Fitness(Obstacle.NO_BROADCAST, None)
    assert of(link_local=None) == Fitness(None, Obstacle.NO_LINK_LOCAL)


def test_exclusions_match_anywhere_as_metallb_has_it() -> None:
    excluded = Fitness(Obstacle.EXCLUDED, Obstacle.EXCLUDED)
    assert of("^cali.*", "th") == excluded
    assert of("^veth.*", "^lo$") == Fitness(None, None)
    assert of("(?i)ETH") == excluded, "flags hold for their own pattern only"


@pytest.mark.parametrize("pattern", ["(", "a{99999999999}", "*"])
def test_a_bad_pattern_is_named(pattern: str) -> None:
    with pytest.raises(InvalidInputError, match="is no regular expression") as caught:
        Exclusions([pattern])
    assert repr(pattern) in caught.value.message


def test_patterns_are_bounded() -> None:
    Exclusions(["x"] * L2_EXCLUDE_PATTERNS_MAX)
    with pytest.raises(InvalidInputError, match="at most"):
        Exclusions(["x"] * (L2_EXCLUDE_PATTERNS_MAX + 1))
