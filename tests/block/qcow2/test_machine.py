"""Random requests against a bytearray, with the image closed, checked and opened between."""

import os
import tempfile
from pathlib import Path

import hypothesis.strategies as st
import pytest
from hypothesis import HealthCheck, settings
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    rule,
    run_state_machine_as_test,
)

from mirrorgui.block.node import ExtentKind, chain_extents
from mirrorgui.units import KiB
from tests.block.conftest import stamped
from tests.block.qcow2.images import check, content, make, open_chain, read, scatter

SOAK = os.environ.get("MIRRORGUI_SOAK") == "1"
SIZE = 300 * KiB + 512

OPTIONS = [
    "",
    "compat=0.10",
    "cluster_size=512",
    "cluster_size=4k,refcount_bits=1",
    "extended_l2=on,cluster_size=16k",
    "lazy_refcounts=on,cluster_size=4k",
    "cluster_size=4k,preallocation=metadata",
]

offsets = st.one_of(
    st.integers(0, SIZE - 1),
    st.integers(0, SIZE // 4096).map(lambda number: number * 4096),
)
lengths = st.one_of(st.integers(1, 5000), st.sampled_from((512, 4096, 16384, 65536, SIZE)))


class Disk(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.holder = tempfile.TemporaryDirectory()
        self.folder = Path(self.holder.name)
        self.path = self.folder / "disk.qcow2"
        self.model = bytearray(SIZE)
        self.number = 0

    @initialize(options=st.sampled_from(OPTIONS), below=st.integers(0, SIZE + 4096))
    def create(self, options: str, below: int) -> None:
        if below > 1000 and "preallocation" not in options:
            base = self.folder / "base.raw"
            length = below // 512 * 512
            base.write_bytes(stamped(length))
            self.model[:length] = stamped(length)[:SIZE]
            make(self.path, SIZE, options, "-b", base, "-F", "raw")
        else:
            make(self.path, SIZE, options)
        self.open()

    def open(self) -> None:
        self.node = open_chain(self.path, read_only=False, l2_cache_size=16 * KiB)

    @rule(offset=offsets, length=lengths)
    def write(self, offset: int, length: int) -> None:
        self.number += 1
        data = stamped(min(length, SIZE - offset), self.number)
        self.node.write(offset, data)
        self.model[offset : offset + len(data)] = data

    @rule(first=st.integers(0, 70), count=st.integers(2, 16), step=st.sampled_from((4096, 16384)))
    def scatter(self, first: int, count: int, step: int) -> None:
        """Write every other range, then those between; the last one may end inside a cluster."""
        self.number += 1
        offset = first * 4096
        data = stamped(min(count * step, SIZE - offset), self.number)
        scatter(self.node, offset, data, step)
        self.model[offset : offset + len(data)] = data

    @rule(first=st.integers(0, 70), count=st.integers(2, 16), step=st.sampled_from((4096, 10000)))
    def gather(self, first: int, count: int, step: int) -> None:
        ranges = [(at, min(step, SIZE - at)) for at in range(first * 4096, SIZE, 2 * step)][:count]
        buffer = memoryview(bytearray(sum(length for _, length in ranges)))
        self.node.read_ranges(ranges, buffer)
        assert buffer == b"".join(self.model[at : at + length] for at, length in ranges)

    @rule(offset=offsets, length=lengths, may_unmap=st.booleans())
    def zero(self, offset: int, length: int, may_unmap: bool) -> None:
        length = min(length, SIZE - offset)
        self.node.write_zeroes(offset, length, may_unmap=may_unmap)
        self.model[offset : offset + length] = bytes(length)

    @rule(offset=offsets, length=lengths)
    def discard(self, offset: int, length: int) -> None:
        length = min(length, SIZE - offset)
        self.node.discard(offset, length)
        self.model[offset : offset + length] = read(self.node, offset, length)

    @rule()
    def flush(self) -> None:
        self.node.flush()

    @rule()
    def reopen(self) -> None:
        self.node.close()
        check(self.path)
        assert content(self.path, self.folder) == self.model
        self.open()

    @rule(offset=offsets, length=lengths)
    def read(self, offset: int, length: int) -> None:
        length = min(length, SIZE - offset)
        assert read(self.node, offset, length) == self.model[offset : offset + length]

    @invariant()
    def what_is_said_to_be_zero_is_zero(self) -> None:
        if hasattr(self, "node"):
            for run in chain_extents(self.node, 0, SIZE):
                if run.kind is ExtentKind.ZERO:
                    assert not any(self.model[run.offset : run.end])

    def teardown(self) -> None:
        if hasattr(self, "node"):
            assert read(self.node) == self.model
            self.node.close()
            check(self.path)
            assert content(self.path, self.folder) == self.model
        self.holder.cleanup()


@pytest.mark.soak
@pytest.mark.timeout(1200 if SOAK else 120)
def test_an_image_is_a_bytearray() -> None:
    run_state_machine_as_test(
        Disk,
        settings=settings(
            max_examples=600 if SOAK else 40,
            stateful_step_count=25,
            deadline=None,
            derandomize=not SOAK,
            suppress_health_check=list(HealthCheck),
        ),
    )
