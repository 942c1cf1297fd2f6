"""Both ends of a mirror: targets that are made or there, over real chains, to the very end."""

import asyncio
import json
import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from mirrorgui.block.creation import TargetCreation, TargetMode
from mirrorgui.block.identity import identify_node, identify_path
from mirrorgui.block.mounts import Mount
from mirrorgui.block.node import BlockNode
from mirrorgui.block.open import How, open_image
from mirrorgui.block.safety import Finding, Severity
from mirrorgui.errors import ImageRefused, InvalidInput
from mirrorgui.mirror.options import MirrorOptions, SyncMode
from mirrorgui.mirror.snapshot import Outcome
from mirrorgui.pair import OpenPair, check_request, open_pair, undo_pair
from mirrorgui.session import (
    ExportRequest,
    MirrorRequest,
    MirrorSession,
    OverwriteRefused,
    WhenReady,
)
from mirrorgui.units import KiB, MiB
from tests.block.conftest import open_descriptors, run, stamped
from tests.running import PATIENCE_S, fingerprint

pytestmark = pytest.mark.interop

SIZE = 4 * MiB


@pytest.fixture(autouse=True)
def nothing_stays_open() -> Iterator[None]:
    before = open_descriptors()
    yield
    assert open_descriptors() == before


@pytest.fixture
def chain(tmp_path: Path) -> tuple[Path, Path, Path]:
    """Top, middle and base, each with data of its own."""
    base, mid, top = (tmp_path / name for name in ("base.raw", "mid.qcow2", "top.qcow2"))
    base.write_bytes(stamped(SIZE))
    create = ("qemu-img", "create", "-q", "-f", "qcow2", "-b")
    run(*create, base, "-F", "raw", mid)
    run(*create, "mid.qcow2", "-F", "qcow2", top)
    run("qemu-io", "-c", "write -P 1 1M 300k", "-c", "write -z 0 64k", mid)
    run("qemu-io", "-c", "write -P 2 1100k 100k", "-c", "write -P 3 3M 5k", top)
    return top, mid, base


def request_of(source: Path, target: Path, sync: SyncMode, **more: object) -> MirrorRequest:
    return MirrorRequest(
        str(source),
        str(target),
        when_ready=WhenReady.COMPLETE,
        options=MirrorOptions(sync=sync),
        **more,
    )


async def mirrored(request: MirrorRequest) -> MirrorSession:
    """Carry a mirror out to its end."""
    session = await MirrorSession.open(request)
    try:
        session.start()
        final = await asyncio.wait_for(session.wait(), PATIENCE_S)
        assert (final.outcome, final.error) == (Outcome.SWITCHED, None)
        await session.release_unused()
    finally:
        await session.close()
    return session


def layers(path: Path) -> list[dict[str, object]]:
    told = run("qemu-img", "info", "--backing-chain", "--output=json", path).stdout
    images: list[dict[str, object]] = json.loads(told)
    return images


def names(path: Path) -> list[str]:
    return [str(layer["filename"]) for layer in layers(path)]


def assert_same(one: Path, other: Path) -> None:
    run("qemu-img", "compare", one, other)


# A target that is made


@pytest.mark.asyncio
@pytest.mark.parametrize("target_format", [None, "qcow2", "raw"])
async def test_full_makes_an_image_that_stands_alone(
    chain: tuple[Path, Path, Path], tmp_path: Path, target_format: str | None
) -> None:
    target = tmp_path / "target"
    await mirrored(request_of(chain[0], target, SyncMode.FULL, target_format=target_format))
    (layer,) = layers(target)
    assert layer["format"] == (target_format or "qcow2")
    if target_format != "raw":
        run("qemu-img", "check", target)
    assert_same(chain[0], target)


@pytest.mark.asyncio
async def test_top_makes_an_overlay_over_the_same_backing_file(
    chain: tuple[Path, Path, Path], tmp_path: Path
) -> None:
    folder = tmp_path / "elsewhere"
    folder.mkdir()
    target = folder / "target.qcow2"
    await mirrored(request_of(chain[0], target, SyncMode.TOP))
    assert names(target) == [str(target), str(chain[1]), str(chain[2])]
    assert layers(target)[0]["backing-filename-format"] == "qcow2"
    run("qemu-img", "check", target)
    assert_same(chain[0], target)
    allocated = json.loads(run("qemu-img", "map", "--output=json", target).stdout)
    assert sum(part["length"] for part in allocated if part["depth"] == 0) <= 256 * KiB


