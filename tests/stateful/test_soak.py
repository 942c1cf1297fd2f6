"""S100: random jobs with guests in real threads and real time; seeds 0 to 15, or 1000 of them.

A seed gives the same images, options, requests and verbs; which of them meet is up to the machine.
"""

import asyncio
import errno
import os
import random
import threading
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import pytest

from mirrorgui.block.blkdebug import BlkdebugNode, InjectError
from mirrorgui.block.memory import MemoryNode
from mirrorgui.block.node import BlockNode
from mirrorgui.errors import BlockIOError, StateError
from mirrorgui.mirror.drive import Drive
from mirrorgui.mirror.events import EventLog
from mirrorgui.mirror.job import MirrorJob
from mirrorgui.mirror.options import CopyMode, ErrorPolicy, MirrorOptions
from mirrorgui.mirror.snapshot import Outcome
from mirrorgui.mirror.states import MOVES, OVER, JobStatus
from mirrorgui.units import KiB, MiB
from tests.mirror.harness import Probe, in_thread, pattern

SOAK = bool(os.environ.get("MIRRORGUI_SOAK"))
SEEDS = 1000 if SOAK else 16
SEED_TIMEOUT_S = 30.0
GUESTS = 3

EVENTS = ("read_aio", "write_aio", "pwritev_zero", "flush_to_disk")


@dataclass
class Guest:
    """A thread that changes its own stripes of the image and remembers what it wrote."""

    number: int
    drive: Drive
    chance: random.Random
    stop: threading.Event
    expected: bytearray
    known: np.ndarray
    requests: int = 0
    failed: int = 0

    def run(self) -> None:
        while not self.stop.is_set():
            self.requests += 1
            offset, length = self._range()
            try:
                self._request(offset, length)
            except BlockIOError:
                self.failed += 1
                self.known[offset : offset + length] = False
            if self.chance.random() < 0.3:
                self.stop.wait(self.chance.random() * 0.005)

    def _range(self) -> tuple[int, int]:
        """Choose a part of one of this guest's stripes of 100 KiB, which cross chunks."""
        stripe = 100 * KiB
        count = len(self.expected) // stripe // GUESTS
        base = (self.chance.randrange(count) * GUESTS + self.number) * stripe
        offset = base + self.chance.randrange(stripe - 1)
        longest = base + stripe - offset
        return offset, min(self.chance.choice([1, 512, 4096, 64 * KiB, stripe]), longest)

    def _request(self, offset: int, length: int) -> None:
        end = offset + length
        kind = self.chance.choice(["write", "write", "write", "zero", "discard", "read", "flush"])
        if kind == "write":
            data = pattern(length, self.chance.randrange(2, 250))
            self.drive.write(offset, data)
            self.expected[offset:end] = data
            self.known[offset:end] = True
        elif kind == "zero":
            self.drive.write_zeroes(offset, length)
            self.expected[offset:end] = bytes(length)
            self.known[offset:end] = True
        elif kind == "discard":
            self.known[offset:end] = False
            self.drive.discard(offset, length)
        elif kind == "read":
            found = bytearray(length)
            self.drive.read_into(offset, found)
            known = self.known[offset:end]
            wanted = np.frombuffer(bytes(self.expected[offset:end]), np.uint8)
            assert np.array_equal(np.frombuffer(found, np.uint8)[known], wanted[known])
        else:
            self.drive.flush()


