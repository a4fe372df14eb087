"""A set of addresses as sorted, disjoint, non-touching ranges of one IP version.

Finding, taking and returning one address costs O(log n) in the number of ranges plus the shift of a
short list, whatever the number of addresses: a /8 and a /64 behave like a /28.
"""

from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator


class RangeSet:
    """Integers as half-open spans `[start, end)`, kept sorted, disjoint and never adjacent."""

    __slots__ = ("_ends", "_starts")

    def __init__(self, spans: Iterable[tuple[int, int]] = ()) -> None:
        """Args: spans: pairs (first, last), both inside; they may overlap."""
        self._starts: list[int] = []
        self._ends: list[int] = []
        for first, last in spans:
            self.add(first, last)

    def copy(self) -> "RangeSet":
        """An independent set with the same members."""
        other = RangeSet()
        other._starts, other._ends = self._starts.copy(), self._ends.copy()
        return other

    def __contains__(self, value: int) -> bool:
        index = bisect_right(self._starts, value) - 1
        return index >= 0 and value < self._ends[index]

    def __len__(self) -> int:
        return len(self._starts)

    def __bool__(self) -> bool:
        return bool(self._starts)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, RangeSet) and self.spans() == other.spans()

    __hash__ = None  # type: ignore[assignment]  # a mutable set has no hash

    def spans(self) -> list[tuple[int, int]]:
        """The ranges as (first, last), both inside, ascending."""
        return [(start, end - 1) for start, end in zip(self._starts, self._ends, strict=True)]

    @property
    def count(self) -> int:
        """How many integers are inside."""
        return sum(self._ends) - sum(self._starts)

    def add(self, first: int, last: int) -> None:
        """Put every integer from `first` to `last` in, merging with what it touches."""
        start, end = first, last + 1
        low = bisect_left(self._ends, start)
        high = bisect_right(self._starts, end)
        if low < high:
            start, end = min(start, self._starts[low]), max(end, self._ends[high - 1])
        self._starts[low:high] = [start]
        self._ends[low:high] = [end]

    def remove(self, first: int, last: int) -> None:
        """Take every integer from `first` to `last` out; absent ones are no error."""
        start, end = first, last + 1
        low = bisect_right(self._ends, start)
        high = bisect_left(self._starts, end)
        if low >= high:
            return
        starts, ends = [], []
        if self._starts[low] < start:
            starts.append(self._starts[low])
            ends.append(start)
        if self._ends[high - 1] > end:
            starts.append(end)
            ends.append(self._ends[high - 1])
        self._starts[low:high] = starts
        self._ends[low:high] = ends

    def first_at_least(self, value: int) -> int | None:
        """The smallest member that is not below `value`; None if there is none."""
        index = bisect_right(self._ends, value)
        return None if index == len(self._starts) else max(self._starts[index], value)

    def __iter__(self) -> Iterator[int]:
        for start, end in zip(self._starts, self._ends, strict=True):
            yield from range(start, end)
