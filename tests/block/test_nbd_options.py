"""From a URI or the options of ``blockdev-add`` to an open NBD node."""

import json

import pytest

from mirrorgui.block.nbd import NbdNode
from mirrorgui.block.open import How, open_image
from mirrorgui.errors import ImageRefused, InvalidInput
from mirrorgui.nbd.uri import NbdAddress
from mirrorgui.units import MiB
from tests.nbd.support import serving


def unix(server, change=()):
    path = server.address.socket_path
    return {
        "driver": "nbd",
        "server": {"type": "unix", "path": path},
        "export": "disk",
        "reconnect-delay": 0,
        **dict(change),
    }


def test_a_uri_opens_the_export_and_its_format_is_recognised():
    with serving(1 * MiB) as server:
        node = open_image(server.uri("disk"))
        try:
            assert node.size == 1 * MiB
            node.write(4096, b"here")
        finally:
            node.close()


@pytest.mark.parametrize("as_json", [False, True])
def test_a_unix_server_is_named_by_options(as_json):
    with serving(1 * MiB) as server:
        options = unix(server)
        spec = f"json:{json.dumps(options)}" if as_json else options
        node = open_image(spec, how=How(read_only=True))
        assert isinstance(node, NbdNode)
        assert node.address == NbdAddress(server.address.socket_path, export="disk")
        assert node.read_only
        node.close()


def test_an_internet_server_is_named_by_options():
    with serving(1 * MiB, address=NbdAddress(host="127.0.0.1", port=0)) as server:
        place = {"type": "inet", "host": "127.0.0.1", "port": str(server.address.port)}
        node = open_image({"driver": "nbd", "server": place, "export": "disk"})
        assert node.size == 1 * MiB
        node.close()


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"reconnect-delay": -1}, "target.reconnect-delay"),
        ({"server": {"type": "fd"}}, "target.server.type"),
        ({"server": {"type": "unix"}}, "target.server.path"),
        ({"server": {"host": "h", "port": "http"}}, "target.server.port"),
        ({"server": {"host": "h", "port": "70000"}}, "target.server.port"),
        ({"server": {"type": "unix", "path": "/s", "host": "h"}}, "target.server.host"),
        ({"export": 5}, "target.export"),
        ({"colour": "red"}, "target.colour"),
    ],
)
def test_a_wrong_option_is_refused_by_its_name(change, field):
    with serving(1 * MiB) as server, pytest.raises(InvalidInput) as refused:
        open_image(unix(server, change), how=How("target"))
    assert refused.value.field == field


def test_a_uri_that_is_none_is_refused_by_the_name_of_the_image():
    with pytest.raises(InvalidInput) as refused:
        open_image("nbd://host/disk?colour=red", how=How("target"))
    assert refused.value.field == "target"


def test_a_server_that_is_not_there_is_refused_with_the_options_name(tmp_path):
    with pytest.raises(ImageRefused) as refused:
        open_image(f"nbd+unix:///disk?socket={tmp_path}/s", how=How("source"))
    assert refused.value.field == "source"
