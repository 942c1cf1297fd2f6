"""S100 over the socket: random jobs with guests that write; a few seeds, or with soak 300 of them.

A seed gives the same images, options, requests and verbs; which of them meet is up to the machine.
One guest does this and that in the first half of the image, and what it did is known. The other one
counts in the second half as fast as it can, so that an image tells which of its writes it has seen.
"""

import os
import random
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

import numpy as np
import pytest

from mirrorgui.mirror.states import MOVES, JobStatus
from tests.interop.live import Guest, GuestError
from tests.qmp.peers import Peer
from tests.qmp.scripts import KiB, MiB, export, img, mirror, pattern

pytestmark = pytest.mark.interop

SEEDS = 300 if os.environ.get("MIRRORGUI_SOAK") else 12
AT_A_TIME = 4

SIZE = 2 * MiB
HALF = SIZE // 2
BLOCK = 4 * KiB
PLACES = HALF // BLOCK


@dataclass
class Known:
    """What the first guest did to its half of the image."""

    data: bytearray
    sure: np.ndarray = field(default_factory=lambda: np.ones(HALF, bool))

    def require_in(self, image: bytes) -> None:
        found, wanted = (np.frombuffer(bytes(each[:HALF]), np.uint8) for each in (image, self.data))
        wrong = np.flatnonzero((found != wanted) & self.sure)
        assert not len(wrong), f"{len(wrong)} bytes are lost, the first at {wrong[0]}"