class Soak:
    """One random job."""

    def __init__(self, seed: int) -> None:
        self.seed = seed
        self.chance = chance = random.Random(seed)
        self.size = chance.choice([2 * MiB, 3 * MiB + 12345, 5 * MiB + 512])
        base = pattern(self.size, 1)
        self.source = MemoryNode(self.size, name="source")
        for start in range(0, self.size, 128 * KiB):
            if chance.random() < 0.6:
                self.source.write(start, base[start : start + 128 * KiB])
        target = pattern(self.size, 9) if chance.random() < 0.5 else self.size
        self.target = Probe(MemoryNode(target, can_zero=chance.random() < 0.7))
        self.debug = [BlkdebugNode(self.source), BlkdebugNode(self.target)]
        self.drive = Drive(self.debug[0])
        self.expected = bytearray(self.source.content())
        self.known = np.ones(self.size, bool)
        self.switched_equal: bool | None = None
        self.events = EventLog()
        self.statuses: list[JobStatus] = []
        self.stop = threading.Event()
        self.guests = [
            Guest(
                number,
                self.drive,
                random.Random(seed * 10 + number),
                self.stop,
                self.expected,
                self.known,
            )
            for number in range(GUESTS)
        ]

    def options(self) -> MirrorOptions:
        chance = self.chance
        return MirrorOptions(
            granularity=chance.choice([4 * KiB, 64 * KiB, MiB]),
            buf_size=chance.choice([0, 64 * KiB, MiB]),
            speed=chance.choice([0, 0, 0, 20 * MiB]),
            copy_mode=chance.choice(list(CopyMode)),
            on_source_error=chance.choice([ErrorPolicy.STOP, ErrorPolicy.IGNORE]),
            on_target_error=chance.choice([ErrorPolicy.STOP, ErrorPolicy.IGNORE]),
            copy_threads=chance.choice([0, 1, 4]),
            auto_finalize=chance.random() < 0.8,
        )

    def pivot(self, node: BlockNode) -> None:
        self.switched_equal = self.source.content() == self.target.child.content()
        self.drive.exchange(node)

    async def run(self) -> None:
        self.events.listen(
            lambda event: (
                self.statuses.append(JobStatus(event.data["status"]))
                if event.name == "JOB_STATUS_CHANGE"
                else None
            )
        )
        self.job = MirrorJob(
            self.drive, self.debug[1], self.options(), events=self.events, pivot=self.pivot
        )
        threads = [in_thread(guest.run) for guest in self.guests]
        self.job.start()
        try:
            async with asyncio.timeout(SEED_TIMEOUT_S):
                await self._play()
                await self._end()
        finally:
            self.stop.set()
            for node in self.debug:
                node.clear()
            await self.job.shut_down()
            await asyncio.gather(*threads)
        self._check()

    async def _play(self) -> None:
        for _ in range(self.chance.randrange(3, 12)):
            await asyncio.sleep(self.chance.random() * 0.02)
            self._step()
            self._look()
            if self.job.status in OVER:
                return

    def _step(self) -> None:
        chance, job = self.chance, self.job
        step = chance.choice(
            ["pause", "resume", "resume", "speed", "fault", "fault", "change", "complete", "cancel"]
        )
        try:
            if step == "pause":
                job.pause()
            elif step == "resume":
                job.resume()
            elif step == "speed":
                job.set_speed(chance.choice([0, 5 * MiB, 50 * MiB]))
            elif step == "fault":
                self._fault()
            elif step == "change":
                job.change(CopyMode.WRITE_BLOCKING)
            elif step == "complete":
                job.complete()
            elif chance.random() < 0.2:
                job.cancel(force=chance.random() < 0.5)
        except StateError:
            pass

    def _fault(self) -> None:
        rule = InjectError(
            self.chance.choice(EVENTS),
            errno=self.chance.choice([errno.EIO, errno.ENOSPC, 0]),
            sector=self.chance.choice([-1, self.chance.randrange(self.size // 512)]),
            delay=self.chance.choice([0, 0, 0.01]),
            once=True,
        )
        self.chance.choice(self.debug).add(rule)

    def _look(self) -> None:
        snapshot = self.job.snapshot()
        assert snapshot.length >= snapshot.offset
        assert len([each for each in snapshot.operations if each.kind.value == "copy"]) <= 16
        assert snapshot.in_flight_bytes <= snapshot.buf_size

    async def _end(self) -> None:
        """End the job in one of three ways, whatever state it is in."""
        how = self.chance.choice(["complete", "complete", "cancel", "force"])
        for node in self.debug:
            node.clear()
        job = self.job
        while job.status not in OVER:
            try:
                if how == "force":
                    job.cancel(force=True)
                elif job.snapshot().pause_requested:
                    job.resume()
                elif job.snapshot().speed and job.status is not JobStatus.PENDING:
                    job.set_speed(0)  # guests that are faster than the limit are never caught up
                elif job.status is JobStatus.PENDING:
                    job.finalize()
                elif how == "complete" and not job.snapshot().soft_cancel_requested:
                    job.complete()
                elif job.snapshot().ready:
                    job.cancel()
            except StateError:
                pass
            await asyncio.sleep(0.005)
        await job.wait()

    def _check(self) -> None:
        snapshot = self.job.snapshot()
        assert self.job.status is JobStatus.NULL
        assert all(after in MOVES[before] for before, after in pairwise(self.statuses))
        assert self.target.overlaps == []
        assert self.job._engine.ranges.held() == ()
        switched = snapshot.outcome is Outcome.SWITCHED
        assert switched == (self.drive.node is self.debug[1])
        assert self.switched_equal in (None, True)
        image = self.target.child if switched else self.source
        now = np.frombuffer(image.content(), np.uint8)
        wanted = np.frombuffer(bytes(self.expected), np.uint8)
        assert np.array_equal(now[self.known], wanted[self.known]), "a guest's write is lost"
        if snapshot.outcome is Outcome.FINISHED:
            assert snapshot.error is None


@pytest.mark.soak
@pytest.mark.timeout(SEEDS * 5 + 60)
@pytest.mark.parametrize("first", range(0, SEEDS, 8))
def test_s100_random_jobs_with_real_guests(first: int) -> None:
    for seed in range(first, first + 8):
        try:
            asyncio.run(Soak(seed).run())
        except BaseException as error:
            error.add_note(f"seed {seed}")
            raise
