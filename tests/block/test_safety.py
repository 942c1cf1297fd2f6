"""The safety table, on real files, links, loop devices and mounts."""

import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from mirrorgui.block import safety
from mirrorgui.block.file import FileNode
from mirrorgui.block.identity import ImageIdentity, Kind, identify_node, identify_path
from mirrorgui.block.memory import MemoryNode
from mirrorgui.block.mounts import Mount
from mirrorgui.block.open import open_image
from mirrorgui.block.safety import (
    Finding,
    Severity,
    check_nodes,
    check_pair,
    check_paths,
    check_unchanged,
    refuse_if_unsafe,
)
from mirrorgui.block.safety_texts import exact_size, two_sizes, when
from mirrorgui.errors import ImageRefused
from mirrorgui.units import GiB, KiB, MiB
from tests.block.conftest import open_descriptors, run, stamped

SAME = "Source and target are the same image."


@pytest.fixture
def source(tmp_path: Path) -> Path:
    path = tmp_path / "source.raw"
    path.write_bytes(stamped(1 * MiB))
    return path


@pytest.fixture
def target(tmp_path: Path) -> Path:
    path = tmp_path / "target.raw"
    path.touch()
    os.truncate(path, 1 * MiB)
    return path


@pytest.fixture(autouse=True)
def nothing_is_left_open_or_changed(request: pytest.FixtureRequest) -> Iterator[None]:
    before = open_descriptors()
    yield
    assert open_descriptors() == before


def codes(findings: list[Finding]) -> list[str]:
    """What was found, hints left out: source and target lie on the same disk in every test."""
    return [finding.code for finding in findings if finding.severity is not Severity.HINT]


def the(findings: list[Finding], code: str) -> Finding:
    (one,) = (finding for finding in findings if finding.code == code)
    return one


def refusal(findings: list[Finding]) -> str:
    """The text of the one refusal."""
    (one,) = (finding for finding in findings if finding.severity is Severity.REFUSE)
    return one.text


def in_both_ways(source: Path | str, target: Path | str) -> list[Finding]:
    """Check by name and by open nodes, and expect the same refusals."""
    by_name = check_paths(str(source), str(target))
    nodes = [open_image(str(path), format="raw", how=PEEK) for path in (source, target)]
    by_node = check_nodes(*nodes)
    for node in nodes:
        node.close()
    refused = [
        [one for one in way if one.severity is Severity.REFUSE] for way in (by_name, by_node)
    ]
    assert refused[0] == refused[1]
    return by_name


PEEK = safety.How(read_only=True, force_share=True)


@contextmanager
def mounted(device: str, folder: Path) -> Iterator[Path]:
    folder.mkdir()
    run("mount", device, folder)
    try:
        yield folder
    finally:
        run("umount", folder)


# The same image, and images on one another


def test_a_free_target_of_the_same_size_is_fine(source: Path, target: Path) -> None:
    findings = in_both_ways(source, target)
    assert codes(findings) == []
    assert the(findings, "same-disk").text == "Same disk: expect half the speed."