@pytest.mark.asyncio
async def test_none_makes_an_overlay_over_the_source_itself(
    chain: tuple[Path, Path, Path], tmp_path: Path
) -> None:
    target = tmp_path / "target.qcow2"
    request = replace(request_of(chain[0], target, SyncMode.NONE), writable=True)
    request = replace(request, when_ready=WhenReady.WAIT)
    session = await MirrorSession.open(request)
    try:
        session.start()
        ready = asyncio.Event()
        session.events.listen(lambda event: ready.set() if "READY" in event.name else None)
        if session.job.snapshot().ready:
            ready.set()
        await asyncio.wait_for(ready.wait(), PATIENCE_S)
        session.drive.write(2 * MiB + 100, b"new" * 1000)
        session.job.complete()
        final = await asyncio.wait_for(session.wait(), PATIENCE_S)
        assert (final.outcome, final.error) == (Outcome.SWITCHED, None)
        await session.release_unused()
        # The source lies below the target now, and is used through it.
        session.drive.write(0, b"x" * 512)
        buffer = bytearray(3000)
        session.drive.read_into(2 * MiB + 100, buffer)
        assert buffer == b"new" * 1000
    finally:
        await session.close()
    assert names(target) == [str(target), *map(str, chain)]
    run("qemu-img", "check", target)
    first = run("qemu-io", "-r", "-c", "read -P 120 0 512", target).stdout
    assert "Pattern verification failed" not in first


@pytest.mark.asyncio
async def test_top_of_an_image_without_a_backing_file_is_full(tmp_path: Path) -> None:
    source, target = tmp_path / "s.qcow2", tmp_path / "t.qcow2"
    run("qemu-img", "create", "-q", "-f", "qcow2", source, "4M")
    run("qemu-io", "-c", "write -P 7 1M 100k", source)
    await mirrored(request_of(source, target, SyncMode.TOP))
    assert names(target) == [str(target)]
    assert_same(source, target)


@pytest.mark.asyncio
async def test_options_of_the_target_are_kept(
    chain: tuple[Path, Path, Path], tmp_path: Path
) -> None:
    target = tmp_path / "t.qcow2"
    creation = TargetCreation(cluster_size=4 * KiB, lazy_refcounts=True, refcount_bits=32)
    await mirrored(request_of(chain[0], target, SyncMode.TOP, creation=creation))
    top = layers(target)[0]
    data = top["format-specific"]["data"]
    assert (top["cluster-size"], data["lazy-refcounts"], data["refcount-bits"]) == (4096, True, 32)
    assert_same(chain[0], target)


@pytest.mark.asyncio
async def test_a_new_target_has_a_data_file(chain: tuple[Path, Path, Path], tmp_path: Path) -> None:
    target, data = tmp_path / "t.qcow2", tmp_path / "data.raw"
    creation = TargetCreation(data_file=str(data), data_file_raw=True)
    request = request_of(chain[0], target, SyncMode.FULL, target_format="qcow2", creation=creation)
    await mirrored(request)
    assert_same(chain[0], target)
    run("qemu-img", "compare", "-F", "raw", target, data)


@pytest.mark.asyncio
async def test_a_source_of_odd_length_fits_into_sectors(tmp_path: Path) -> None:
    source, target = tmp_path / "s.raw", tmp_path / "t.qcow2"
    source.write_bytes(stamped(1 * MiB + 777))
    request = request_of(source, target, SyncMode.FULL, target_format="qcow2")
    session = await mirrored(request)
    assert session.warnings == ()
    assert layers(target)[0]["virtual-size"] == 1 * MiB + 1024
    flat = tmp_path / "flat"
    run("qemu-img", "convert", "-O", "raw", target, flat)
    assert flat.read_bytes() == source.read_bytes() + bytes(1024 - 777)


def test_a_raw_target_cannot_keep_the_backing_file(
    chain: tuple[Path, Path, Path], tmp_path: Path
) -> None:
    before = fingerprint(tmp_path)
    request = request_of(chain[0], tmp_path / "t", SyncMode.TOP, target_format="raw")
    with pytest.raises(InvalidInput) as caught:
        open_pair(request)
    assert caught.value.field == "target-format"
    assert str(chain[1]) in caught.value.reason
    assert fingerprint(tmp_path) == before


