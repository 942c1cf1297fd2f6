import os
from pathlib import Path

import pytest

from mirrorgui.block.file import FileNode
from mirrorgui.block.memory import MemoryNode
from mirrorgui.block.node import BlockNode
from mirrorgui.block.presence import Presence
from mirrorgui.block.raw import RawNode


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
