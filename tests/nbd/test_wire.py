"""The transmission codec: what one end packs the other parses; garbage has one exception."""

import errno

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mirrorgui.nbd import wire
from mirrorgui.nbd.constants import MAX_STRING, ChunkFlag, ChunkType, Command, Error
from mirrorgui.nbd.wire import ProtocolError

U16 = st.integers(0, 2**16 - 1)
U32 = st.integers(0, 2**32 - 1)
U64 = st.integers(0, 2**64 - 1)
TEXT = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=300)

PARSERS = [
    wire.parse_request,
    wire.parse_simple_reply,
    wire.parse_chunk,
    wire.parse_data_offset,
    wire.parse_hole,
    wire.parse_block_status,
    lambda data: wire.parse_error(ChunkType.ERROR, data),
    lambda data: wire.parse_error(ChunkType.ERROR_OFFSET, data),
    lambda data: wire.parse_error(0x80FF, data),
    lambda data: wire.parse_string(data, "text"),
    lambda data: wire.take_string(data, 0, "text"),
]


@given(st.builds(wire.Request, U16, U16, U64, U64, U32))
def test_request_round_trip(request):
    packed = wire.pack_request(request)
    assert len(packed) == wire.REQUEST.size == 28
    assert wire.parse_request(packed) == request


@given(U32, U64)
def test_simple_reply_round_trip(error, cookie):
    assert wire.parse_simple_reply(wire.pack_simple_reply(error, cookie)) == wire.SimpleReply(
        error, cookie
    )


@given(U16, U16, U64, st.binary(max_size=64))
def test_chunk_round_trip(flags, kind, cookie, payload):
    packed = wire.pack_chunk(flags, kind, cookie, payload)
    chunk = wire.parse_chunk(packed[: wire.CHUNK.size])
    assert chunk == wire.Chunk(flags, kind, cookie, len(payload))
    assert packed[wire.CHUNK.size :] == payload
    assert chunk.is_last == bool(flags & 1)
    assert chunk.is_error == (kind >= 0x8000)


@given(U64, U64, st.integers(1, 2**32 - 9))
def test_data_header_is_a_chunk_whose_payload_begins_with_the_offset(cookie, offset, length):
    packed = wire.pack_data_header(ChunkFlag.DONE, cookie, offset, length)
    chunk = wire.parse_chunk(packed[: wire.CHUNK.size])
    assert chunk == wire.Chunk(1, ChunkType.OFFSET_DATA, cookie, length + 8)
    assert wire.parse_data_offset(packed[wire.CHUNK.size :]) == offset


@given(U64, st.integers(1, 2**32 - 1))
def test_hole_round_trip(offset, length):
    assert wire.parse_hole(wire.pack_hole(offset, length)) == (offset, length)


@given(st.integers(1, 2**32 - 1), TEXT, st.none() | U64)
def test_error_round_trip(error, message, offset):
    chunk = wire.ErrorChunk(error, message, offset)
    kind = ChunkType.ERROR if offset is None else ChunkType.ERROR_OFFSET
    assert wire.parse_error(kind, wire.pack_error(chunk)) == chunk


def test_long_error_messages_are_cut_at_a_character():
    packed = wire.pack_error(wire.ErrorChunk(Error.EIO, "€" * MAX_STRING))
    assert wire.parse_error(ChunkType.ERROR, packed).message == "€" * (MAX_STRING // 3)


@given(U32, st.lists(st.tuples(st.integers(1, 2**32 - 1), U32), min_size=1, max_size=50))
def test_block_status_round_trip(context_id, extents):
    assert wire.parse_block_status(wire.pack_block_status(context_id, extents)) == (
        context_id,
        extents,
    )


@given(TEXT)
def test_string_round_trip(text):
    packed = wire.pack_string(text)
    assert wire.take_string(packed, 0, "text") == (text, len(packed))


@pytest.mark.parametrize("parse", PARSERS)
@given(data=st.binary(max_size=200))
def test_garbage_ends_in_the_protocols_own_exception(parse, data):
    try:
        parse(data)
    except ProtocolError as error:
        assert str(error)


@pytest.mark.parametrize(
    ("parse", "packed"),
    [
        (wire.parse_request, wire.pack_request(wire.Request(0, Command.READ, 1, 2, 3))),
        (wire.parse_simple_reply, wire.pack_simple_reply(0, 7)),
        (wire.parse_chunk, wire.pack_chunk(1, ChunkType.NONE, 7)),
        (wire.parse_hole, wire.pack_hole(5, 6)),
        (wire.parse_block_status, wire.pack_block_status(1, [(512, 0)])),
        (
            lambda data: wire.parse_error(ChunkType.ERROR_OFFSET, data),
            wire.pack_error(wire.ErrorChunk(5, "no", 9)),
        ),
        (lambda data: wire.take_string(data, 0, "text"), wire.pack_string("disk")),
    ],
)
def test_every_truncation_is_refused(parse, packed):
    parse(packed)
    for length in range(len(packed)):
        with pytest.raises(ProtocolError):
            parse(packed[:length])


@pytest.mark.parametrize(
    ("parse", "packed"),
    [
        (wire.parse_request, wire.pack_request(wire.Request(0, 0, 1, 2, 3))),
        (wire.parse_simple_reply, wire.pack_simple_reply(0, 7)),
        (wire.parse_chunk, wire.pack_chunk(1, 0, 7)),
    ],
)
def test_a_wrong_magic_is_refused(parse, packed):
    with pytest.raises(ProtocolError, match="begins with"):
        parse(b"\x12" + packed[1:])


@pytest.mark.parametrize(
    ("parse", "data", "reason"),
    [
        (wire.parse_hole, wire.pack_hole(5, 0), "empty"),
        (wire.parse_block_status, wire.pack_block_status(0, [(0, 1)]), "empty run"),
        (wire.parse_block_status, wire.pack_block_status(0, []), "of 4 bytes"),
        (lambda d: wire.parse_error(ChunkType.ERROR, d), b"\0" * 6, "no error"),
        (lambda d: wire.parse_string(d, "x"), b"a\0b", "NUL"),
        (lambda d: wire.parse_string(d, "x"), b"\xff", "UTF-8"),
        (lambda d: wire.parse_string(d, "x"), b"a" * (MAX_STRING + 1), "4097"),
    ],
)
def test_what_the_specification_forbids_is_refused_by_name(parse, data, reason):
    with pytest.raises(ProtocolError, match=reason):
        parse(data)


@pytest.mark.parametrize(
    ("number", "code"),
    [
        (errno.EPERM, 1),
        (errno.EROFS, 1),
        (errno.EIO, 5),
        (errno.ENOMEM, 12),
        (errno.EINVAL, 22),
        (errno.ENOSPC, 28),
        (errno.EDQUOT, 28),
        (errno.EFBIG, 28),
        (errno.EOPNOTSUPP, 95),
        (errno.ESHUTDOWN, 108),
        (errno.ETIMEDOUT, 5),
    ],
)
def test_system_errors_become_the_protocols(number, code):
    assert wire.wire_error(number) == code


@given(U32)
def test_every_error_value_becomes_a_system_error(code):
    known = code in (1, 5, 12, 22, 28, 75, 95, 108)
    assert wire.system_error(code) == (code if known else errno.EINVAL)
