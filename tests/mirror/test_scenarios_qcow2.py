"""Sync modes, sparse images and copy-on-write with real qcow2 images, judged by QEMU's tools."""

from pathlib import Path

import pytest

from mirrorgui.block.raw import RawNode
from mirrorgui.mirror.options import CopyMode, SyncMode
from mirrorgui.mirror.snapshot import Outcome
from mirrorgui.units import KiB, MiB
from tests.mirror.harness import mirroring
from tests.mirror.images import allocated, assert_same, chain, make, opened, qemu_io, target_of

SIZE = 8 * MiB + 700 * KiB
CHUNK = 64 * KiB

LAYOUTS = [
    pytest.param({}, id="default"),
    pytest.param({"compat": "0.10"}, id="v2"),
    pytest.param({"cluster_size": 4096}, id="4k"),
    pytest.param({"cluster_size": 2 * MiB}, id="2M"),
    pytest.param({"extended_l2": "on", "cluster_size": 128 * KiB}, id="subclusters"),
    pytest.param({"refcount_bits": 1, "lazy_refcounts": "on"}, id="lazy"),
]


def two_layers(folder: Path, size: int = SIZE, base_size: int = SIZE) -> tuple[Path, Path]:
    """A base full of data, and an overlay that holds some of everything."""
    base = make(folder / "base.qcow2", base_size)
    qemu_io(base, f"write -P 7 0 {base_size}")
    source = make(folder / "source.qcow2", size, below=base)
    qemu_io(
        source,
        "write -P 8 300k 4k",
        "write -P 9 1M 128k",
        "write -P 0 2M 64k",
        "write -z 3M 1M",
        "write -P 10 5000k 1000",
        f"write -P 11 {size - 5000} 5000",
    )
    return base, source


@pytest.mark.asyncio
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("granularity", [0, 4096])
async def test_s19_top_copies_what_the_overlay_holds_onto_a_new_one(
    tmp_path: Path, layout: dict[str, object], granularity: int
) -> None:
    base, source = two_layers(tmp_path)
    target = make(tmp_path / "target.qcow2", SIZE, below=base, **layout)
    before = base.read_bytes()
    with opened(source) as ours, target_of(target) as theirs:
        assert theirs.unopened_backing == str(base)
        options = {"sync": SyncMode.TOP, "granularity": granularity}
        async with mirroring(ours, theirs, **options) as mirror:
            end = await mirror.complete()
            assert end.outcome is Outcome.SWITCHED
            assert mirror.drive.backing is not None
            mirror.assert_equal()
    assert_same(source, target)
    assert base.read_bytes() == before
    assert chain(target) == [str(target), str(base)]
    if layout == {}:
        assert allocated(target)[:2] == [(256 * KiB, 320 * KiB), (1 * MiB, 1152 * KiB)]


@pytest.mark.asyncio
@pytest.mark.parametrize("sync", [SyncMode.TOP, SyncMode.FULL])
async def test_s21_an_overlay_longer_than_its_base_reads_zero_beyond_it(
    tmp_path: Path, sync: SyncMode
) -> None:
    base, source = two_layers(tmp_path, base_size=4 * MiB + 1000 * 512)
    below = base if sync is SyncMode.TOP else None
    target = make(tmp_path / "target.qcow2", SIZE, below=below)
    with opened(source) as ours, target_of(target) as theirs:
        async with mirroring(ours, theirs, sync=sync) as mirror:
            await mirror.complete()
    assert_same(source, target)
    assert len(chain(target)) == (2 if below else 1)


@pytest.mark.asyncio
@pytest.mark.parametrize("layout", LAYOUTS)
async def test_s22_s25_a_sparse_image_stays_sparse(
    tmp_path: Path, layout: dict[str, object]
) -> None:
    source = make(tmp_path / "source.qcow2", SIZE, **layout)
    qemu_io(source, "write -P 1 4M 1M", *(f"write -P 2 {at}M 4k" for at in (0, 1, 7)))
    target = make(tmp_path / "target.qcow2", SIZE, **layout)
    with opened(source) as ours, target_of(target) as theirs:
        async with mirroring(ours, theirs) as mirror:
            await mirror.complete()
    assert_same(source, target)
    # Within a cluster the file itself may have holes, which QEMU sees as well.
    for start, end in allocated(target):
        assert any(low <= start and end <= high for low, high in allocated(source))
    assert target.stat().st_blocks <= source.stat().st_blocks
    assert target.stat().st_size <= source.stat().st_size * 1.1 + 2 * MiB


