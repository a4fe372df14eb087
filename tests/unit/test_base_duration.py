"""Durations: the forms of the command line and of Kubernetes."""

import pytest

from clarion.base.duration import format_duration, parse_duration
from clarion.base.errors import InvalidInputError


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("500ms", 0.5),
        ("3s", 3),
        ("2m", 120),
        ("1h30m", 5400),
        ("1.5s", 1.5),
        ("0", 0),
        ("0s", 0),
        ("-2s", -2),
        ("1m0.5s", 60.5),
        ("10us", 1e-5),
    ],
)
def test_parse(text: str, seconds: float) -> None:
    assert parse_duration(text) == pytest.approx(seconds)


@pytest.mark.parametrize("text", ["", "3", "s", "3 s", "3s4", "1d", "3sec", "٣s", "--1s"])
def test_refused(text: str) -> None:
    with pytest.raises(InvalidInputError, match="write for example"):
        parse_duration(text)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0s"),
        (0.5, "500ms"),
        (3, "3s"),
        (90, "1m30s"),
        (3600, "1h0m0s"),
        (-2, "-2s"),
        (1.5, "1.5s"),
        (1e-5, "10us"),
    ],
)
def test_format_is_the_kubernetes_form(seconds: float, text: str) -> None:
    assert format_duration(seconds) == text
    assert parse_duration(text) == pytest.approx(seconds)
