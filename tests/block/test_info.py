import json
import os
from pathlib import Path

import pytest

from mirrorgui.block.file import FileNode
from mirrorgui.block.info import image_info, node_info
from mirrorgui.block.memory import MemoryNode
from mirrorgui.errors import ImageError, ImageRefused
from tests.block.conftest import luks_image, open_descriptors, run, stamped

pytestmark = pytest.mark.interop


def of_qemu(path: Path | str) -> list[dict[str, object]]:
    told = run("qemu-img", "info", "--backing-chain", "--output=json", path).stdout
    images: list[dict[str, object]] = json.loads(told)
    return images


def assert_as_qemu_img(path: Path | str) -> None:
    ours = [one.as_qemu() for one in image_info(path).chain]
    assert ours == of_qemu(path)


def test_a_raw_image_is_described_as_qemu_img_does(tmp_path: Path) -> None:
    path = tmp_path / "a.raw"
    path.write_bytes(stamped(8192))
    os.truncate(path, 1 << 20)
    assert_as_qemu_img(path)


def test_a_qcow2_chain_is_described_as_qemu_img_does(tmp_path: Path) -> None:
    run("qemu-img", "create", "-f", "raw", tmp_path / "base.raw", "3M")
    mid, top = tmp_path / "mid.qcow2", tmp_path / "top.qcow2"
    run("qemu-img", "create", "-f", "qcow2", "-F", "raw", "-b", "base.raw", mid)
    command = ("-o", "cluster_size=4k", "-F", "qcow2", "-b", mid, top, "5M")
    run("qemu-img", "create", "-f", "qcow2", *command)
    assert_as_qemu_img(top)
    info = image_info(top)
    assert [(one.format, one.virtual_size) for one in info.chain] == [
        ("qcow2", 5 << 20),
        ("qcow2", 3 << 20),
        ("raw", 3 << 20),
    ]
    assert info.chain[1].full_backing_filename == str(tmp_path / "base.raw")


@pytest.mark.parametrize(
    "options",
    [
        "compat=0.10",
        "compat=1.1,lazy_refcounts=on,refcount_bits=64",
        "extended_l2=on,cluster_size=128k",
        "cluster_size=512,refcount_bits=1",
        "compression_type=zstd,preallocation=metadata",
        "data_file={folder}/data,data_file_raw=on",
        "data_file={folder}/data",
    ],
)
def test_every_feature_is_told_as_qemu_img_does(tmp_path: Path, options: str) -> None:
    path = tmp_path / "a.qcow2"
    run("qemu-img", "create", "-f", "qcow2", "-o", options.format(folder=tmp_path), path, "3M")
    assert_as_qemu_img(path)


def test_snapshots_and_bitmaps_are_told_as_qemu_img_does(tmp_path: Path) -> None:
    path = tmp_path / "a.qcow2"
    run("qemu-img", "create", "-f", "qcow2", path, "3M")
    for name in ("before", "größer", ""):
        run("qemu-img", "snapshot", "-c", name, path)
    run("qemu-img", "bitmap", "--add", path, "one")
    run("qemu-img", "bitmap", "--add", "--disable", "-g", "32768", path, "other one")
    assert_as_qemu_img(path)
    assert len(image_info(path).snapshots) == 3


@pytest.mark.parametrize("name", ["base.raw", "file:{folder}/base.raw", "../{last}/base.raw"])
def test_backing_names_are_found_as_qemu_img_does(tmp_path: Path, name: str) -> None:
    base, top = tmp_path / "base.raw", tmp_path / "top.qcow2"
    run("qemu-img", "create", "-f", "raw", base, "3M")
    name = name.format(folder=tmp_path, last=tmp_path.name)
    run("qemu-img", "create", "-f", "qcow2", "-F", "raw", "-b", name, top)
    ours, theirs = image_info(top).as_qemu(), of_qemu(top)
    assert ours == theirs[0]
    assert image_info(top).chain[1].virtual_size == 3 << 20


def test_a_backing_name_in_json_is_found(tmp_path: Path) -> None:
    base, top = tmp_path / "base.raw", tmp_path / "top.qcow2"
    run("qemu-img", "create", "-f", "raw", base, "3M")
    spec = {"driver": "raw", "size": 65536, "file": {"driver": "file", "filename": str(base)}}
    name = f"json:{json.dumps(spec)}"
    run("qemu-img", "create", "-f", "qcow2", "-F", "raw", "-b", name, top, "3M")
    assert image_info(top).as_qemu() == of_qemu(top)[0]
    assert image_info(top).chain[1].virtual_size == 65536


