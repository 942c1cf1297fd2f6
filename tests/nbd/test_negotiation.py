"""The server's handshake, option by option, as a client sees it on the wire."""

import pytest

from mirrorgui.block.memory import MemoryNode
from mirrorgui.nbd import handshake
from mirrorgui.nbd.constants import Command, Info, Option, Reply, TransmissionFlag
from mirrorgui.nbd.export import Export
from mirrorgui.units import KiB, MiB
from tests.nbd.support import RawClient, serving


class Bitmap:
    granularity = 65536

    def dirty_extents(self, offset, length):
        return [(length, False)]


@pytest.fixture
def server():
    small = Export(
        "small", MemoryNode(512, read_only=True), description="a small one", bitmaps={"b": Bitmap()}
    )
    with serving(1 * MiB, small) as server:
        yield server


@pytest.fixture
def client(server):
    with RawClient(server) as client:
        yield client


def info(client, option, export, *infos):
    request = handshake.InfoRequest(export, infos)
    return client.option(option, handshake.pack_info_request(request))


def contexts(client, option, export, *queries):
    request = handshake.MetaRequest(export, queries)
    replies = client.option(option, handshake.pack_meta_request(request))
    if replies[-1][0] != Reply.ACK:
        return replies[-1][0]
    return [handshake.parse_meta_context(data) for _, data in replies[:-1]]


def test_list_names_every_export_with_its_description(client):
    replies = client.option(Option.LIST)
    assert [handshake.parse_server(data) for _, data in replies[:-1]] == [
        ("disk", ""),
        ("small", "a small one"),
    ]
    assert replies[-1] == (Reply.ACK, b"")


def test_go_tells_size_flags_and_block_sizes_and_opens(client):
    replies = client.go("disk")
    found = handshake.parse_infos(data for reply, data in replies if reply == Reply.INFO)
    assert found.size == 1 * MiB
    assert found.block_sizes == handshake.BlockSizes(1, 64 * KiB, 32 * MiB)
    flags = TransmissionFlag(found.flags)
    assert TransmissionFlag.CAN_MULTI_CONN in flags
    assert TransmissionFlag.SEND_WRITE_ZEROES | TransmissionFlag.SEND_TRIM in flags
    assert TransmissionFlag.READ_ONLY not in flags
    assert TransmissionFlag.SEND_DF not in flags
    assert client.read(0, 4) == bytes(4)


def test_info_tells_name_and_description_and_goes_on(client):
    replies = info(client, Option.INFO, "small", Info.NAME, Info.DESCRIPTION, 99)
    found = handshake.parse_infos(data for reply, data in replies if reply == Reply.INFO)
    assert (found.name, found.description) == ("small", "a small one")
    assert TransmissionFlag.READ_ONLY in TransmissionFlag(found.flags)
    assert TransmissionFlag.SEND_TRIM not in TransmissionFlag(found.flags)
    assert info(client, Option.INFO, "disk")[-1][0] == Reply.ACK


def test_structured_replies_bring_the_do_not_fragment_flag(client):
    replies = client.go("disk", structured=True)
    found = handshake.parse_infos(data for reply, data in replies if reply == Reply.INFO)
    assert found.flags & TransmissionFlag.SEND_DF


def test_the_empty_name_means_the_default_export(client):
    replies = info(client, Option.GO, "", Info.NAME)
    assert handshake.parse_infos([d for r, d in replies if r == Reply.INFO]).name == "disk"


def test_an_unknown_export_is_refused_and_the_handshake_goes_on(client):
    replies = client.go("nothing")
    assert replies == [(Reply.ERR_UNKNOWN, b"export 'nothing' not present")]
    assert client.go("disk")[-1][0] == Reply.ACK


@pytest.mark.parametrize("zeroes", [True, False])
def test_export_name_opens_the_old_way(server, zeroes):
    with RawClient(server, flags=1 if zeroes else 3) as client:
        client.send(handshake.pack_option(Option.EXPORT_NAME, b"disk"))
        size, flags = handshake.EXPORT_REPLY.unpack(client.receive(10))
        assert size == 1 * MiB
        assert flags & TransmissionFlag.HAS_FLAGS
        if zeroes:
            assert client.receive(124) == bytes(124)
        assert client.read(0, 4) == bytes(4)


def test_export_name_works_without_fixed_newstyle_and_nothing_else_does(server):
    with RawClient(server, flags=2) as client:
        client.send(handshake.pack_option(Option.EXPORT_NAME, b"disk"))
        client.receive(10)
        assert client.read(0, 4) == bytes(4)
    with RawClient(server, flags=2) as client:
        client.send(handshake.pack_option(Option.LIST))
        assert client.is_closed_by_server()