@pytest.mark.parametrize("kind", ["path", "relative", "symlink", "hard link", "dotted"])
def test_the_same_image_by_another_name_is_refused(
    source: Path, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = source.parent
    other = folder / "other"
    names = {
        "path": str(source),
        "relative": "source.raw",
        "symlink": str(other),
        "hard link": str(other),
        "dotted": f"{folder}/./../{folder.name}/source.raw",
    }
    monkeypatch.chdir(folder)
    if kind == "symlink":
        other.symlink_to(source)
    elif kind == "hard link":
        other.hardlink_to(source)
    assert refusal(in_both_ways(source, names[kind])) == SAME


def test_json_names_of_the_same_image_are_refused(source: Path) -> None:
    spec = {"driver": "raw", "file": {"driver": "file", "filename": str(source)}}
    assert refusal(check_paths(str(source), spec)) == SAME


@pytest.mark.root
def test_the_same_image_through_a_bind_mount_is_refused(source: Path, tmp_path: Path) -> None:
    seen = tmp_path / "seen"
    seen.mkdir()
    run("mount", "--bind", source.parent, seen)
    try:
        assert refusal(in_both_ways(source, seen / "source.raw")) == SAME
    finally:
        run("umount", seen)


@pytest.mark.root
def test_a_loop_device_over_the_source_is_refused_either_way(
    source: Path, loop_device: Callable[..., str]
) -> None:
    device = loop_device(source)
    lies = "{} lies on {}. Writing to it would destroy the source while it is copied."
    assert refusal(in_both_ways(source, device)) == lies.format(device, source)
    assert refusal(in_both_ways(device, source)) == lies.format(device, source)


@pytest.mark.root
def test_a_loop_device_over_a_hard_link_and_one_over_a_loop_device_are_refused(
    source: Path, loop_device: Callable[..., str]
) -> None:
    link = source.parent / "link"
    link.hardlink_to(source)
    upper = loop_device(Path(loop_device(link)))
    assert "lies on" in refusal(in_both_ways(source, upper))
    assert "lies on" in refusal(in_both_ways(upper, source))


@pytest.mark.root
def test_two_loop_devices_over_one_file_are_refused(
    source: Path, loop_device: Callable[..., str]
) -> None:
    first, second = loop_device(source), loop_device(source)
    assert refusal(in_both_ways(first, second)) == SAME


@pytest.mark.root
def test_a_partition_and_its_disk_are_refused(
    tmp_path: Path, loop_device: Callable[..., str]
) -> None:
    path = tmp_path / "disk.raw"
    path.touch()
    os.truncate(path, 8 * MiB)
    disk = loop_device(path)
    part, other = f"{disk}p1", f"{disk}p2"
    run("addpart", disk, "1", "2048", "4096")
    run("addpart", disk, "2", "8192", "4096")
    try:
        assert f"{part} lies on {disk}" in refusal(check_paths(disk, part))
        assert f"{part} lies on {disk}" in refusal(check_paths(part, disk))
        assert f"{part} lies on {path}" in refusal(check_paths(str(path), part))
        assert codes(check_paths(part, other)) == ["erase-device"]
    finally:
        for number in "12":  # detaching the loop device would leave them
            run("delpart", disk, number)


@pytest.mark.root
def test_loop_devices_over_overlapping_parts_of_a_file_are_refused(
    source: Path, loop_device: Callable[..., str]
) -> None:
    half = str(512 * KiB)
    first = loop_device(source, "--sizelimit", half)
    second = loop_device(source, "--offset", half)
    assert codes(check_paths(first, second)) == ["erase-device"]
    whole, again = loop_device(source), loop_device(source, "--offset", half)
    assert "lies on" in refusal(check_paths(whole, second))
    assert refusal(check_paths(second, again)) == SAME


@pytest.mark.root
def test_a_file_on_a_file_system_on_the_other_image_is_refused(
    tmp_path: Path, loop_device: Callable[..., str]
) -> None:
    disk = tmp_path / "disk.raw"
    disk.touch()
    os.truncate(disk, 8 * MiB)
    run("mkfs.ext4", "-q", disk)
    device = loop_device(disk)
    with mounted(device, tmp_path / "mnt") as folder:
        inside = folder / "inside.raw"
        inside.write_bytes(stamped(64 * KiB))
        for lower in (disk, device):
            for pair in ((inside, lower), (lower, inside)):
                assert f"{inside} lies on {lower}" in refusal(check_paths(*map(str, pair)))
        new = folder / "new.raw"
        assert f"{new} lies on {disk}" in refusal(check_paths(str(disk), str(new)))


@pytest.mark.interop
def test_a_target_in_the_source_s_backing_chain_is_refused(tmp_path: Path) -> None:
    base, mid, top = (tmp_path / name for name in ("base.raw", "mid.qcow2", "top.qcow2"))
    run("qemu-img", "create", "-f", "raw", base, "1M")
    run("qemu-img", "create", "-f", "qcow2", "-F", "raw", "-b", base, mid)
    run("qemu-img", "create", "-f", "qcow2", "-F", "qcow2", "-b", "mid.qcow2", top)
    identities = {path: identify_path(path, "source", writing=False) for path in (base, mid, top)}
    found = check_pair(identities[top], identities[base])
    assert refusal(found) == (
        f"{base} is part of the source's backing chain (2 levels below). "
        "Copying onto it would corrupt the source."
    )
    found = check_pair(identities[mid], identities[top])
    assert refusal(found) == (
        f"{mid} is part of the target's backing chain (1 level below). "
        "Copying onto it would corrupt the source."
    )
    link = tmp_path / "link.raw"
    link.hardlink_to(base)
    assert (
        codes(check_pair(identities[top], identify_path(link, "target")))[0] == "in-backing-chain"
    )


def test_the_backing_chain_of_open_nodes_is_seen(source: Path) -> None:
    base = FileNode(source, read_only=True)
    top = MemoryNode(1 * MiB, backing=base)
    identity = identify_node(top)
    assert identity.chain == ((str(source), identify_node(base).place),)
    base.close()


def test_the_same_uri_is_the_same_image() -> None:
    findings = check_paths("nbd://host/disk", "nbd://host/disk")
    assert [finding.text for finding in findings] == [SAME]


# In use


@pytest.mark.root
def test_a_mounted_target_is_refused_with_the_place(
    source: Path, tmp_path: Path, loop_device: Callable[..., str]
) -> None:
    disk = tmp_path / "disk.raw"
    disk.touch()
    os.truncate(disk, 8 * MiB)
    run("mkfs.ext4", "-q", disk)
    device = loop_device(disk)
    with mounted(device, tmp_path / "mnt") as folder:
        for target in (device, disk):
            text = f"{target} is in use: mounted on {folder}. Unmount it first."
            assert text == refusal(check_paths(str(source), str(target)))
        warned = the(check_paths(device, str(source)), "source-mounted")
        assert warned.severity is Severity.WARN
    assert refusal(check_paths(str(source), str(disk))) == (
        f"{disk} is in use: used by {device}. Release it first."
    )


@pytest.mark.root
def test_a_loop_device_over_bytes_that_another_one_has_mounted_is_refused(
    source: Path, tmp_path: Path, loop_device: Callable[..., str]
) -> None:
    disk = tmp_path / "disk.raw"
    disk.touch()
    os.truncate(disk, 8 * MiB)
    run("mkfs.ext4", "-q", disk)
    first, second = loop_device(disk), loop_device(disk)
    with mounted(first, tmp_path / "mnt") as folder:
        text = f"{second} is in use: mounted on {folder}. Unmount it first."
        assert refusal(check_paths(str(source), second)) == text
    text = f"{second} is in use: used by {first}. Release it first."
    assert refusal(check_paths(str(source), second)) == text


@pytest.mark.root
def test_the_system_s_device_is_refused(source: Path) -> None:
    device = Path(run("findmnt", "-no", "SOURCE", "/").stdout.strip())
    if not device.is_block_device():
        pytest.skip("the root file system is on no block device")
    tmpfs = Path(f"/dev/shm/mirrorgui-test-{os.getpid()}.raw")
    tmpfs.write_bytes(bytes(512))
    try:
        text = f"{device} holds this computer's system. MirrorGUI will not write to it."
        assert text in [one.text for one in check_paths(str(tmpfs), str(device))]
        # Of a source that lies on it that is said, unless the device may not even be read.
        assert refusal(check_paths(str(source), str(device))).startswith((str(source), str(device)))
    finally:
        tmpfs.unlink()


def with_data_file(path: Path, data_file: Path) -> Path:
    """An image without content that names any file as the one for its data."""
    made = path.with_name("made.data")
    options = f"data_file={str(made).ljust(len(str(data_file)), 'x')}"
    run("qemu-img", "create", "-q", "-f", "qcow2", "-o", options, path, "1M")
    head = path.read_bytes()
    name = options.removeprefix("data_file=").encode()
    assert len(name) >= len(str(data_file))
    path.write_bytes(head.replace(name, str(data_file).encode().ljust(len(name), b"\0")))
    Path(name.decode()).unlink()
    return path


def test_a_data_file_that_holds_something_must_be_confirmed(source: Path, tmp_path: Path) -> None:
    precious = tmp_path / "precious.raw"
    precious.write_bytes(stamped(1 * MiB))
    image = with_data_file(tmp_path / "target.qcow2", precious)
    found = the(check_paths(str(source), str(image)), "overwrite")
    assert found.severity is Severity.CONFIRM
    assert f" and its data file {precious}. Their content will be lost." in found.text
    nodes = open_image(str(source)), open_image(str(image))
    try:
        assert the(check_nodes(*nodes), "overwrite") == found
    finally:
        for node in nodes:
            node.close()
    precious.write_bytes(b"")
    os.truncate(precious, 1 * MiB)
    assert "overwrite" not in codes(check_paths(str(source), str(image)))


@pytest.mark.root
def test_a_data_file_on_a_mounted_device_is_refused(
    source: Path, tmp_path: Path, loop_device: Callable[..., str]
) -> None:
    store = tmp_path / "store.raw"
    store.touch()
    os.truncate(store, 4 * MiB)
    device = loop_device(store)
    run("mkfs.ext4", "-q", "-F", device)
    image = with_data_file(tmp_path / "target.qcow2", Path(device))
    with mounted(device, tmp_path / "mnt") as folder:
        text = f"{device} is in use: mounted on {folder}. Unmount it first."
        assert text in [one.text for one in check_paths(str(source), str(image))]


@pytest.mark.root
def test_a_device_that_somebody_has_claimed_is_refused(
    source: Path, target: Path, loop_device: Callable[..., str]
) -> None:
    device = loop_device(target)
    fd = os.open(device, os.O_RDWR | os.O_EXCL)
    try:
        text = f"{device} is in use: claimed by the system. Unmount it first."
        assert refusal(check_paths(str(source), device)) == text
    finally:
        os.close(fd)
    assert Severity.REFUSE not in {one.severity for one in check_paths(str(source), device)}


@pytest.mark.root
def test_a_free_device_must_be_confirmed(
    source: Path, target: Path, loop_device: Callable[..., str]
) -> None:
    device = loop_device(target)
    found = the(check_paths(str(source), device), "erase-device")
    assert found.severity is Severity.CONFIRM
    assert found.text == f"All data on {target}, 1.0 MiB ({device}) will be lost."


@pytest.mark.root
def test_a_write_protected_device_is_refused(
    source: Path, target: Path, loop_device: Callable[..., str]
) -> None:
    device = loop_device(target, "--read-only")
    assert refusal(check_paths(str(source), device)) == f"{device} is write-protected."


def test_a_target_that_another_writer_has_open_is_refused(source: Path, target: Path) -> None:
    node = FileNode(target)
    assert refusal(check_paths(str(source), str(target))) == (
        "target.raw is open in MirrorGUI itself."
    )
    node.close()


def test_a_source_that_another_writer_has_open_is_refused(source: Path, target: Path) -> None:
    node = FileNode(source)
    found = check_paths(str(source), str(target))
    assert the(found, "source-in-use").field == "source"
    assert refusal(found).startswith("Open for writing by MirrorGUI itself. Two writers destroy")
    node.close()


def test_our_own_locks_are_no_reason_to_refuse_open_nodes(source: Path, target: Path) -> None:
    nodes = FileNode(source), FileNode(target)
    assert codes(check_nodes(*nodes)) == []
    for node in nodes:
        node.close()


# Sizes, content, space


def test_a_smaller_target_is_refused_with_the_exact_difference(source: Path, target: Path) -> None:
    os.truncate(target, 1 * MiB - 4096)
    text = "Target is 4.0 KiB too small (1.0 MiB needed, 1020.0 KiB there)."
    assert refusal(check_paths(str(source), str(target))) == text


def test_a_larger_target_is_a_warning(source: Path, target: Path) -> None:
    os.truncate(target, 1 * MiB + 5000)
    found = the(check_paths(str(source), str(target)), "target-larger")
    assert found.severity is Severity.WARN
    assert found.text == "Target is 4.9 KiB (5,000 bytes) larger. The rest stays unchanged."


@pytest.mark.parametrize(
    ("size", "text"),
    [
        (0, "0 B"),
        (1000, "1000 B"),
        (4096, "4.0 KiB"),
        (GiB, "1.0 GiB"),
        (5000, "4.9 KiB (5,000 bytes)"),
        (GiB + 1, "1.0 GiB (1,073,741,825 bytes)"),
        (3 * GiB // 2, "1.5 GiB"),
    ],
)
def test_an_exact_size_loses_nothing(size: int, text: str) -> None:
    assert exact_size(size) == text


@pytest.mark.parametrize(
    ("one", "other", "texts"),
    [
        (64 * GiB, 64 * GiB - 10 * MiB, ("64.0 GiB", "63.99 GiB")),
        (64 * GiB, 64 * GiB - 4096, ("64.0 GiB", "63.999996 GiB")),
        (64 * GiB, 64 * GiB - 1, ("68,719,476,736 bytes", "68,719,476,735 bytes")),
        (600, 512, ("600 B", "512 B")),
    ],
)
def test_two_sizes_are_written_so_that_they_differ(
    one: int, other: int, texts: tuple[str, str]
) -> None:
    assert two_sizes(one, other) == texts


def test_content_must_be_confirmed_and_is_described(source: Path, target: Path) -> None:
    target.write_bytes(stamped(1 * MiB))
    found = the(in_both_ways(source, target), "overwrite")
    assert found.severity is Severity.CONFIRM
    clock = time.strftime("%H:%M", time.localtime(target.stat().st_mtime))
    assert found.text == (
        f"Overwrite target.raw (1.0 MiB, changed today {clock}). Its content will be lost."
    )


@pytest.mark.interop
def test_a_target_with_nothing_but_a_header_has_no_content(tmp_path: Path) -> None:
    path = tmp_path / "t.qcow2"
    run("qemu-img", "create", "-f", "qcow2", path, "1M")
    identity = identify_path(path, "target", writing=True)
    assert (identity.size, identity.is_empty) == (1 * MiB, True)
    run("qemu-io", "-c", "write 512k 512", path)
    assert not identify_path(path, "target", writing=True).is_empty


def test_times_are_told_as_people_do() -> None:
    noon = time.mktime((2024, 5, 10, 12, 0, 0, 0, 0, -1))
    assert when(noon - 60, noon) == "today 11:59"
    assert when(noon - 86400, noon) == "yesterday 12:00"
    assert when(noon - 3 * 86400, noon) == "2024-05-07 12:00"


def identity(**changes: object) -> ImageIdentity:
    plain = ImageIdentity("/x/target.raw", Kind.FILE, path="/x/target.raw", size=64 * GiB)
    return replace(plain, **changes)


def test_too_little_space_is_a_warning(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(safety, "_free_bytes", lambda _: 12 * GiB)
    found = check_pair(identity(), identity(path=str(tmp_path / "t"), stored=0))
    assert the(found, "low-space").text == (
        "May run out of space: up to 64.0 GiB needed, 12.0 GiB free. "
        "With Stop only when the target is full the mirror pauses then."
    )
    assert "low-space" not in codes(check_pair(identity(), identity(stored=60 * GiB)))
    assert "low-space" not in codes(check_pair(identity(), identity(kind=Kind.DEVICE)))


def test_a_fat_file_system_takes_no_large_file_and_no_hole() -> None:
    fat = Mount("/x", 0, "vfat", "/dev/sdb1", 0)
    assert "cannot store a file of 64.0 GiB" in refusal(check_pair(identity(), identity(mount=fat)))
    small = identity(size=1 * GiB, mount=fat)
    found = the(check_pair(replace(small, mount=None), small), "no-holes")
    assert found.text == (
        "This filesystem cannot store holes. The file will take the full 1.0 GiB."
    )


@pytest.mark.parametrize("kind", ["nfs4", "cifs", "fuse.sshfs", "9p"])
def test_where_locks_mean_nothing_a_warning_says_so(kind: str) -> None:
    remote = identity(mount=Mount("/x", 0, kind, "host:/x", 0))
    found = the(check_pair(identity(), remote), "locks-unchecked")
    assert found.severity is Severity.WARN
    assert found.text == "Locks cannot be checked here. Make sure nobody else uses this file."


# Names that lead nowhere, or elsewhere than before


def test_a_new_file_is_fine_and_its_folder_must_exist(source: Path, tmp_path: Path) -> None:
    assert codes(check_paths(str(source), str(tmp_path / "new.raw"))) == []
    found = check_paths(str(source), str(tmp_path / "none" / "new.raw"))
    assert refusal(found) == f"The folder {tmp_path}/none does not exist."
    found = check_paths(str(source), str(source / "new.raw"))
    assert refusal(found) == f"The folder {source} does not exist."


def test_unusable_images_are_findings_of_their_field(source: Path, tmp_path: Path) -> None:
    found = check_paths(str(tmp_path / "none"), str(tmp_path))
    assert [(one.code, one.field) for one in found] == [
        ("unusable", "source"),
        ("unusable", "target"),
    ]
    assert found[0].text == f"Cannot read {tmp_path}/none: No such file or directory."
    assert found[1].text == f"{tmp_path} is a folder. Choose an image file or a device."
    broken = tmp_path / "broken"
    broken.symlink_to("nowhere")
    assert "No such file" in refusal(check_paths(str(source), str(broken)))


@pytest.mark.interop
def test_a_format_that_no_driver_reads_is_a_finding(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "t.vdi"
    run("qemu-img", "create", "-f", "vdi", path, "1M")
    monkeypatch.setenv("PATH", str(tmp_path))
    assert "qemu-nbd, which is not installed" in refusal(check_paths(str(path), str(source)))
    found = check_paths(str(path), str(source), source_format="raw")
    assert "unusable" not in codes(found)


def test_a_file_that_was_exchanged_is_refused(target: Path) -> None:
    before = identify_path(target, "target")
    assert check_unchanged(before, identify_path(target, "target"), "target") == []
    target.write_bytes(b"changed")  # the same file, whatever is in it
    assert check_unchanged(before, identify_path(target, "target"), "target") == []
    (target.parent / "other").write_bytes(b"")
    (target.parent / "other").rename(target)
    found = check_unchanged(before, identify_path(target, "target"), "target")
    assert [one.text for one in found] == [
        "The file chosen before is gone. Choose the target again."
    ]


@pytest.mark.root
def test_a_device_that_was_exchanged_is_refused(
    source: Path, target: Path, loop_device: Callable[..., str]
) -> None:
    before = identify_path(loop_device(target), "target")
    assert before.device is not None
    now = replace(before, device=replace(before.device, serial="another"))
    found = check_unchanged(before, now, "target")
    assert [one.text for one in found] == [
        "The device chosen before is gone. Choose the target again."
    ]


def test_findings_forbid_a_start_by_their_severity() -> None:
    def finding(severity: Severity) -> Finding:
        return Finding(severity, "code", "target", f"It is {severity.value}.")

    values = {"target": "/x/t"}
    refuse_if_unsafe([finding(Severity.WARN), finding(Severity.HINT)], values)
    refuse_if_unsafe([finding(Severity.CONFIRM)], values, overwrite=True)
    for severity, overwrite in ((Severity.CONFIRM, False), (Severity.REFUSE, True)):
        with pytest.raises(ImageRefused) as caught:
            refuse_if_unsafe([finding(severity)], values, overwrite=overwrite)
        assert (caught.value.field, caught.value.value) == ("target", "/x/t")


def test_the_gravest_finding_comes_first(source: Path, target: Path) -> None:
    target.write_bytes(stamped(1 * MiB - 1))
    severities = [finding.severity for finding in check_paths(str(source), str(target))]
    assert severities == [Severity.REFUSE, Severity.CONFIRM, Severity.HINT]


def test_places_where_one_may_not_write_are_refused(
    source: Path, target: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "access", lambda *_: False)
    assert refusal(check_paths(str(source), str(target))) == (
        f"Cannot open {target} for writing: Permission denied."
    )
    new = target.parent / "new.raw"
    assert refusal(check_paths(str(source), str(new))) == f"Cannot create files in {new.parent}."
