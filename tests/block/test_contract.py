"""Every driver against a bytearray: the contract of mirrorgui.block.node, for all nodes alike."""

import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mirrorgui.block.blkdebug import BlkdebugNode
from mirrorgui.block.file import FileNode
from mirrorgui.block.generic import GenericOptionsNode
from mirrorgui.block.memory import MemoryNode
from mirrorgui.block.node import BlockNode, ExtentKind, chain_extents
from mirrorgui.block.raw import ProbedRawGuard, RawNode
from mirrorgui.errors import BlockIOError
from tests.block.conftest import stamped

SIZE = 3 * 65536 + 1000
"""Not a multiple of anything."""


@dataclass
class Subject:
    """A node to test, and what its bytes are at first."""

    node: BlockNode
    expected: bytearray


Maker = Callable[[Path, ExitStack], Subject]


def memory(_folder: Path, _stack: ExitStack) -> Subject:
    return Subject(MemoryNode(SIZE, cluster_size=4096), bytearray(SIZE))


def memory_odd_clusters(_folder: Path, _stack: ExitStack) -> Subject:
    return Subject(MemoryNode(stamped(SIZE), cluster_size=1000), bytearray(stamped(SIZE)))


def memory_without_zeroing(_folder: Path, _stack: ExitStack) -> Subject:
    return Subject(MemoryNode(SIZE, can_zero=False, can_discard=False), bytearray(SIZE))


def memory_over_short_backing(_folder: Path, _stack: ExitStack) -> Subject:
    base = stamped(2 * 65536 + 77, seed=9)
    node = MemoryNode(SIZE, backing=MemoryNode(base, read_only=True), cluster_size=4096)
    return Subject(node, bytearray(base.ljust(SIZE, b"\0")))


def memory_over_long_backing(_folder: Path, _stack: ExitStack) -> Subject:
    base = stamped(SIZE + 5000, seed=9)
    return Subject(MemoryNode(SIZE, backing=MemoryNode(base)), bytearray(base[:SIZE]))


def file(folder: Path, stack: ExitStack, **options: bool) -> Subject:
    path = folder / "image.raw"
    with path.open("wb") as stream:
        stream.truncate(SIZE)
    node = FileNode(path, **options)
    stack.callback(node.close)
    return Subject(node, bytearray(SIZE))


def file_on_tmpfs(_folder: Path, stack: ExitStack) -> Subject:
    path = Path(f"/dev/shm/mirrorgui-test-{os.getpid()}.raw")
    path.write_bytes(stamped(SIZE))
    stack.callback(path.unlink)
    node = FileNode(path)
    stack.callback(node.close)
    return Subject(node, bytearray(stamped(SIZE)))


def file_without_positional_io(folder: Path, stack: ExitStack) -> Subject:
    return file(folder, stack, positional_io=False)


def blkdebug(folder: Path, stack: ExitStack) -> Subject:
    below = file(folder, stack)
    return Subject(BlkdebugNode(below.node), below.expected)


def raw_part(folder: Path, stack: ExitStack) -> Subject:
    below = MemoryNode(stamped(SIZE + 3000, seed=7), cluster_size=4096)
    return Subject(RawNode(below, offset=1234, size=SIZE), bytearray(below.content()[1234:][:SIZE]))


def guarded_raw(folder: Path, stack: ExitStack) -> Subject:
    below = file(folder, stack)
    return Subject(ProbedRawGuard(below.node), below.expected)


def ignoring_discards(folder: Path, stack: ExitStack) -> Subject:
    below = file(folder, stack)
    node = GenericOptionsNode(below.node, discard="ignore", detect_zeroes="on", no_flush=True)
    return Subject(node, below.expected)


MAKERS: list[Maker] = [
    memory,
    memory_odd_clusters,
    memory_without_zeroing,
    memory_over_short_backing,
    memory_over_long_backing,
    file,
    file_on_tmpfs,
    file_without_positional_io,
    blkdebug,
    raw_part,
    guarded_raw,
    ignoring_discards,
]


@pytest.fixture(params=MAKERS, ids=lambda maker: maker.__name__)
def make(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Callable[[], Subject]]:
    with ExitStack() as stack:

        def fresh() -> Subject:
            stack.close()
            return request.param(tmp_path, stack)

        yield fresh


def read(node: BlockNode, offset: int = 0, length: int | None = None) -> bytes:
    buffer = bytearray(node.size - offset if length is None else length)
    node.read_into(offset, buffer)
    return bytes(buffer)


