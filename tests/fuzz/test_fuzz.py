"""Every target under Hypothesis: any bytes, damaged seeds, and whatever a hunt has found before."""

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from clarion.proto.bgp.config import State

from .bgp_session import ESTABLISHED, World, take_step
from .tape import Tape
from .targets import TARGETS

CORPUS = Path(__file__).with_name("corpus")
NAMES = sorted(TARGETS)
gate = settings(derandomize=True, max_examples=200, deadline=None, database=None)
damages = st.lists(
    st.tuples(st.sampled_from(["set", "cut", "drop", "double"]), st.integers(0, 400), st.binary()),
    min_size=1,
    max_size=4,
)


def damaged(seed: bytes, damage: list[tuple[str, int, bytes]]) -> bytes:
    """A seed after some accidents."""
    for what, place, data in damage:
        at = place % (len(seed) + 1)
        if what == "set":
            seed = seed[:at] + data + seed[at + len(data) :]
        elif what == "cut":
            seed = seed[:at]
        elif what == "drop":
            seed = seed[:at] + seed[at + 1 :]
        else:
            seed = seed[:at] + seed[: place + 8] + seed[at:]
    return seed


@pytest.mark.parametrize("name", NAMES)
def test_what_was_found_before_stays_mended(name: str) -> None:
    kept = [path.read_bytes() for path in sorted((CORPUS / name).glob("*"))]
    for data in (*TARGETS[name].seeds, *kept):
        TARGETS[name].run(data)


@pytest.mark.parametrize("name", NAMES)
def test_any_bytes(name: str) -> None:
    @gate
    @given(st.binary(max_size=300))
    def attack(data: bytes) -> None:
        TARGETS[name].run(data)

    attack()


@pytest.mark.parametrize("name", NAMES)
def test_damaged_seeds(name: str) -> None:
    @gate
    @given(st.sampled_from(TARGETS[name].seeds), damages)
    def attack(seed: bytes, damage: list[tuple[str, int, bytes]]) -> None:
        TARGETS[name].run(damaged(seed, damage))

    attack()


def test_the_seeds_of_the_session_reach_established() -> None:
    """A hunt that never gets past the OPEN finds nothing."""
    world, tape = World(passive=False, internal=False), Tape(ESTABLISHED)
    while tape:
        take_step(world, tape)
    assert world.session.state is State.ESTABLISHED


def test_every_folder_of_the_corpus_belongs_to_a_target() -> None:
    found = {path.name for path in CORPUS.iterdir() if path.is_dir()} if CORPUS.exists() else set()
    assert found <= set(TARGETS)
