"""Broken images: refused or failing by name; nothing hangs, takes much memory or is written."""

import os
import random
import re
import time
import tracemalloc
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from mirrorgui.block.how import How
from mirrorgui.block.node import BlockNode
from mirrorgui.block.open import open_image
from mirrorgui.block.qcow2.create import create_qcow2
from mirrorgui.block.qcow2.create_options import CreateOptions
from mirrorgui.errors import BlockIOError, ImageError, ImageRefused, InvalidInput
from tests.block.conftest import open_descriptors
from tests.block.qcow2.corpus import (
    CUT,
    HEADER,
    L1,
    SIZE,
    TABLES,
    Case,
    patched,
    sound_images,
    u32,
    u64,
)

SOAK = os.environ.get("MIRRORGUI_SOAK") == "1"
FUZZED = 6000 if SOAK else 300
MOST_MEMORY = 64 << 20
"""Bytes that opening and reading one of these images may take at most."""
LONGEST_S = 5.0
INCOMPATIBLE = slice(72, 80)

CASES = [*CUT, *HEADER, *TABLES]


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    return sound_images(tmp_path_factory.mktemp("sound"))


@contextmanager
def opened(path: Path, *, read_only: bool) -> Iterator[BlockNode]:
    node = open_image(path, format="qcow2", how=How(field="source", read_only=read_only))
    try:
        yield node
    finally:
        node.close()


def read_all(node: BlockNode) -> None:
    buffer = bytearray(1 << 20)
    for offset in range(0, min(node.size, 8 << 20), len(buffer)):
        length = min(len(buffer), node.size - offset)
        node.read_into(offset, memoryview(buffer)[:length])


def use(node: BlockNode, guest: int) -> None:
    """Write where the broken place shows, and more."""
    node.write(guest, b"new" * 1000)
    node.write_zeroes(guest + 65536, 65536)
    node.flush()