def check(subject: Subject) -> None:
    """Compare all bytes, and what extents say of them."""
    node, expected = subject.node, subject.expected
    assert read(node) == expected
    runs = node.extents(0, node.size)
    position = 0
    for run in runs:
        assert run.offset == position
        assert run.length > 0
        position = run.end
    assert position == node.size
    position = 0
    for run in chain_extents(node, 0, node.size):
        assert run.offset == position
        position = run.end
        if run.kind is ExtentKind.ZERO:
            assert not any(expected[run.offset : run.end]), "claims zeroes that are data"
    assert position == node.size


ranges = st.tuples(st.integers(0, SIZE), st.integers(0, 70000)).map(
    lambda pair: (pair[0], min(pair[1], SIZE - pair[0]))
)
aligned_ranges = st.tuples(st.integers(0, SIZE // 4096), st.integers(0, 20)).map(
    lambda pair: (pair[0] * 4096, min(pair[1] * 4096, SIZE - pair[0] * 4096))
)
requests = st.lists(
    st.tuples(
        st.sampled_from(
            ["write", "zero", "zero_keep", "discard", "read", "extents", "scatter", "gather"]
        ),
        st.one_of(ranges, aligned_ranges),
    ),
    max_size=12,
)


def _apart(offset: int, length: int) -> list[tuple[int, int]]:
    """Part a range into pages that do not follow one another."""
    pages = [(offset + at, min(4096, length - at)) for at in range(0, length, 4096)]
    return pages[::2] + pages[1::2]


def _packed(data: bytes) -> bytes:
    """Return bytes in the order of ``_apart``."""
    return b"".join(data[start : start + count] for start, count in _apart(0, len(data)))


def apply(subject: Subject, verb: str, offset: int, length: int, seed: int) -> None:
    node, expected = subject.node, subject.expected
    end = offset + length
    if verb == "write":
        data = stamped(length, seed)
        node.write(offset, memoryview(data))
        expected[offset:end] = data
    elif verb == "read":
        assert read(node, offset, length) == expected[offset:end]
    elif verb == "scatter":
        data = stamped(length, seed)
        node.write_ranges(_apart(offset, length), memoryview(_packed(data)))
        expected[offset:end] = data
    elif verb == "gather":
        buffer = memoryview(bytearray(length))
        node.read_ranges(_apart(offset, length), buffer)
        assert buffer == _packed(bytes(expected[offset:end]))
    elif verb == "extents":
        assert sum(run.length for run in node.extents(offset, length)) == length
    elif verb == "discard":
        node.discard(offset, length)
        now = read(node, offset, length)  # may be anything, but only inside the range
        expected[offset:end] = now
    else:
        node.write_zeroes(offset, length, may_unmap=verb == "zero")
        expected[offset:end] = bytes(length)


@given(plan=requests)
@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_random_requests_leave_what_a_bytearray_would(
    make: Callable[[], Subject], plan: list[tuple[str, tuple[int, int]]]
) -> None:
    subject = make()
    for number, (verb, (offset, length)) in enumerate(plan):
        apply(subject, verb, offset, length, number + 2)
    check(subject)


def test_requests_outside_the_image_are_refused_and_change_nothing(
    make: Callable[[], Subject],
) -> None:
    subject = make()
    node = subject.node
    for offset, length in ((-1, 1), (node.size, 1), (node.size - 1, 2)):
        for request in (
            lambda o, n: node.read_into(o, bytearray(n)),
            lambda o, n: node.write(o, bytes(n)),
            lambda o, n: node.write_zeroes(o, n),
            lambda o, n: node.discard(o, n),
            lambda o, n: node.extents(o, n),
        ):
            with pytest.raises(BlockIOError, match="Invalid argument"):
                request(offset, length)
    check(subject)


def test_empty_requests_do_nothing(make: Callable[[], Subject]) -> None:
    subject = make()
    for offset in (0, 4096, subject.node.size):
        subject.node.read_into(offset, bytearray())
        subject.node.write(offset, b"")
        subject.node.write_zeroes(offset, 0)
        subject.node.discard(offset, 0)
        assert subject.node.extents(offset, 0) == []
    subject.node.flush()
    check(subject)


def test_zeroing_everything_is_seen_in_the_extents(make: Callable[[], Subject]) -> None:
    subject = make()
    apply(subject, "write", 100, 100000, 5)
    apply(subject, "zero", 0, SIZE, 6)
    check(subject)
    node = subject.node
    sees_holes = not (isinstance(node, FileNode) and node._seeking)
    if node.limits.can_zero and sees_holes and not isinstance(node, GenericOptionsNode):
        edges = 2 * node.limits.cluster_size if isinstance(node, RawNode) else 0
        runs = chain_extents(node, 0, SIZE)
        assert sum(run.length for run in runs if run.kind is ExtentKind.DATA) <= edges
