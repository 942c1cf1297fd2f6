"""The handshake codec: what one end packs the other parses; garbage has one exception."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mirrorgui.nbd import handshake
from mirrorgui.nbd.constants import Info, Option, Reply
from mirrorgui.nbd.wire import ProtocolError

U16 = st.integers(0, 2**16 - 1)
U32 = st.integers(0, 2**32 - 1)
U64 = st.integers(0, 2**64 - 1)
TEXT = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=300)

PARSERS = [
    handshake.parse_greeting,
    handshake.parse_option_header,
    lambda data: handshake.parse_option_reply_header(data, Option.GO),
    handshake.parse_info_request,
    lambda data: handshake.parse_infos([data]),
    lambda data: handshake.parse_infos([handshake.pack_info_export(1, 1), b"\0\3" + data]),
    handshake.parse_server,
    handshake.parse_meta_request,
    handshake.parse_meta_context,
]


@given(U16)
def test_greeting_round_trip(flags):
    assert handshake.parse_greeting(handshake.pack_greeting(flags)) == flags


@given(U32, st.binary(max_size=64))
def test_option_round_trip(option, data):
    packed = handshake.pack_option(option, data)
    header = handshake.parse_option_header(packed[: handshake.OPTION_HEADER.size])
    assert header == handshake.OptionHeader(option, len(data))
    assert packed[handshake.OPTION_HEADER.size :] == data


@given(U32, U32, st.binary(max_size=64))
def test_option_reply_round_trip(option, reply, data):
    packed = handshake.pack_option_reply(option, reply, data)
    head = packed[: handshake.OPTION_REPLY_HEADER.size]
    header = handshake.parse_option_reply_header(head, option)
    assert header == handshake.OptionReplyHeader(option, reply, len(data))
    assert header.is_error == (reply >= 2**31)
    with pytest.raises(ProtocolError, match="instead of"):
        handshake.parse_option_reply_header(head, option ^ 1)


@given(st.builds(handshake.InfoRequest, TEXT, st.lists(U16, max_size=20).map(tuple)))
def test_info_request_round_trip(request):
    assert handshake.parse_info_request(handshake.pack_info_request(request)) == request


@given(st.builds(handshake.MetaRequest, TEXT, st.lists(TEXT, max_size=5).map(tuple)))
def test_meta_request_round_trip(request):
    assert handshake.parse_meta_request(handshake.pack_meta_request(request)) == request


@given(U32, TEXT)
def test_meta_context_round_trip(context_id, name):
    packed = handshake.pack_meta_context(context_id, name)
    assert handshake.parse_meta_context(packed) == (context_id, name)


@given(TEXT, TEXT)
def test_server_round_trip(name, description):
    assert handshake.parse_server(handshake.pack_server(name, description)) == (name, description)


@given(U64, U16, TEXT, TEXT, st.integers(0, 16), st.integers(0, 4))
def test_infos_round_trip_in_any_order_and_with_unknown_ones(
    size, flags, name, description, minimum_bits, more_bits
):
    sizes = handshake.BlockSizes(1 << minimum_bits, 1 << (minimum_bits + more_bits), 0xFFFFFFFF)
    payloads = [
        b"\x77\x77whatever",
        handshake.pack_info_block_size(sizes),
        handshake.pack_info_text(Info.DESCRIPTION, description),
        handshake.pack_info_text(Info.NAME, name),
        handshake.pack_info_export(size, flags),
    ]
    expected = handshake.ExportInfo(size, flags, name, description, sizes)
    assert handshake.parse_infos(payloads) == expected
    assert handshake.parse_infos(reversed(payloads)) == expected


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
        (handshake.parse_greeting, handshake.pack_greeting(3)),
        (handshake.parse_option_header, handshake.pack_option(Option.LIST)),
        (
            lambda data: handshake.parse_option_reply_header(data, Option.LIST),
            handshake.pack_option_reply(Option.LIST, Reply.ACK),
        ),
        (
            handshake.parse_info_request,
            handshake.pack_info_request(handshake.InfoRequest("disk", (0, 3))),
        ),
        (
            handshake.parse_meta_request,
            handshake.pack_meta_request(handshake.MetaRequest("disk", ("base:", "x:y"))),
        ),
        (lambda data: handshake.parse_infos([data]), handshake.pack_info_export(1, 2)),
        (
            lambda data: handshake.parse_infos([handshake.pack_info_export(1, 2), data]),
            handshake.pack_info_block_size(handshake.BlockSizes()),
        ),
    ],
)
def test_every_truncation_is_refused(parse, packed):
    parse(packed)
    for length in range(len(packed)):
        with pytest.raises(ProtocolError):
            parse(packed[:length])


@pytest.mark.parametrize(
    ("sizes", "reason"),
    [
        ((0, 4096, 65536), "minimum block size is 0"),
        ((3, 4096, 65536), "minimum block size is 3"),
        ((1 << 17, 1 << 17, 1 << 20), "minimum block size is 131072"),
        ((512, 256, 65536), "preferred block size is 256"),
        ((512, 4097, 65536), "preferred block size is 4097"),
        ((512, 4096, 100), "maximum block size is 100"),
    ],
)
def test_impossible_block_sizes_are_refused(sizes, reason):
    block_size = handshake.pack_info_block_size(handshake.BlockSizes(*sizes))
    with pytest.raises(ProtocolError, match=reason):
        handshake.parse_infos([handshake.pack_info_export(1, 1), block_size])


def test_an_export_without_size_is_refused():
    with pytest.raises(ProtocolError, match="size"):
        handshake.parse_infos([handshake.pack_info_text(Info.NAME, "disk")])


def test_more_queries_than_data_are_refused_before_anything_is_built():
    packed = bytearray(handshake.pack_meta_request(handshake.MetaRequest("disk", ("a:b",))))
    packed[8:12] = b"\xff\xff\xff\xff"
    with pytest.raises(ProtocolError, match="4294967295 queries"):
        handshake.parse_meta_request(packed)


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"HTTP/1.1 400 Bad R", "not an NBD server"),
        (b"NBDMAGIC\0\0\x42\x02\x81\x86\x12\x53\0\0", "oldstyle"),
        (b"NBDMAGIC" + b"\1" * 10, "unknown magic"),
    ],
)
def test_other_servers_are_told_apart(data, reason):
    with pytest.raises(ProtocolError, match=reason):
        handshake.parse_greeting(data)


def test_names_for_messages():
    assert handshake.reply_name(Reply.ERR_UNKNOWN) == "NBD_REP_ERR_UNKNOWN"
    assert handshake.reply_name(0x80001234) == "0x80001234"
    assert handshake.option_name(Option.GO) == "NBD_OPT_GO"
    assert handshake.option_name(4711) == "4711"
