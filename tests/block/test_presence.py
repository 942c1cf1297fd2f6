import contextlib
import os
from pathlib import Path

import pytest

from mirrorgui.block.file import FileNode
from mirrorgui.block.memory import MemoryNode
from mirrorgui.block.node import BlockNode
from mirrorgui.block.open import open_image
from mirrorgui.block.presence import Presence
from mirrorgui.block.raw import RawNode
from mirrorgui.errors import BlockIOError
from mirrorgui.units import MiB
from tests.block.conftest import run


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "t.raw"
    path.write_bytes(bytes(8192))
    return path


def loss(node: BlockNode, harm: object = None) -> str:
    presence = Presence(node)
    assert presence.loss() == ""
    if callable(harm):
        harm()
    try:
        return presence.loss()
    finally:
        node.close()


def test_a_file_that_is_where_it_was_is_no_loss(path: Path) -> None:
    assert loss(FileNode(path)) == ""
    assert loss(MemoryNode(8192)) == ""


def test_a_link_that_leads_to_it_is_as_good(path: Path) -> None:
    link = path.with_name("link")
    link.symlink_to(path)
    assert loss(FileNode(link)) == ""
    assert "renamed or replaced" in loss(FileNode(link), link.unlink)


def test_a_file_that_is_gone_elsewhere_or_shorter_is_a_loss(path: Path) -> None:
    assert "was cut short" in loss(FileNode(path), lambda: os.truncate(path, 8191))
    path.write_bytes(bytes(8192))
    other = path.with_name("other")
    assert "renamed or replaced" in loss(FileNode(path), lambda: path.rename(other))
    assert "was removed" in loss(FileNode(other), other.unlink)


def test_a_longer_file_is_no_loss(path: Path) -> None:
    assert loss(FileNode(path), lambda: os.truncate(path, 10000)) == ""


def test_what_was_cut_once_stays_lost(path: Path) -> None:
    node = FileNode(path)
    presence = Presence(node)
    os.truncate(path, 0)
    presence.sample()
    os.truncate(path, 8192)
    assert "was cut short" in presence.loss()
    node.close()


def test_only_the_part_that_is_used_must_be_there(path: Path) -> None:
    def used(offset: int, size: int) -> BlockNode:
        return RawNode(RawNode(FileNode(path), offset=offset), size=size)

    assert loss(used(0, 4096), lambda: os.truncate(path, 4096)) == ""
    os.truncate(path, 8192)
    assert "was cut short" in loss(used(512, 4096), lambda: os.truncate(path, 4096))


@pytest.mark.interop
def test_the_file_of_a_format_is_whole_while_it_grows(tmp_path: Path) -> None:
    path = tmp_path / "t.qcow2"
    run("qemu-img", "create", "-q", "-f", "qcow2", path, "64M")
    node = open_image(path)
    presence = Presence(node)
    for offset in range(0, 8 * MiB, MiB):
        node.write(offset, b"x" * MiB)
        presence.sample()
    assert presence.loss() == ""
    os.truncate(path, 4 * MiB)
    assert presence.loss() == f"{path} was cut short by another program"
    os.truncate(path, 64 * MiB)
    assert "cut short" in presence.loss()
    with contextlib.suppress(BlockIOError):
        node.close()


@pytest.mark.interop
@pytest.mark.parametrize("raw", ["on", "off"])
def test_the_external_data_file_must_be_there_too(tmp_path: Path, raw: str) -> None:
    path, data, other = tmp_path / "t.qcow2", tmp_path / "data", tmp_path / "other"
    options = f"data_file={data},data_file_raw={raw}"

    def made() -> BlockNode:
        run("qemu-img", "create", "-q", "-f", "qcow2", "-o", options, path, "8M")
        node = open_image(path)
        node.write(0, b"x" * MiB)
        node.write(6 * MiB, b"x" * MiB)
        node.flush()
        return node

    assert loss(made()) == ""
    assert loss(made(), lambda: data.rename(other)) == f"{data} was renamed or replaced"
    assert loss(made(), data.unlink) == f"{data} was removed by another program"
    assert (
        loss(made(), lambda: os.truncate(data, MiB)) == f"{data} was cut short by another program"
    )
    assert loss(made(), path.unlink) == f"{path} was removed by another program"
