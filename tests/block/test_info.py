import json
import os
from pathlib import Path

import pytest

from mirrorgui.block.file import FileNode
from mirrorgui.block.info import image_info, node_info
from mirrorgui.block.memory import MemoryNode
from mirrorgui.errors import ImageRefused
from tests.block.conftest import open_descriptors, run, stamped

pytestmark = pytest.mark.interop

SAME = (
    "filename",
    "format",
    "virtual-size",
    "actual-size",
    "cluster-size",
    "backing-filename",
    "full-backing-filename",
    "dirty-flag",
    "encrypted",
)


def of_qemu(path: Path) -> dict[str, object]:
    told = json.loads(run("qemu-img", "info", "--output=json", path).stdout)
    return {name: told[name] for name in SAME if name in told}


def test_a_raw_image_is_described_as_qemu_img_does(tmp_path: Path) -> None:
    path = tmp_path / "a.raw"
    path.write_bytes(stamped(8192))
    os.truncate(path, 1 << 20)
    # qemu-img says false where we say nothing: raw knows no dirty flag
    assert {**image_info(path).as_qemu(), "dirty-flag": False} == of_qemu(path)


def test_a_qcow2_chain_is_described_as_qemu_img_does(tmp_path: Path) -> None:
    run("qemu-img", "create", "-f", "raw", tmp_path / "base.raw", "3M")
    mid, top = tmp_path / "mid.qcow2", tmp_path / "top.qcow2"
    run("qemu-img", "create", "-f", "qcow2", "-F", "raw", "-b", "base.raw", mid)
    command = ("-o", "cluster_size=4k", "-F", "qcow2", "-b", mid, top, "5M")
    run("qemu-img", "create", "-f", "qcow2", *command)
    info = image_info(top)
    assert info.as_qemu() == of_qemu(top)
    assert [(one.format, one.virtual_size) for one in info.chain] == [
        ("qcow2", 5 << 20),
        ("qcow2", 3 << 20),
        ("raw", 3 << 20),
    ]
    assert info.chain[1].full_backing_filename == str(tmp_path / "base.raw")


def test_a_missing_backing_file_is_told_and_the_rest_as_well(tmp_path: Path) -> None:
    top = tmp_path / "top.qcow2"
    run("qemu-img", "create", "-u", "-f", "qcow2", "-F", "raw", "-b", "gone.raw", top, "5M")
    info = image_info(top)
    assert (info.virtual_size, info.backing, info.backing_filename) == (5 << 20, None, "gone.raw")
    assert info.backing_error == f"Cannot read {tmp_path}/gone.raw: No such file or directory."


def test_a_chain_that_bites_its_tail_is_told(tmp_path: Path) -> None:
    a, b = tmp_path / "a.qcow2", tmp_path / "b.qcow2"
    for one, other in ((a, b), (b, a)):
        run("qemu-img", "create", "-u", "-f", "qcow2", "-F", "qcow2", "-b", other, one, "5M")
    assert "backing chain" in image_info(a).chain[-1].backing_error


def test_dirty_and_encrypted_are_told(tmp_path: Path) -> None:
    path = tmp_path / "a.qcow2"
    run("qemu-img", "create", "-f", "qcow2", path, "1M")
    with path.open("r+b") as stream:
        stream.seek(32)
        stream.write(b"\0\0\0\2")  # LUKS
        stream.seek(79)
        stream.write(b"\1")
    info = image_info(path)
    assert (info.encrypted, info.dirty_flag) == (True, True)


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ((4, b"\0\0\0\7"), "version 7 is not known"),
        ((20, b"\0\0\0\77"), "63 cluster bits are not allowed"),
        ((8, b"\xff" * 12), "the name of the backing file is out of bounds"),
    ],
)
def test_a_damaged_header_is_refused(tmp_path: Path, change: tuple[int, bytes], text: str) -> None:
    path = tmp_path / "a.qcow2"
    run("qemu-img", "create", "-f", "qcow2", path, "1M")
    with path.open("r+b") as stream:
        stream.seek(change[0])
        stream.write(change[1])
    with pytest.raises(ImageRefused) as caught:
        image_info(path, field="source")
    assert caught.value.reason == f"{path} is not a sound qcow2 image: {text}."


def test_a_header_cut_short_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.qcow2"
    path.write_bytes(b"QFI\xfb\0\0\0\3")
    with pytest.raises(ImageRefused, match="cut short"):
        image_info(path)


def test_other_formats_are_named(tmp_path: Path) -> None:
    path = tmp_path / "a.vdi"
    run("qemu-img", "create", "-f", "vdi", path, "1M")
    info = image_info(path)
    assert (info.format, info.virtual_size) == ("vdi", None)
    assert "virtual-size" not in info.as_qemu()


def test_looking_disturbs_nobody_and_leaves_nothing_open(tmp_path: Path) -> None:
    path = tmp_path / "a.raw"
    path.write_bytes(stamped(8192))
    node = FileNode(path)
    before = open_descriptors()
    assert image_info(path).virtual_size == 8192
    assert open_descriptors() == before
    node.close()


def test_the_format_can_be_named(tmp_path: Path) -> None:
    path = tmp_path / "a.qcow2"
    run("qemu-img", "create", "-f", "qcow2", path, "1M")
    info = image_info(path, format="raw")
    assert (info.format, info.virtual_size) == ("raw", path.stat().st_size)


def test_a_missing_image_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ImageRefused, match="No such file"):
        image_info(tmp_path / "none")


def test_an_open_node_tells_its_chain() -> None:
    base = MemoryNode(4096, name="base")
    info = node_info(MemoryNode(8192, name="top", backing=base))
    assert [(one.filename, one.virtual_size) for one in info.chain] == [
        ("top", 8192),
        ("base", 4096),
    ]
    assert info.backing_filename == "base"