def same_but_for_the_corrupt_bit(path: Path, before: bytes) -> bool:
    after = bytearray(path.read_bytes()[: len(before)])
    after[INCOMPATIBLE] = before[INCOMPATIBLE]
    return bytes(after) == before


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_a_broken_image_is_refused_by_name_and_not_written(
    tmp_path: Path, sound: dict[str, bytes], case: Case, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "broken.qcow2"
    before = case.make(sound[case.image])
    path.write_bytes(before)
    tracemalloc.start()
    try:
        for read_only in (True, False):
            try_case(path, case, read_only=read_only)
            assert same_but_for_the_corrupt_bit(path, before)
            if read_only:
                assert path.read_bytes() == before
        assert tracemalloc.get_traced_memory()[1] < MOST_MEMORY
    finally:
        tracemalloc.stop()


def try_case(path: Path, case: Case, *, read_only: bool) -> None:
    if case.when == "open" or (case.when == "open to write" and not read_only):
        with pytest.raises(InvalidInput) as refused, opened(path, read_only=read_only):
            pass
        assert re.search(case.says, refused.value.reason), refused.value
        assert str(path) in str(refused.value) or "data-file" in str(refused.value)
        return
    with opened(path, read_only=read_only) as node:
        if case.when == "read" or (case.when == "write" and not read_only):
            with pytest.raises(BlockIOError) as failed:
                read_all(node) if case.when == "read" else use(node, case.guest)
            assert re.search(case.says, failed.value.detail), failed.value
            if not read_only and failed.value.errno == 5 and "compressed" not in case.says:
                with pytest.raises(BlockIOError, match="found damaged"):
                    node.write(SIZE - 512, bytes(512))
        elif case.when != "write":
            read_all(node)


def test_structures_of_the_greatest_size_stay_within_bounds(
    tmp_path: Path, sound: dict[str, bytes]
) -> None:
    """The longest tables that are allowed, all of them holes of a file of 200 MB."""
    path = tmp_path / "sparse.qcow2"
    changes = [(36, u32(4 << 20) + u64(100 << 20)), (48, u64(64 << 20) + u32(128))]
    path.write_bytes(patched(sound["plain"], *changes))
    os.truncate(path, 200 << 20)
    tracemalloc.start()
    try:
        begin = time.monotonic()
        for read_only in (True, False):
            with opened(path, read_only=read_only) as node:
                read_all(node)
        assert time.monotonic() - begin < LONGEST_S
        assert tracemalloc.get_traced_memory()[1] < 5 * MOST_MEMORY
    finally:
        tracemalloc.stop()


def test_a_loop_in_the_chain_is_refused(tmp_path: Path) -> None:
    for length in (1, 2, 5):
        for number in range(length):
            path = tmp_path / f"{length}-{number}.qcow2"
            below = f"{length}-{(number + 1) % length}.qcow2"
            options = CreateOptions(backing_file=below, backing_format="qcow2")
            create_qcow2(path, 1 << 20, options)
        with (
            pytest.raises(ImageError, match="loop") as caught,
            opened(tmp_path / f"{length}-0.qcow2", read_only=True),
        ):
            pass
        assert f"{length}-{length - 1}.qcow2" in str(caught.value.value)


def test_a_chain_of_200_is_refused_and_leaves_nothing_open(tmp_path: Path) -> None:
    for number in range(200):
        options = CreateOptions(backing_file=f"{number + 1}", backing_format="qcow2")
        create_qcow2(tmp_path / str(number), 1 << 20, options)
    create_qcow2(tmp_path / "200", 1 << 20)
    before = open_descriptors()
    with pytest.raises(ImageError, match="chain goes on"), opened(tmp_path / "0", read_only=True):
        pass
    assert open_descriptors() == before
    with opened(tmp_path / "150", read_only=True) as node:
        read_all(node)


VALUES = [
    0,
    1,
    7,
    0xFF,
    0x10000,
    0x20000,
    L1,
    1 << 16,
    (1 << 32) - 1,
    1 << 62,
    1 << 63,
    (1 << 64) - 1,
]


def fuzzed(image: bytes, rng: random.Random) -> bytes:
    """Change some bytes or words of the metadata, or cut the image off."""
    content = bytearray(image)
    for _ in range(rng.randint(1, 4)):
        kind = rng.random()
        offset = rng.randrange(min(len(content), rng.choice((120, 600, 6 * 65536))))
        if kind < 0.3:
            content[offset] ^= 1 << rng.randrange(8)
        elif kind < 0.5:
            content[offset : offset + 4] = u32(rng.choice(VALUES) & 0xFFFFFFFF)
        elif kind < 0.95:
            value = rng.choice(VALUES) | rng.choice((0, 1 << 63, 1 << 62, 0x50000, 1))
            content[offset & ~7 : (offset & ~7) + 8] = u64(value)
        else:
            del content[rng.randrange(len(content)) :]
    return bytes(content)


@pytest.mark.soak
@pytest.mark.parametrize("batch", range(10))
def test_fuzzed_images_hang_nothing_and_break_nothing(
    tmp_path: Path, sound: dict[str, bytes], batch: int, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "fuzzed.qcow2"
    for number in range(FUZZED // 10):
        seed = batch * 1_000_000 + number
        rng = random.Random(seed)
        before = fuzzed(sound[rng.choice(sorted(sound))], rng)
        path.write_bytes(before)
        begin = time.monotonic()
        tracemalloc.start()
        try:
            fuzz(path, before, rng)
            peak = tracemalloc.get_traced_memory()[1]
        except BaseException as error:
            error.add_note(f"seed {seed}")
            raise
        finally:
            tracemalloc.stop()
        assert time.monotonic() - begin < LONGEST_S, f"seed {seed}"
        assert peak < 4 * MOST_MEMORY, f"seed {seed}"


def fuzz(path: Path, before: bytes, rng: random.Random) -> None:
    """Use an image that may be broken: what is raised has to be meant so."""
    for read_only in (True, False):
        try:
            node = open_image(path, format="qcow2", how=How(field="source", read_only=read_only))
        except (ImageRefused, InvalidInput):
            assert path.read_bytes() == before
            continue
        try:
            carry_on(node, rng, read_only=read_only)
        finally:
            try:
                node.close()
            except BlockIOError as error:
                assert error.detail or error.errno
        if read_only:
            assert path.read_bytes() == before


def carry_on(node: BlockNode, rng: random.Random, *, read_only: bool) -> None:
    size = min(node.size, SIZE)
    for _ in range(12):
        offset = rng.randrange(max(size, 1))
        length = min(rng.choice((1, 512, 65536, 1 << 20)), size - offset)
        actions = [
            lambda o=offset, n=length: node.read_into(o, bytearray(n)),
            lambda o=offset, n=length: node.extents(o, n),
            lambda o=offset, n=length: node.map(o, n),
        ]
        if not read_only:
            actions += [
                lambda o=offset, n=length: node.write(o, bytes([rng.randrange(256)]) * n),
                lambda o=offset, n=length: node.write_zeroes(o, n),
                lambda o=offset, n=length: node.discard(o, n),
                node.flush,
            ]
        try:
            rng.choice(actions)()
        except BlockIOError as error:
            assert error.detail or error.errno != 5, error