def require_counted(image: bytes, upto: int | None) -> None:
    """See that the second half holds the writes 1 to ``upto``; None for those of any moment."""
    found = np.frombuffer(image[HALF:], np.uint64).reshape(PLACES, BLOCK // 8)
    original = np.frombuffer(pattern(SIZE)[HALF:], np.uint64).reshape(PLACES, BLOCK // 8)
    written = ~(found == original).all(axis=1)
    last = int(found[written, 0].max()) if written.any() else 0
    assert upto in (None, last)
    for number in range(max(1, last - PLACES + 1), last + 1):
        assert (found[number % PLACES] == number).all(), f"{number} of {last} is lost"


class RandomJob:
    """A mirror from ``s`` to ``t`` and what happens to it, by a seed."""

    def __init__(self, peer: Peer, seed: int) -> None:
        self.peer = peer
        self.chance = random.Random(seed)
        self.format = self.chance.choice(["raw", "raw", "qcow2"])
        self.known = Known(bytearray(pattern(SIZE)[:HALF]))
        self.offset = 0
        self.outlived = False
        """Whether the job was there still when the first guest had done its last request."""

    # Before.

    def begin(self) -> str:
        """Add the images and start the job; returns where guests find the source."""
        peer, chance = self.peer, self.chance
        peer.image("s.img", SIZE, pattern(SIZE))
        if self.format == "qcow2":
            img(peer, "create", "-q", "-f", "qcow2", "t.img", SIZE)
        else:
            peer.image("t.img", SIZE, b"\xa5" * chance.choice([0, SIZE]))
        self._add("s", "raw", ["read"])
        self._add("t", self.format, ["write", "write-zeroes", "flush"])
        uri = export(peer, "s")
        policies = ["stop", "ignore", "stop", "ignore", "report"]
        started = mirror(
            peer,
            granularity=chance.choice([4 * KiB, 64 * KiB, MiB]),
            buf_size=chance.choice([0, 64 * KiB, MiB]),
            speed=chance.choice([0, 0, 4 * MiB]),
            copy_mode=chance.choice(["background", "write-blocking"]),
            on_source_error=chance.choice(policies),
            on_target_error=chance.choice(policies),
            auto_finalize=chance.random() < 0.8,
            auto_dismiss=chance.random() < 0.8,
        )
        assert started == {"return": {}}
        return uri

    def _add(self, node: str, image_format: str, kinds: list[str]) -> None:
        image: dict[str, Any] = {"driver": "file", "filename": f"{node}.img"}
        if image_format != "raw":
            image = {"driver": image_format, "file": image}
        rules = [self._fault(kinds) for _ in range(self.chance.choice([0, 1, 1, 3]))]
        bug = {"driver": "blkdebug", "node-name": node, "image": image, "inject-error": rules}
        self.peer.ok("blockdev-add", bug)

    def _fault(self, kinds: list[str]) -> dict[str, Any]:
        kind = self.chance.choice(kinds)
        fault = {"event": "none", "iotype": kind, "errno": self.chance.choice([5, 28])}
        if kind != "flush":
            fault["sector"] = self.chance.randrange(SIZE // 512)
        return fault | {"once": True}

    # Meanwhile.

    def play(self, client: Guest) -> None:
        for _ in range(self.chance.randrange(5, 30)):
            if self.chance.random() < 0.6:
                self._request(client)
            else:
                self._verb()
            job = self._look()
            self.outlived = job is not None and job["status"] != "concluded"

    def _request(self, client: Guest) -> None:
        chance = self.chance
        offset = chance.randrange(HALF - 1)
        length = min(chance.choice([1, 512, 4 * KiB, 64 * KiB, 200 * KiB]), HALF - offset)
        part = slice(offset, offset + length)
        kind = chance.choice(["write", "write", "zero", "trim", "read"])
        self.known.sure[part] &= kind == "read"
        try:
            if kind == "write":
                data = pattern(length, chance.randrange(2, 1 << 30))
                client.write(offset, data)
                self.known.data[part] = data
            elif kind == "zero":
                client.zero(offset, length)
                self.known.data[part] = bytes(length)
            elif kind == "trim":
                client.trim(offset, length)
                return  # zeroes or what was there
            else:
                found = np.frombuffer(client.read(offset, length), np.uint8)
                wanted = np.frombuffer(bytes(self.known.data[part]), np.uint8)
                assert (found == wanted)[self.known.sure[part]].all()
                return
        except GuestError:
            return  # a fault of the image that it stands on
        self.known.sure[part] = True

    def _verb(self) -> None:
        chance, peer = self.chance, self.peer
        verb = chance.choice(["pause", "resume", "resume", "speed", "change", "complete", "cancel"])
        if verb == "speed":
            speed = chance.choice([0, MiB, 50 * MiB])
            peer.execute("block-job-set-speed", device="job", speed=speed)
        elif verb == "change":
            mode = {"type": "mirror", "copy-mode": "write-blocking"}
            peer.execute("block-job-change", {"id": "job"} | mode)
        elif verb == "cancel":
            if chance.random() < 0.2:
                peer.execute("block-job-cancel", device="job", force=chance.random() < 0.5)
        else:
            peer.execute(f"job-{verb}", id="job")

    def _look(self) -> dict[str, Any] | None:
        """Look at the job, if there still is one."""
        found = self.peer.asked("query-block-jobs")
        if not found:
            return None
        assert self.offset <= found[0]["offset"] <= found[0]["len"]
        self.offset = found[0]["offset"]
        return dict(found[0])

    # The end.

    def end(self) -> None:
        """End the job in one of three ways, whatever state it is in."""
        how = self.chance.choice(["complete", "complete", "cancel", "force"])
        self.peer.until(lambda: self._is_over(how))

    def _is_over(self, how: str) -> bool:
        peer, job = self.peer, self._look()
        if job is None:
            return True
        status = job["status"]
        if status == "concluded":
            peer.execute("job-dismiss", id="job")
        elif status == "pending":
            peer.execute("job-finalize", id="job")
        elif how == "force":
            peer.execute("job-cancel", id="job")
        elif job["paused"]:
            peer.execute("job-resume", id="job")
        elif job["speed"]:
            # Guests that are faster than the limit are never caught up with.
            peer.execute("block-job-set-speed", device="job", speed=0)
        elif status == "ready" and how == "complete":
            peer.execute("job-complete", id="job")
        elif status == "ready":
            peer.execute("block-job-cancel", device="job")
        return False

    def close(self) -> bool:
        """Take the nodes away; returns whether the guests were on the target."""
        peer = self.peer
        peer.wait_for_status("null")
        (told,) = peer.ok("query-block-exports")
        peer.ok("block-export-del", id="disk", mode="hard")
        peer.wait_for("BLOCK_EXPORT_DELETED")
        peer.ok("nbd-server-stop")
        for node in "st":
            peer.ok("blockdev-del", node_name=node)
        return bool(told["node-name"] == "t")

    def content(self, name: str) -> bytes:
        if name == "t" and self.format == "qcow2":
            img(self.peer, "check", "-q", "t.img")
            img(self.peer, "convert", "-f", "qcow2", "-O", "raw", "t.img", "t.raw")
            return (self.peer.folder / "t.raw").read_bytes()
        return (self.peer.folder / f"{name}.img").read_bytes()

    def check(self, counted: int, *, switched: bool) -> None:
        events = self.peer.events()
        changes = [data["status"] for name, data in events if name == "JOB_STATUS_CHANGE"]
        moves = pairwise(JobStatus(status) for status in changes)
        assert all(after in MOVES[before] for before, after in moves), changes
        ends = [
            (name, data.get("error"))
            for name, data in events
            if name in ("BLOCK_JOB_COMPLETED", "BLOCK_JOB_CANCELLED")
        ]
        assert len(ends) == 1
        well = ends == [("BLOCK_JOB_COMPLETED", None)]
        assert well or not switched
        active = self.content("t" if switched else "s")
        self.known.require_in(active)
        require_counted(active, counted)
        if well:
            copy = self.content("s" if switched else "t")
            if self.outlived:
                self.known.require_in(copy)
            require_counted(copy, None)


def play_seed(peer: Peer, seed: int) -> None:
    job = RandomJob(peer, seed)
    uri = job.begin()
    with Guest(uri) as client, Guest(uri) as counter:
        load = {"kind": "counter", "offset": HALF, "length": HALF, "block": BLOCK}
        counter.start_load(**load)
        job.play(client)
        counted = counter.stop_load() if job.chance.random() < 0.5 else None
        job.end()
        counted = counted or counter.stop_load()
        assert counted["error"] is None
    switched = job.close()
    job.check(counted["done"], switched=switched)


@pytest.mark.soak
@pytest.mark.parametrize("first", range(0, SEEDS, AT_A_TIME))
def test_s100_random_jobs_with_guests(ours: Peer, first: int) -> None:
    for seed in range(first, first + AT_A_TIME):
        try:
            play_seed(ours, seed)
        except BaseException as error:
            error.add_note(f"seed {seed}")
            raise
        ours.clear()
