"""Targets that are made, and taken away again."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from mirrorgui.block.creation import TargetCreation
from mirrorgui.block.lease import Lease
from mirrorgui.block.memory import MemoryNode
from mirrorgui.block.naming import Named, format_of, name_of
from mirrorgui.block.open import How, open_image
from mirrorgui.block.targets import create_target, plan_target
from mirrorgui.errors import ImageRefused, InvalidInput
from mirrorgui.units import KiB, MiB
from tests.block.conftest import open_descriptors, run, stamped

pytestmark = pytest.mark.interop


@pytest.fixture(autouse=True)
def no_descriptor_is_left_open() -> Iterator[None]:
    before = open_descriptors()
    yield
    assert open_descriptors() == before


def told(path: Path) -> dict[str, object]:
    answer: dict[str, object] = json.loads(run("qemu-img", "info", "--output=json", path).stdout)
    return answer


# Planning


@pytest.mark.parametrize(
    ("creation", "form", "field"),
    [
        (TargetCreation(cluster_size=65536), "raw", "cluster_size"),
        (TargetCreation(lazy_refcounts=False), "raw", "lazy_refcounts"),
        (TargetCreation(preallocation="off"), "vmdk", "preallocation"),
        (TargetCreation(cluster_size=100), "qcow2", "cluster_size"),
        (TargetCreation(preallocation="some"), "qcow2", "preallocation"),
        (TargetCreation(version=2, extended_l2=True), "qcow2", "extended_l2"),
        (TargetCreation(), "luks", "target-format"),
        (TargetCreation(), "file", "target-format"),
        (TargetCreation(), "bogus", "target-format"),
    ],
)
def test_what_cannot_be_made_is_refused_before_anything_is_touched(
    creation: TargetCreation, form: str, field: str
) -> None:
    with pytest.raises(InvalidInput) as caught:
        plan_target(creation, form, 1 * MiB)
    assert caught.value.field == field


def test_only_qcow2_names_a_backing_file() -> None:
    below = Named("/base.raw", "raw")
    assert plan_target(TargetCreation(), "qcow2", 1 * MiB, below=below).backing_file == "/base.raw"
    for form in ("raw", "vmdk"):
        with pytest.raises(InvalidInput, match="cannot keep the backing file"):
            plan_target(TargetCreation(), form, 1 * MiB, below=below)


# Making


def test_a_raw_target_is_sparse_or_reserved(tmp_path: Path) -> None:
    for preallocation, blocks in (("off", 0), ("falloc", 2048), ("full", 2048)):
        path = tmp_path / preallocation
        plan = plan_target(TargetCreation(preallocation=preallocation), "raw", 1 * MiB)
        create_target(plan, str(path))
        assert (path.stat().st_size, path.stat().st_blocks) == (1 * MiB, blocks)


def test_a_qcow2_target_has_what_was_asked_for(tmp_path: Path) -> None:
    base, path = tmp_path / "base.raw", tmp_path / "t.qcow2"
    base.write_bytes(stamped(1 * MiB))
    creation = TargetCreation(cluster_size=4 * KiB, lazy_refcounts=True, refcount_bits=8)
    below = Named(str(base), "raw")
    create_target(plan_target(creation, "qcow2", 1 * MiB, below=below), str(path))
    run("qemu-img", "check", path)
    answer = told(path)
    assert (answer["cluster-size"], answer["backing-filename"]) == (4096, str(base))
    assert answer["backing-filename-format"] == "raw"
    run("qemu-img", "compare", "-f", "qcow2", "-F", "raw", path, base)


def test_a_target_and_its_data_file_are_removed_again(tmp_path: Path) -> None:
    path, data = tmp_path / "t.qcow2", tmp_path / "t.raw"
    plan = plan_target(TargetCreation(data_file=str(data)), "qcow2", 1 * MiB)
    created = create_target(plan, str(path))
    assert told(path)["format-specific"]["data"]["data-file"] == str(data)
    assert created.remove()
    assert list(tmp_path.iterdir()) == []
    assert not created.remove()


def test_another_file_of_the_same_name_is_not_removed(tmp_path: Path) -> None:
    path = tmp_path / "t.raw"
    created = create_target(plan_target(TargetCreation(), "raw", 1 * MiB), str(path))
    path.rename(tmp_path / "mine")
    path.write_bytes(b"other")
    assert not created.remove()
    assert path.read_bytes() == b"other"


def test_what_is_there_is_refused_or_put_aside(tmp_path: Path) -> None:
    path = tmp_path / "t.qcow2"
    path.write_bytes(b"old")
    plan = plan_target(TargetCreation(), "qcow2", 1 * MiB)
    with pytest.raises(ImageRefused, match="exists already"):
        create_target(plan, str(path))
    created = create_target(plan, str(path), replace=True)
    assert told(path)["format"] == "qcow2"
    assert created.remove()
    assert [each.read_bytes() for each in tmp_path.iterdir()] == [b"old"]
    created = create_target(plan, str(path), replace=True)
    created.keep()
    assert [each.name for each in tmp_path.iterdir()] == ["t.qcow2"]
    assert created.remove()
    assert list(tmp_path.iterdir()) == []


def test_what_was_put_aside_comes_back_when_making_fails(tmp_path: Path) -> None:
    path, data = tmp_path / "t.qcow2", tmp_path / "data"
    path.write_bytes(b"old")
    data.write_bytes(b"data")
    plan = plan_target(TargetCreation(data_file=str(data)), "qcow2", 1 * MiB)
    with pytest.raises(ImageRefused, match="exists already"):
        create_target(plan, str(path), replace=True)
    assert path.read_bytes() == b"old"
    assert {each.name for each in tmp_path.iterdir()} == {"t.qcow2", "data"}


def test_a_link_leads_to_the_file_that_is_replaced(tmp_path: Path) -> None:
    path, link = tmp_path / "t.raw", tmp_path / "link"
    path.write_bytes(b"old")
    link.symlink_to(path)
    created = create_target(plan_target(TargetCreation(), "raw", 4096), str(path), replace=True)
    assert (link.stat().st_size, link.is_symlink()) == (4096, True)
    assert created.remove()
    assert path.read_bytes() == b"old"


@pytest.mark.parametrize("form", ["vmdk", "vdi", "vhdx", "vpc", "qed", "qcow", "parallels"])
def test_other_formats_are_made_by_qemu_img(tmp_path: Path, form: str) -> None:
    path = tmp_path / "t"
    created = create_target(plan_target(TargetCreation(), form, 8 * MiB), str(path))
    assert told(path)["format"] == form
    with pytest.raises(ImageRefused, match="File exists"):
        create_target(plan_target(TargetCreation(), form, 8 * MiB), str(path))
    assert created.remove()


def test_without_qemu_img_the_package_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(ImageRefused, match="The package qemu-utils brings it"):
        create_target(plan_target(TargetCreation(), "vmdk", 8 * MiB), str(tmp_path / "t"))
    assert list(tmp_path.iterdir()) == []


def test_what_qemu_img_refuses_is_told_and_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(ImageRefused, match="Cannot create it: Unsupported VDI"):
        create_target(plan_target(TargetCreation(), "vdi", 1 << 60), str(tmp_path / "t"))
    assert list(tmp_path.iterdir()) == []


# Names under which others find what is open


def test_an_open_image_is_named_so_that_it_is_found_from_anywhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("a.raw").write_bytes(stamped(8192))
    run("qemu-img", "create", "-q", "-f", "qcow2", "a.qcow2", "1M")
    look = How(read_only=True)
    for spec, name in (
        ("a.raw", Named(f"{tmp_path}/a.raw", "raw")),
        ("a.qcow2", Named(f"{tmp_path}/a.qcow2", "qcow2")),
        ({"driver": "file", "filename": "a.raw"}, Named(f"{tmp_path}/a.raw", "raw")),
        (
            {"driver": "qcow2", "detect-zeroes": "on", "file": {"filename": "a.qcow2"}},
            Named(f"{tmp_path}/a.qcow2", "qcow2"),
        ),
    ):
        node = open_image(spec, how=look)
        assert name_of(node, "source") == name
        assert format_of(node) == name.format
        node.close()


def test_a_part_of_a_file_is_named_by_its_options(tmp_path: Path) -> None:
    path = tmp_path / "a.raw"
    path.write_bytes(stamped(8192))
    spec = {"driver": "raw", "offset": 1024, "size": 2048, "file": {"filename": str(path)}}
    node = open_image(spec, how=How(read_only=True))
    name = name_of(node, "source")
    node.close()
    node = open_image(name.filename, how=How(read_only=True))
    buffer = bytearray(2048)
    node.read_into(0, buffer)
    node.close()
    assert buffer == stamped(8192)[1024:3072]


def test_an_image_in_memory_has_no_such_name() -> None:
    with pytest.raises(ImageRefused, match="no name under which"):
        name_of(MemoryNode(4096, name="m"), "source")


# One image in two hands


def test_an_image_in_two_hands_is_closed_with_the_last(tmp_path: Path) -> None:
    path = tmp_path / "a.raw"
    path.write_bytes(stamped(8192))
    before = open_descriptors()
    lease = Lease(open_image(path, format="raw"))
    one, two = lease.handle(), lease.handle()
    assert (one.driver, one.size, one.read_only) == ("raw", 8192, False)
    one.close()
    one.close()
    buffer = bytearray(8192)
    two.read_into(0, buffer)
    assert buffer == stamped(8192)
    two.close()
    assert open_descriptors() == before
