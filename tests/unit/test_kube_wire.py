"""The envelopes of list and watch, and how a stream is cut into lines."""

import pytest

from clarion.base.errors import DecodeError
from clarion.proto.kube.wire import LineSplitter, decode_metadata, decode_page


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"<html>",
        b"[]",
        b'{"items":[]}',
        b'{"metadata":{},"items":[]}',
        b'{"metadata":{"resourceVersion":"0"},"items":[]}',
        b'{"metadata":{"resourceVersion":"5"},"items":[{"a":1}',
        b'{"metadata":{"resourceVersion":5},"items":[]}',
    ],
)
def test_what_is_not_a_list_is_a_decode_error(body: bytes) -> None:
    with pytest.raises(DecodeError):
        decode_page(body)


def test_null_items_are_no_items() -> None:
    assert decode_page(b'{"metadata":{"resourceVersion":"5"},"items":null}').items == []


def test_metadata_of_nonsense_is_a_decode_error() -> None:
    with pytest.raises(DecodeError):
        decode_metadata(b'{"metadata":{"name":5}}')


def test_lines_are_cut_wherever_the_chunks_are() -> None:
    stream = b'{"a":1}\n\r\n\n{"b":2}\n{"c":'
    for size in range(1, len(stream) + 1):
        splitter = LineSplitter(100)
        lines = [
            found
            for start in range(0, len(stream), size)
            for found in splitter.feed(stream[start : start + size])
        ]
        assert lines == [b'{"a":1}', b'{"b":2}'], size


def test_an_endless_line_is_refused() -> None:
    splitter = LineSplitter(10)
    assert list(splitter.feed(b"0123456789\n")) == [b"0123456789"]
    with pytest.raises(DecodeError, match="longer than 10 bytes"):
        list(splitter.feed(b"01234567890"))
