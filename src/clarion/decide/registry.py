"""What registries of codes have in common: rows of text, and values that fill them with facts."""

from collections.abc import Mapping, Sequence
from typing import Protocol, TypeVar

Fact = str | int
"""A fact is text or a number; anything else is put into words by whoever states it."""


class Row(Protocol):
    """One entry of a registry."""

    @property
    def code(self) -> str:
        """Stable name of the entry."""
        ...


NAMED = 5
"""So many of the objects concerned are named in a problem or a reason."""

R = TypeVar("R", bound=Row)


def index(rows: Sequence[R]) -> dict[str, R]:
    """The rows by code; a code given twice is a mistake of the author."""
    table = {row.code: row for row in rows}
    assert len(table) == len(rows), "a code stands twice in a registry"
    return table


def fill(template: str, facts: Mapping[str, Fact]) -> str:
    """The template with its `{names}` replaced by facts."""
    return template.format_map(facts) if "{" in template else template


def listed(items: Sequence[object], limit: int = NAMED) -> str:
    """Items as `a, b, c and 4 more`, for facts that may be long."""
    shown = ", ".join(map(str, items[:limit]))
    rest = len(items) - limit
    return f"{shown} and {rest} more" if rest > 0 else shown
