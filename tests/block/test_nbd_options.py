"""Opening an export by URI and by the options of blockdev-add, against a real server."""

import json
import socket
import subprocess
import time
from pathlib import Path

import pytest

from mirrorgui.block.nbd import NbdNode
from mirrorgui.block.open import How, open_image
from mirrorgui.errors import ImageRefused, InvalidInput


def listens(path):
    """The socket's file is there a moment before its server listens."""
    with socket.socket(socket.AF_UNIX) as probe:
        return probe.connect_ex(str(path)) == 0


@pytest.fixture
def served(tmp_path):
    """A socket on which qemu-nbd serves 1 MiB that begins with 'image'."""
    image, path = tmp_path / "image.raw", tmp_path / "nbd.sock"
    image.write_bytes(b"image".ljust(1 << 20, b"\0"))
    command = ["qemu-nbd", "-k", str(path), "-f", "raw", "-x", "disk", "-t", str(image)]
    with subprocess.Popen(command) as process:
        while not listens(path) and process.poll() is None:
            time.sleep(0.01)
        yield path
        process.terminate()


def first_bytes(node):
    found = bytearray(5)
    try:
        node.read_into(0, found)
    finally:
        node.close()
    return bytes(found)


def test_a_uri_opens_the_export_behind_the_probed_format(served):
    uri = f"nbd+unix:///disk?socket={served}"
    node = open_image(uri)
    assert node.name == uri
    assert first_bytes(node) == b"image"


def test_the_options_of_blockdev_add_open_it(served: Path):
    server = {"type": "unix", "path": str(served)}
    options = {"driver": "nbd", "server": server, "export": "disk", "reconnect-delay": 0}
    node = open_image("json:" + json.dumps(options), how=How("source", read_only=True))
    assert isinstance(node, NbdNode)
    assert node.read_only
    assert first_bytes(node) == b"image"


def test_a_missing_server_is_refused_by_name(tmp_path):
    uri = f"nbd+unix:///?socket={tmp_path}/none.sock"
    with pytest.raises(ImageRefused, match="cannot connect") as refused:
        open_image(uri, how=How("target"))
    assert refused.value.field == "target"


@pytest.mark.parametrize(
    ("server", "field"),
    [
        ({"type": "vsock"}, "source.server.type"),
        ({"type": "unix"}, "source.server.path"),
        ({"type": "inet", "port": "1"}, "source.server.host"),
        ({"type": "inet", "host": "localhost", "port": "ssh"}, "source.server.port"),
        ({"type": "inet", "host": "localhost", "port": 70000}, "source.server.port"),
        ({"type": "unix", "path": "/x", "host": "y"}, "source.server.host"),
    ],
)
def test_wrong_server_options_are_named(server, field):
    tree = {"driver": "nbd", "server": server}
    with pytest.raises(InvalidInput) as refused:
        open_image(tree, how=How("source"))
    assert refused.value.field == field
