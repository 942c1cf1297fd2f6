import struct
from pathlib import Path

import pytest

from mirrorgui.block.formats import FORMATS, LABELS, recognise, recognise_head
from mirrorgui.block.open import probe
from tests.block.conftest import run

HEADS = {
    "qcow": b"QFI\xfb\0\0\0\1",
    "qcow2": b"QFI\xfb\0\0\0\3",
    "qed": b"QED\0",
    "vmdk": b"KDMV",
    "vdi": bytes(64) + struct.pack("<I", 0xBEDA107F),
    "vhdx": b"vhdxfile",
    "vpc": b"conectix",
    "luks": b"LUKS\xba\xbe",
    "parallels": b"WithoutFreeSpace",
    "bochs": b"Bochs Virtual HD Image",
    "cloop": b"#!/bin/sh\n#V2.0 Format\nmodprobe cloop",
}


@pytest.mark.parametrize("name", HEADS)
def test_a_header_is_recognised(name: str) -> None:
    assert recognise_head(HEADS[name].ljust(512, b"\0")) == name
    assert name in LABELS


def test_every_format_is_tested_here() -> None:
    assert {known.name for known in FORMATS} == {*HEADS, "dmg"}


@pytest.mark.parametrize(
    "head",
    [
        b"COWD",
        b"# Disk DescriptorFile\nversion=1\n",
        b"# a comment\n\nversion=3\nCID=fffffffe\n",
    ],
)
def test_other_starts_of_vmdk_are_recognised(head: bytes) -> None:
    assert recognise_head(head) == "vmdk"


@pytest.mark.parametrize(
    "head",
    [
        b"",
        b"Q",
        b"QFI\xfb\0\0\0\0",
        bytes(512),
        b"#!/bin/sh\necho version=1\n",
        b"# only a comment",
        b"\xeb\x63\x90" + bytes(507) + b"\x55\xaa",
    ],
)
def test_what_is_none_of_them_is_raw(head: bytes) -> None:
    assert recognise(head, head) == "raw"


def test_footers_are_recognised() -> None:
    assert recognise(bytes(512), b"conectix".ljust(512, b"\0")) == "vpc"
    assert recognise(bytes(512), b"koly".ljust(512, b"\0")) == "dmg"


@pytest.mark.interop
@pytest.mark.parametrize(
    "name", ["raw", "qcow", "qcow2", "qed", "vmdk", "vdi", "vhdx", "vpc", "parallels"]
)
def test_what_qemu_img_makes_is_recognised(tmp_path: Path, name: str) -> None:
    path = tmp_path / "image"
    run("qemu-img", "create", "-f", name, path, "1M")
    assert probe(path) == name


@pytest.mark.interop
def test_a_fixed_vhd_is_recognised_by_its_footer(tmp_path: Path) -> None:
    path = tmp_path / "image"
    run("qemu-img", "create", "-f", "vpc", "-o", "subformat=fixed,force_size=on", path, "1M")
    assert probe(path) == "vpc"