@pytest.mark.parametrize("name", [b"nothing", b"\xff", b"a" * 5000, b"a" * 70000])
def test_export_name_hangs_up_on_what_it_cannot_open(server, name):
    with RawClient(server) as client:
        client.send(handshake.pack_option(Option.EXPORT_NAME, name))
        assert client.is_closed_by_server()


def test_abort_is_acknowledged_and_ends(client):
    assert client.option(Option.ABORT, b"whatever") == [(Reply.ACK, b"")]
    assert client.is_closed_by_server()


@pytest.mark.parametrize("option", [Option.EXTENDED_HEADERS, 4, 12, 0, 0xFFFFFFFF])
def test_unknown_options_are_refused_politely(client, option):
    assert client.option(option, b"data")[-1][0] == Reply.ERR_UNSUP
    assert client.go("disk")[-1][0] == Reply.ACK


def test_starttls_without_certificates_is_against_the_policy(client):
    assert client.option(Option.STARTTLS)[-1][0] == Reply.ERR_POLICY
    assert client.go("disk")[-1][0] == Reply.ACK


@pytest.mark.parametrize(
    ("option", "data"),
    [
        (Option.LIST, b"x"),
        (Option.STRUCTURED_REPLY, b"x"),
        (Option.STARTTLS, b"x"),
        (Option.INFO, b""),
        (Option.GO, b"\0\0\0\xff"),
        (Option.GO, b"\0\0\0\1\xff\0\0"),
        (Option.GO, b"\0\0\0\1a\0\2\0\0"),
        (Option.LIST_META_CONTEXT, b"\0\0\0\4disk"),
        (Option.SET_META_CONTEXT, b"\0\0\0\4disk\xff\xff\xff\xff"),
    ],
)
def test_malformed_options_are_invalid_and_the_handshake_goes_on(client, option, data):
    assert client.option(option, data)[-1][0] == Reply.ERR_INVALID
    assert client.go("disk")[-1][0] == Reply.ACK


def test_a_long_option_is_too_big_and_a_huge_one_ends_the_connection(client):
    assert client.option(Option.INFO, bytes(100_000))[-1][0] == Reply.ERR_TOO_BIG
    client.send(handshake.OPTION_HEADER.pack(handshake.OPTION_MAGIC, Option.INFO, 2 * MiB))
    assert client.is_closed_by_server()


@pytest.mark.parametrize("flags", [4, 0x80000000])
def test_unknown_client_flags_end_the_connection(server, flags):
    with RawClient(server, flags=flags) as client:
        assert client.is_closed_by_server()


def test_contexts_need_structured_replies(client):
    assert contexts(client, Option.LIST_META_CONTEXT, "disk") == Reply.ERR_INVALID
    assert contexts(client, Option.SET_META_CONTEXT, "disk") == Reply.ERR_INVALID


@pytest.mark.parametrize(
    ("queries", "names"),
    [
        ((), ["base:allocation", "qemu:dirty-bitmap:b"]),
        (("base:",), ["base:allocation"]),
        (("base:allocation",), ["base:allocation"]),
        (("qemu:",), ["qemu:dirty-bitmap:b"]),
        (("qemu:dirty-bitmap:",), ["qemu:dirty-bitmap:b"]),
        (("qemu:dirty-bitmap:b", "base:"), ["base:allocation", "qemu:dirty-bitmap:b"]),
        (("base:other", "x-mine:", "qemu:dirty-bitmap:c"), []),
    ],
)
def test_listing_contexts(client, queries, names):
    client.option(Option.STRUCTURED_REPLY)
    found = contexts(client, Option.LIST_META_CONTEXT, "small", *queries)
    assert found == [(0, name) for name in names]


def test_selecting_contexts_takes_full_names_only(client):
    client.option(Option.STRUCTURED_REPLY)
    assert contexts(client, Option.SET_META_CONTEXT, "small", "base:", "qemu:") == []
    found = contexts(
        client, Option.SET_META_CONTEXT, "small", "qemu:dirty-bitmap:b", "base:allocation"
    )
    assert [name for _, name in found] == ["base:allocation", "qemu:dirty-bitmap:b"]
    assert len({number for number, _ in found}) == 2
    assert contexts(client, Option.SET_META_CONTEXT, "nothing", "base:") == Reply.ERR_UNKNOWN


def test_contexts_of_another_export_do_not_count(client):
    client.option(Option.STRUCTURED_REPLY)
    contexts(client, Option.SET_META_CONTEXT, "small", "base:allocation")
    client.go("disk")
    assert client.error_of(Command.BLOCK_STATUS, 0, 512) == 22


def test_a_bitmap_can_come_and_go_between_clients(server):
    export = server.find("small")
    export.set_bitmap("later", Bitmap())
    export.set_bitmap("b", None)
    with RawClient(server) as client:
        client.option(Option.STRUCTURED_REPLY)
        found = contexts(client, Option.LIST_META_CONTEXT, "small", "qemu:")
    assert found == [(0, "qemu:dirty-bitmap:later")]
