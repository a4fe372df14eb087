"""RangeSet against the plainest model there is: a set of integers."""

import itertools

from hypothesis import given, settings
from hypothesis import strategies as st

from clarion.base.rangeset import RangeSet

POINT = st.integers(0, 40)
OPERATION = st.tuples(st.sampled_from(["add", "remove"]), POINT, st.integers(0, 6))


@settings(derandomize=True, max_examples=400, deadline=None)
@given(st.lists(OPERATION, max_size=25), POINT)
def test_behaves_like_a_set(operations: list[tuple[str, int, int]], probe: int) -> None:
    ours, model = RangeSet(), set[int]()
    for name, first, extra in operations:
        members = set(range(first, first + extra + 1))
        getattr(ours, name)(first, first + extra)
        model = model | members if name == "add" else model - members
    assert set(ours) == model
    assert ours.count == len(model)
    assert (probe in ours) is (probe in model)
    assert ours.first_at_least(probe) == min((v for v in model if v >= probe), default=None)
    spans = ours.spans()
    for (_, last), (first, _) in itertools.pairwise(spans):
        assert last + 1 < first, "ranges are disjoint and never touch"
    assert RangeSet(spans) == ours
    copied = ours.copy()
    copied.add(100, 100)
    assert 100 not in ours