def test_an_image_by_a_link_finds_its_backing_file_from_the_links_folder(tmp_path: Path) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()
    run("qemu-img", "create", "-f", "raw", tmp_path / "base.raw", "3M")
    run(
        "qemu-img",
        "create",
        "-u",
        "-f",
        "qcow2",
        "-F",
        "raw",
        "-b",
        "base.raw",
        folder / "top.qcow2",
        "3M",
    )
    link = tmp_path / "link.qcow2"
    link.symlink_to(folder / "top.qcow2")
    assert_as_qemu_img(link)


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
    ("place", "change", "text"),
    [
        (4, b"\0\0\0\7", "version 7 of qcow2 is not known"),
        (20, b"\0\0\0\77", "63 cluster bits are not between 9 and 21"),
        (8, b"\xff" * 12, "the name of the backing file"),
        (60, b"\0\0\0\1\0\0\0\0\0\3\0\0", "the snapshot table"),
    ],
)
def test_a_damaged_header_is_refused(tmp_path: Path, place: int, change: bytes, text: str) -> None:
    path = tmp_path / "a.qcow2"
    run("qemu-img", "create", "-f", "qcow2", path, "1M")
    with path.open("r+b") as stream:
        stream.seek(place)
        stream.write(change)
    with pytest.raises(ImageRefused, match=text) as caught:
        image_info(path, field="source")
    assert (caught.value.field, caught.value.value) == ("source", str(path))


def test_a_header_cut_short_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.qcow2"
    path.write_bytes(b"QFI\xfb\0\0\0\3")
    with pytest.raises(ImageError, match="ends in the header"):
        image_info(path)


def test_a_snapshot_of_too_much_extra_data_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.qcow2"
    run("qemu-img", "create", "-f", "qcow2", path, "1M")
    run("qemu-img", "snapshot", "-c", "one", path)
    with path.open("r+b") as stream:
        stream.seek(64)
        table = int.from_bytes(stream.read(8), "big")
        stream.seek(table + 36)
        stream.write((5000).to_bytes(4, "big"))
    with pytest.raises(ImageError, match="5000 bytes of extra data") as caught:
        image_info(path)
    assert caught.value.offset == table


def test_other_formats_are_opened_or_at_least_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "a.vdi"
    run("qemu-img", "create", "-f", "vdi", path, "1M")
    info = image_info(path)
    assert (info.format, info.virtual_size) == ("vdi", 1 << 20)
    monkeypatch.setenv("PATH", str(tmp_path))
    info = image_info(path)
    assert (info.format, info.virtual_size) == ("vdi", None)
    assert "virtual-size" not in info.as_qemu()


FOREIGN = [
    *("vdi", "vhdx", "vpc", "qed", "parallels", "qcow"),
    *("vmdk", "vmdk subformat=twoGbMaxExtentFlat", "vmdk subformat=streamOptimized"),
    *("vdi static=on", "vhdx subformat=fixed"),
]


@pytest.mark.parametrize("made", FOREIGN)
def test_formats_of_qemus_are_told_as_qemu_img_does(
    tmp_path: Path, made: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    form, _, options = made.partition(" ")
    path = tmp_path / "image"
    run("qemu-img", "create", "-f", form, *(("-o", options) if options else ()), path, "3M")
    assert_as_qemu_img(path)
    monkeypatch.chdir(tmp_path)
    assert_as_qemu_img("image")


def test_a_luks_image_tells_what_its_header_tells_everybody(tmp_path: Path) -> None:
    path = luks_image(tmp_path / "a.luks", 3 << 20)
    assert_as_qemu_img(path)
    info = image_info(path)
    assert (info.virtual_size, info.encrypted) == (3 << 20, True)
    file = {"driver": "file", "filename": str(path)}
    assert image_info({"driver": "luks", "key-file": "/none", "file": file}) == info


@pytest.mark.parametrize("form", ["qed", "vmdk", "qcow"])
def test_what_lies_below_formats_of_qemus_is_told(tmp_path: Path, form: str) -> None:
    base_form = "vmdk" if form == "vmdk" else "qcow2"
    base, mid, top = tmp_path / "base", tmp_path / "mid", tmp_path / "top.qcow2"
    run("qemu-img", "create", "-f", base_form, base, "3M")
    run("qemu-img", "create", "-f", form, "-F", base_form, "-b", base, mid)
    run("qemu-img", "create", "-f", "qcow2", "-F", form, "-b", "mid", top)
    assert_as_qemu_img(top)
    assert [one.format for one in image_info(top).chain] == ["qcow2", form, base_form]
    base.unlink()
    assert f"Cannot read {base}" in image_info(top).chain[-1].backing_error


def test_a_damaged_image_of_qemus_formats_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.vmdk"
    path.write_bytes(b"KDMV" + bytes(70000))
    with pytest.raises(ImageRefused, match="L1 entry size is invalid") as caught:
        image_info(path, field="source")
    assert (caught.value.field, caught.value.value) == ("source", str(path))


@pytest.mark.parametrize("name", ["-f", "nbd:x", "a b"])
def test_a_file_of_a_strange_name_is_described(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.chdir(tmp_path)
    run("qemu-img", "create", "-f", "vdi", tmp_path / name, "3M")
    info = image_info(Path(name))
    assert (info.filename, info.format, info.virtual_size) == (name, "vdi", 3 << 20)


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