@pytest.mark.asyncio
@pytest.mark.parametrize("granularity", [0, MiB])
async def test_s23_garbage_of_an_old_target_is_removed(tmp_path: Path, granularity: int) -> None:
    source = make(tmp_path / "source.qcow2", SIZE)
    qemu_io(source, "write -P 1 4M 1M", "write -P 2 7000k 4k")
    target = make(tmp_path / "target.qcow2", SIZE)
    qemu_io(target, f"write -P 99 0 {SIZE}")
    with opened(source) as ours, target_of(target) as theirs:
        async with mirroring(ours, theirs, granularity=granularity) as mirror:
            await mirror.complete()
    assert_same(source, target)
    assert sum(end - start for start, end in allocated(target)) <= 2 * MiB


@pytest.mark.asyncio
async def test_s24_written_zeroes_need_no_room_on_the_target(tmp_path: Path) -> None:
    source = make(tmp_path / "source.qcow2", SIZE)
    qemu_io(source, f"write -P 0 0 {SIZE}")
    target = make(tmp_path / "target.qcow2", SIZE)
    with opened(source) as ours, target_of(target) as theirs:
        async with mirroring(ours, theirs) as mirror:
            await mirror.complete()
    assert_same(source, target)
    assert allocated(target) == []


@pytest.mark.asyncio
async def test_s27_s28_vouching_for_a_target_is_believed(tmp_path: Path) -> None:
    source = make(tmp_path / "source.qcow2", SIZE)
    qemu_io(source, "write -P 1 4M 1M")
    target = make(tmp_path / "target.qcow2", SIZE)
    with opened(source) as ours, target_of(target) as theirs:
        async with mirroring(ours, theirs, target_is_zero=True) as mirror:
            await mirror.complete()
            assert mirror.target.probe.of("zero") == []
    assert_same(source, target)
    qemu_io(target, "write -P 5 0 64k")
    with opened(source) as ours, target_of(target) as theirs:
        async with mirroring(ours, theirs, target_is_zero=True) as mirror:
            await mirror.complete()
    assert "read 65536" in qemu_io(target, "read -P 5 0 64k")


@pytest.mark.asyncio
async def test_s29_a_chunk_takes_the_rest_of_its_cluster_with_it(tmp_path: Path) -> None:
    base = make(tmp_path / "base.qcow2", SIZE)
    qemu_io(base, f"write -P 7 0 {SIZE}")
    source = make(tmp_path / "source.qcow2", SIZE, below=base, cluster_size=4096)
    qemu_io(source, "write -P 8 300k 4k")
    target = make(tmp_path / "target.qcow2", SIZE, below=base, cluster_size=256 * KiB)
    with opened(source) as ours, target_of(target) as theirs:
        options = {"sync": SyncMode.TOP, "granularity": 4096}
        async with mirroring(ours, theirs, **options) as mirror:
            await mirror.ready()
            (one,) = mirror.target.probe.of("write")
            assert (one.offset, one.offset + one.length) == (262144, 524288)
            await mirror.complete()
            assert len(mirror.target.probe.of("write")) == 1
    assert_same(source, target)
    assert allocated(target) == [(256 * KiB, 512 * KiB)]


@pytest.mark.asyncio
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("mode", list(CopyMode))
async def test_s31_s32_writes_during_the_job_reach_an_overlay_of_the_same_base(
    tmp_path: Path, layout: dict[str, object], mode: CopyMode
) -> None:
    base, source = two_layers(tmp_path)
    target = make(tmp_path / "target.qcow2", SIZE, below=base, **layout)
    with opened(source) as ours, target_of(target) as theirs:
        options = {"sync": SyncMode.TOP, "copy_mode": mode, "granularity": 4096}
        async with mirroring(ours, theirs, **options) as mirror:
            await mirror.write(6 * MiB + 100, b"early")
            await mirror.ready()
            await mirror.write(2 * MiB + 9000, b"in a part of a cluster that was zero")
            await mirror.write(4 * MiB + 9000, b"in a cluster that only the base has")
            await mirror.zero(5 * MiB + 5000, 300 * KiB)
            await mirror.zero(7 * MiB + 5000, 1000)
            await mirror.discard(1 * MiB, 64 * KiB)
            await mirror.write(SIZE - 3, b"end")
            end = await mirror.complete()
            assert end.outcome is Outcome.SWITCHED
            mirror.assert_equal()
    assert_same(source, target)