def test_space_that_is_reserved_has_to_be_there(
    chain: tuple[Path, Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mirrorgui.block.safety._free_bytes", lambda image: 1 * MiB)
    for preallocation, severity in ((None, Severity.WARN), ("falloc", Severity.REFUSE)):
        creation = TargetCreation(preallocation=preallocation)
        request = request_of(chain[0], tmp_path / "t", SyncMode.FULL, creation=creation)
        found = {one.code: one.severity for one in check_request(request)}
        assert found["low-space"] is severity


def test_formats_that_grow_need_no_holes_and_may_be_longer_than_their_filesystem_stores(
    chain: tuple[Path, Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mirrorgui.block.safety._FAT_LIMIT", 1 * MiB)
    fat = Mount(str(tmp_path), 1, "vfat", "/dev/sdx1", 0)
    monkeypatch.setattr("mirrorgui.block.identity.mount_of", lambda path: fat)
    for form, severity in (("raw", Severity.REFUSE), ("qcow2", Severity.WARN)):
        request = request_of(chain[0], tmp_path / "t", SyncMode.FULL, target_format=form)
        found = {one.code: one.severity for one in check_request(request)}
        assert found["file-too-long"] is severity
    fat = replace(fat, type="exfat")
    for form, warned in (("raw", True), ("qcow2", False)):
        request = request_of(chain[0], tmp_path / "t", SyncMode.FULL, target_format=form)
        assert ("no-holes" in [one.code for one in check_request(request)]) is warned


def test_a_broken_chain_is_found_before_anything_is_made(
    chain: tuple[Path, Path, Path], tmp_path: Path
) -> None:
    target = tmp_path / "t.qcow2"
    run("qemu-img", "create", "-q", "-u", "-f", "qcow2", "-b", "gone", "-F", "raw", target, "4M")
    warned = [one.text for one in check_request(request_of(chain[0], target, SyncMode.FULL))]
    text = f"Could not open backing file {tmp_path}/gone: No such file or directory."
    assert f"{text} The switch needs it." in warned
    chain[2].unlink()
    request = request_of(chain[0], tmp_path / "new", SyncMode.TOP)
    (refused,) = (one for one in check_request(request) if one.severity is Severity.REFUSE)
    assert (refused.field, refused.code) == ("source", "no-backing-file")
    assert f"{chain[2]}: No such file" in refused.text


# What is there already


def opened(request: MirrorRequest) -> OpenPair:
    pair = open_pair(request)
    pair.source.close()
    pair.target.close()
    return pair


def test_a_target_that_is_to_be_made_anew_needs_agreement_and_comes_back(
    chain: tuple[Path, Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = tmp_path / "t.qcow2"
    target.write_bytes(b"precious")
    mode = TargetMode.ABSOLUTE_PATHS
    request = request_of(chain[0], target, SyncMode.TOP, target_mode=mode)
    with pytest.raises(OverwriteRefused):
        open_pair(request)
    before = files_of(tmp_path)

    def refuse(*given: object) -> None:
        raise ImageRefused("target", "t", "somebody was faster")

    request = replace(request, overwrite=True)
    with monkeypatch.context() as patched:
        patched.setattr("mirrorgui.pair._require_writable", refuse)
        with pytest.raises(ImageRefused, match="somebody was faster"):
            open_pair(request)
    assert files_of(tmp_path) == before
    undo_pair(request, open_pair(request))
    assert files_of(tmp_path) == before


@pytest.mark.asyncio
async def test_what_a_new_target_replaces_is_deleted_once_nothing_can_fail(
    chain: tuple[Path, Path, Path], tmp_path: Path
) -> None:
    target = tmp_path / "t.qcow2"
    target.write_bytes(b"precious")
    mode = TargetMode.ABSOLUTE_PATHS
    request = request_of(chain[0], target, SyncMode.TOP, target_mode=mode, overwrite=True)
    before = files_of(tmp_path)
    export = ExportRequest(f"nbd+unix:///d?socket={tmp_path}/none/socket")
    with pytest.raises(InvalidInput):
        await MirrorSession.open(replace(request, export=export))
    assert files_of(tmp_path) == before
    session = await mirrored(request)
    assert names(target) == [str(target), str(chain[1]), str(chain[2])]
    assert files_of(tmp_path).keys() == before.keys()
    assert not session.delete_incomplete_target()


def test_an_existing_target_takes_no_options_of_new_ones(
    chain: tuple[Path, Path, Path], tmp_path: Path
) -> None:
    target = tmp_path / "t.qcow2"
    run("qemu-img", "create", "-q", "-f", "qcow2", target, "4M")
    creation = TargetCreation(cluster_size=4096)
    with pytest.raises(InvalidInput, match="the target exists already") as caught:
        open_pair(request_of(chain[0], target, SyncMode.FULL, creation=creation))
    assert (caught.value.field, caught.value.value) == ("cluster_size", 4096)


@pytest.mark.asyncio
async def test_an_existing_target_keeps_its_backing_file(
    chain: tuple[Path, Path, Path], tmp_path: Path
) -> None:
    target, other = tmp_path / "t.qcow2", tmp_path / "other.qcow2"
    run("qemu-img", "create", "-q", "-f", "qcow2", "-b", chain[1], "-F", "qcow2", other)
    run("qemu-img", "create", "-q", "-f", "qcow2", "-b", "other.qcow2", "-F", "qcow2", target)
    mode = TargetMode.EXISTING
    await mirrored(request_of(chain[0], target, SyncMode.TOP, target_mode=mode))
    assert names(target) == [str(target), str(other), str(chain[1]), str(chain[2])]
    assert_same(chain[0], target)
    run("qemu-img", "check", target)


@pytest.mark.asyncio
async def test_an_existing_overlay_over_the_source_is_switched_to(
    chain: tuple[Path, Path, Path], tmp_path: Path
) -> None:
    target = tmp_path / "t.qcow2"
    run("qemu-img", "create", "-q", "-f", "qcow2", "-b", chain[0], "-F", "qcow2", target)
    request = request_of(chain[0], target, SyncMode.NONE, writable=True)
    await mirrored(request)
    assert names(target) == [str(target), *map(str, chain)]
    with pytest.raises(ImageRefused, match="part of the target's backing chain"):
        open_pair(replace(request, options=MirrorOptions(sync=SyncMode.FULL)))


def test_a_format_that_stores_nothing_yet_needs_no_agreement(
    chain: tuple[Path, Path, Path], tmp_path: Path
) -> None:
    target = tmp_path / "t.qcow2"
    request = request_of(chain[0], target, SyncMode.FULL)
    for command in (
        ("qemu-img", "create", "-q", "-f", "qcow2", target, "4M"),
        ("qemu-img", "create", "-q", "-f", "qcow2", "-o", "preallocation=metadata", target, "4M"),
    ):
        run(*command)
        blank = "metadata" not in str(command)
        assert [one.code for one in confirmations(request)] == ([] if blank else ["overwrite"])
    run("qemu-img", "create", "-q", "-f", "qcow2", target, "4M")
    run("qemu-io", "-c", "write 3M 1k", target)
    assert [one.code for one in confirmations(request)] == ["overwrite"]


def files_of(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def confirmations(request: MirrorRequest) -> list[Finding]:
    return [one for one in check_request(request) if one.severity is Severity.CONFIRM]


def warnings(pair: OpenPair) -> list[str]:
    return [one.code for one in pair.warnings]


def test_a_target_with_nothing_below_it_is_warned_of(
    chain: tuple[Path, Path, Path], tmp_path: Path
) -> None:
    target = tmp_path / "t.raw"
    target.touch()
    os.truncate(target, SIZE)
    for sync, codes in (
        (SyncMode.FULL, []),
        (SyncMode.TOP, ["no-backing"]),
        (SyncMode.NONE, ["no-backing"]),
    ):
        assert warnings(opened(request_of(chain[0], target, sync))) == codes


# Safety across formats


def test_no_file_of_the_sources_chain_is_a_target(chain: tuple[Path, Path, Path]) -> None:
    top, _mid, base = chain
    for target in chain:
        for sync in SyncMode:
            before = [path.read_bytes() for path in chain]
            with pytest.raises(ImageRefused) as caught:
                open_pair(request_of(top, target, sync, overwrite=True))
            assert caught.value.field == "target"
            assert [path.read_bytes() for path in chain] == before
    link = top.parent / "link"
    link.symlink_to(base)
    with pytest.raises(ImageRefused, match=r"chain \(2 levels below\)"):
        open_pair(request_of(top, link, SyncMode.FULL, overwrite=True))


def test_data_files_are_no_targets(tmp_path: Path) -> None:
    base, data, top = (tmp_path / name for name in ("base.qcow2", "data.raw", "top.qcow2"))
    create = ("qemu-img", "create", "-q", "-f", "qcow2")
    run(*create, "-o", f"data_file={data}", base, "4M")
    run(*create, "-b", base, "-F", "qcow2", top)
    for source in (base, top):
        request = request_of(source, data, SyncMode.FULL, overwrite=True)
        with pytest.raises(ImageRefused, match="is a data file of the source"):
            open_pair(replace(request, target_format="raw"))
    both = tmp_path / "both.qcow2"
    both.write_bytes(base.read_bytes())
    with pytest.raises(ImageRefused, match=r"data\.raw is a data file of the source"):
        open_pair(request_of(base, both, SyncMode.FULL, overwrite=True))
    other = tmp_path / "other.qcow2"  # which only shares what is below it
    run(*create, "-b", base, "-F", "qcow2", other)
    opened(request_of(top, other, SyncMode.TOP))


def test_images_that_others_open_for_us_are_told_apart_as_well(tmp_path: Path) -> None:
    vmdk, top = tmp_path / "a.vmdk", tmp_path / "top.qcow2"
    run("qemu-img", "create", "-q", "-f", "vmdk", vmdk, "4M")
    run("qemu-img", "create", "-q", "-f", "qcow2", "-b", vmdk, "-F", "vmdk", top)
    look = How(read_only=True)
    nodes = [open_image(path, how=look) for path in (vmdk, top)]
    try:
        places = [identify_node(node).place for node in nodes]
        assert places[0] == identify_node(nodes[1]).chain[0][1]
        assert places[0] == identify_path(vmdk, "source").place
        assert None not in places
    finally:
        for node in nodes:
            node.close()
    with pytest.raises(ImageRefused, match="part of the source's backing chain"):
        open_pair(request_of(top, vmdk, SyncMode.FULL, overwrite=True))


def test_a_created_target_and_its_data_file_go_when_nobody_uses_them(
    chain: tuple[Path, Path, Path], tmp_path: Path
) -> None:
    before = files_of(tmp_path)
    creation = TargetCreation(data_file=str(tmp_path / "data"))
    request = request_of(chain[0], tmp_path / "t", SyncMode.FULL, creation=creation)
    undo_pair(request, open_pair(request))
    assert files_of(tmp_path) == before


def test_the_target_is_open_without_what_is_below_it(
    chain: tuple[Path, Path, Path], tmp_path: Path
) -> None:
    request = request_of(chain[0], tmp_path / "t", SyncMode.TOP)
    pair = open_pair(request)
    target: BlockNode = pair.target
    assert (target.driver, target.backing, target.unopened_backing) == (
        "qcow2",
        None,
        str(chain[1]),
    )
    undo_pair(request, pair)


@pytest.mark.parametrize("there", ["raw", "damaged", "link"])
def test_whatever_is_there_can_be_made_anew(tmp_path: Path, there: str) -> None:
    source, target = tmp_path / "source.raw", tmp_path / "target"
    source.write_bytes(stamped(1 * MiB))
    old = b"QFI\xfb" * 1000 if there == "damaged" else stamped(1 * MiB, 7)
    real = tmp_path / "real" if there == "link" else target
    real.write_bytes(old)
    if there == "link":
        target.symlink_to("real")
    request = request_of(
        source,
        target,
        SyncMode.FULL,
        target_format="qcow2",
        target_mode=TargetMode.ABSOLUTE_PATHS,
    )
    with pytest.raises(OverwriteRefused, match="Its content will be lost"):
        open_pair(request)
    assert real.read_bytes() == old
    request = replace(request, overwrite=True)
    pair = open_pair(request)
    assert pair.target.driver == "qcow2"
    undo_pair(request, pair)
    assert real.read_bytes() == old
    pair = open_pair(request)
    assert pair.created is not None
    pair.created.keep()
    pair.source.close()
    pair.target.close()
    assert target.read_bytes()[:4] == b"QFI\xfb"
    assert target.is_symlink() == (there == "link")
    assert len(list(tmp_path.iterdir())) == (3 if there == "link" else 2)


def test_a_backing_file_that_is_not_there_is_refused_before_anything_is_copied(
    tmp_path: Path,
) -> None:
    source, target = tmp_path / "source.raw", tmp_path / "target"
    source.write_bytes(stamped(1 * MiB))
    creation = TargetCreation(backing_file=str(tmp_path / "none.raw"), backing_format="raw")
    request = request_of(source, target, SyncMode.FULL, target_format="qcow2", creation=creation)
    with pytest.raises(ImageRefused, match="Could not open backing file"):
        open_pair(request)
    assert not target.exists()
