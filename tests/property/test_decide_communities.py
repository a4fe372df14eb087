"""Communities as text: what is printed is read back as the same value, of whatever kind."""

import contextlib

from hypothesis import given
from hypothesis import strategies as st

from clarion.base.errors import InvalidInputError
from clarion.decide.communities import (
    CommunityValue,
    ExtendedCommunity,
    format_community,
    parse_community,
)

LONG = st.integers(0, (1 << 32) - 1)
# Types and subtypes that have words, and their neighbours; small and large administrators.
EXTENDED = st.builds(
    lambda kind, subtype, high, low: kind << 56 | subtype << 48 | high << 32 | low,
    st.sampled_from([0x00, 0x01, 0x02, 0x03, 0x40, 0x42, 0xFF]),
    st.sampled_from([0x02, 0x03, 0x04, 0x0B]),
    st.integers(0, (1 << 16) - 1) | st.just(0),
    LONG,
)


@given(LONG | st.tuples(LONG, LONG, LONG) | EXTENDED.map(ExtendedCommunity))
def test_what_is_printed_is_read_back(value: CommunityValue) -> None:
    printed = format_community(value)
    prefix = {int: "", tuple: "large:", ExtendedCommunity: "extended:"}[type(value)]
    assert parse_community(prefix + printed) == value


@given(st.text("0123456789abcdefx.:lrtsoextnd", max_size=24) | st.text())
def test_any_text_is_read_or_refused(text: str) -> None:
    with contextlib.suppress(InvalidInputError):
        format_community(parse_community(text))