@pytest.mark.asyncio
async def test_compressed_clusters_are_written_uncompressed(tmp_path: Path) -> None:
    source = make(tmp_path / "source.qcow2", SIZE)
    qemu_io(source, *(f"write -c -P {number + 1} {number * 64}k 64k" for number in range(40)))
    target = make(tmp_path / "target.qcow2", SIZE)
    with opened(source) as ours, target_of(target) as theirs:
        async with mirroring(ours, theirs) as mirror:
            await mirror.complete()
    assert_same(source, target)
    assert target.stat().st_size > 40 * CHUNK > source.stat().st_size


@pytest.mark.asyncio
@pytest.mark.parametrize("sync", [SyncMode.FULL, SyncMode.TOP, SyncMode.NONE])
async def test_s96_at_the_end_the_target_has_the_chain_that_it_names(
    tmp_path: Path, sync: SyncMode
) -> None:
    base, source = two_layers(tmp_path)
    below = {SyncMode.FULL: None, SyncMode.TOP: base, SyncMode.NONE: source}[sync]
    target = make(tmp_path / "target.qcow2", SIZE, below=below)
    # The source is looked at twice with none: by the job, and below the target.
    with opened(source, read_only=sync is SyncMode.NONE) as ours, target_of(target) as theirs:
        async with mirroring(ours, theirs, sync=sync) as mirror:
            if sync is not SyncMode.NONE:
                await mirror.write(0, b"written meanwhile")
            await mirror.complete()
            assert mirror.drive.node is mirror.target.node
            assert (theirs.backing is not None) is (below is not None)
            mirror.assert_equal()
            before = source.read_bytes()
            await mirror.write(4 * MiB, b"after the switch")
        assert source.read_bytes() == before
    names = [str(target)] + ([str(below)] if below else [])
    assert chain(target)[: len(names)] == names
    assert len(chain(target)) == {SyncMode.FULL: 1, SyncMode.TOP: 2, SyncMode.NONE: 3}[sync]


@pytest.mark.asyncio
async def test_s96_a_missing_backing_file_refuses_complete_and_the_source_stays(
    tmp_path: Path,
) -> None:
    base, source = two_layers(tmp_path)
    copy = tmp_path / "copy.qcow2"
    copy.write_bytes(base.read_bytes())
    target = make(tmp_path / "target.qcow2", SIZE, below=copy)
    with opened(source) as ours, target_of(target) as theirs:
        async with mirroring(ours, theirs, sync=SyncMode.TOP) as mirror:
            await mirror.ready()
            hidden = copy.rename(tmp_path / "hidden")
            mirror.job.complete()
            event = await mirror.event("JOB_COMPLETE_REFUSED")
            assert str(copy) in event.data["error"]
            assert mirror.drive.node is mirror.source.node
            hidden.rename(copy)
            end = await mirror.complete()
            assert end.outcome is Outcome.SWITCHED
    assert_same(source, target)


@pytest.mark.asyncio
async def test_a_full_copy_onto_an_overlay_hides_all_of_what_is_below(tmp_path: Path) -> None:
    source = make(tmp_path / "source.qcow2", SIZE)
    qemu_io(source, "write -P 1 4M 1M")
    base = make(tmp_path / "base.qcow2", SIZE)
    qemu_io(base, f"write -P 7 0 {SIZE}")
    for version in ("0.10", "1.1"):
        target = make(tmp_path / f"target{version}.qcow2", SIZE, below=base, compat=version)
        with opened(source) as ours, target_of(target) as theirs:
            async with mirroring(ours, theirs) as mirror:
                await mirror.complete()
        assert_same(source, target)


@pytest.mark.asyncio
@pytest.mark.parametrize("way", ["to raw", "from raw"])
async def test_raw_and_qcow2_are_mirrored_to_one_another(tmp_path: Path, way: str) -> None:
    from mirrorgui.block.file import FileNode

    _, image = two_layers(tmp_path)
    raw = tmp_path / "disk.raw"
    with raw.open("wb") as file:
        file.truncate(SIZE)
    if way == "to raw":
        with opened(image) as ours:
            theirs = FileNode(raw)
            async with mirroring(ours, theirs) as mirror:
                await mirror.complete()
            theirs.close()
        assert_same(image, raw, "raw")
        assert raw.stat().st_blocks * 512 < SIZE
        return
    qemu_io(raw, "write -P 3 1M 1M", "write -P 0 3M 1M", "write -P 4 8M 100", driver="raw")
    target = make(tmp_path / "target.qcow2", SIZE)
    source = RawNode(FileNode(raw))
    with target_of(target) as theirs:
        async with mirroring(source, theirs) as mirror:
            await mirror.complete()
    source.close()
    assert_same(target, raw, "raw")
    assert allocated(target) == [(1 * MiB, 2 * MiB), (8 * MiB, 8 * MiB + 4 * KiB)]
