"""RangeLock: claims of the job and of guests, as a machine and with threads."""

import random
import threading
import time
from itertools import pairwise

import hypothesis.strategies as st
from hypothesis import HealthCheck, settings
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from mirrorgui.mirror.ranges import Claim, RangeLock

ALIGNMENT = 8
SIZE = 128
PLACES = st.integers(0, SIZE - 1)
TIMEOUT_S = 10.0


class Guest:
    """A thread that claims a range, and holds it until told to let go."""

    def __init__(self, lock: RangeLock, offset: int, length: int) -> None:
        self.range = range(offset, offset + length)
        self.inside = threading.Event()
        self.leave = threading.Event()
        self.left = threading.Event()
        self.thread = threading.Thread(target=self._run, args=(lock, offset, length))
        self.thread.start()

    def _run(self, lock: RangeLock, offset: int, length: int) -> None:
        with lock.guest_claim(offset, length):
            self.inside.set()
            assert self.leave.wait(TIMEOUT_S)
        self.left.set()


class RangesMachine(RuleBasedStateMachine):
    """Claims against a list of ranges."""

    def __init__(self) -> None:
        super().__init__()
        self.released = 0
        self.lock = RangeLock(self._count)
        self.mine: list[Claim] = []
        self.guests: list[Guest] = []

    def _count(self) -> None:
        self.released += 1

    def _settle(self) -> None:
        """Wait until every guest is inside, or waits for one that is."""
        deadline = time.monotonic() + TIMEOUT_S
        while not self._is_at_rest():
            assert time.monotonic() < deadline, "a guest hangs with nobody in its way"
            time.sleep(0.00005)

    def _is_at_rest(self) -> bool:
        outside = [guest for guest in self.guests if not guest.inside.is_set()]
        return self.lock.waiting == len(outside) and all(
            any(self._overlaps(guest, other) for other in self._claimed(guest)) for guest in outside
        )

    @staticmethod
    def _overlaps(guest: Guest, other: range) -> bool:
        return guest.range.start < other.stop and other.start < guest.range.stop

    def _claimed(self, but: Guest) -> list[range]:
        ours = [range(claim.offset, claim.end) for claim in self.mine]
        return ours + [
            each.range for each in self.guests if each is not but and each.inside.is_set()
        ]

    @rule(offset=PLACES, chunks=st.integers(1, 6))
    def claim(self, offset: int, chunks: int) -> None:
        offset = offset // ALIGNMENT * ALIGNMENT
        length = min(chunks * ALIGNMENT, SIZE - offset)
        wanted = set(range(offset, offset + length))
        taken = {byte for claim in self.mine for byte in range(claim.offset, claim.end)}
        taken |= {byte for guest in self.guests for byte in guest.range}
        free = 0
        while free < length and offset + free not in taken:
            free += 1
        free = free if free == length else free // ALIGNMENT * ALIGNMENT
        claim = self.lock.claim_prefix(offset, length, ALIGNMENT)
        if not free:
            assert claim is None
            assert self.lock.busy_until(offset) >= offset
            return
        assert claim is not None and (claim.offset, claim.length) == (offset, free)
        assert set(range(claim.offset, claim.end)) <= wanted - taken
        self.mine.append(claim)

    @precondition(lambda self: self.mine)
    @rule(which=st.integers(0, 50))
    def release(self, which: int) -> None:
        self.lock.release(self.mine.pop(which % len(self.mine)))
        self._settle()

    @precondition(lambda self: len(self.guests) < 4)
    @rule(offset=PLACES, length=st.integers(1, 30))
    def enter(self, offset: int, length: int) -> None:
        self.guests.append(Guest(self.lock, offset, min(length, SIZE - offset)))
        self._settle()

    @precondition(lambda self: any(guest.inside.is_set() for guest in self.guests))
    @rule(which=st.integers(0, 50))
    def leave(self, which: int) -> None:
        inside = [guest for guest in self.guests if guest.inside.is_set()]
        guest = inside[which % len(inside)]
        before = self.released
        guest.leave.set()
        assert guest.left.wait(TIMEOUT_S)
        guest.thread.join()
        self.guests.remove(guest)
        assert self.released == before + 1, "the job is told when a guest has left"
        self._settle()

    @rule(offset=PLACES)
    def ask_where_it_is_free(self, offset: int) -> None:
        until = self.lock.busy_until(offset)
        around = [each for each in self._everything() if each.start <= offset < each.stop]
        assert until == max((each.stop for each in around), default=offset)

    def _everything(self) -> list[range]:
        ours = [range(claim.offset, claim.end) for claim in self.mine]
        return ours + [guest.range for guest in self.guests]

    @invariant()
    def claims_never_overlap(self) -> None:
        held = self.lock.held()
        assert list(held) == sorted(held, key=lambda claim: claim.offset)
        for earlier, later in pairwise(held):
            assert earlier.end <= later.offset
        inside = sum(guest.inside.is_set() for guest in self.guests)
        assert sum(claim.guest for claim in held) == inside
        assert len(held) == len(self.mine) + inside

    def teardown(self) -> None:
        for claim in self.mine:
            self.lock.release(claim)
        for guest in self.guests:
            guest.leave.set()
        for guest in self.guests:
            assert guest.left.wait(TIMEOUT_S)
            guest.thread.join()
        assert self.lock.held() == () and not self.lock.waiting


# Its guests are threads: on a busy machine making examples takes long.
RangesMachine.TestCase.settings = settings(suppress_health_check=[HealthCheck.too_slow])
TestRangesMachine = RangesMachine.TestCase


def test_threads_that_claim_at_random_never_meet_and_never_hang() -> None:
    lock = RangeLock()
    owner = [-1] * SIZE
    failures: list[str] = []

    def work(number: int) -> None:
        chance = random.Random(number)
        for _ in range(300):
            offset = chance.randrange(SIZE)
            length = chance.randrange(1, SIZE - offset + 1)
            with lock.guest_claim(offset, length):
                if any(each != -1 for each in owner[offset : offset + length]):
                    failures.append(f"{number} met somebody")
                owner[offset : offset + length] = [number] * length
                if owner[offset : offset + length] != [number] * length:
                    failures.append(f"{number} was overrun")
                owner[offset : offset + length] = [-1] * length

    threads = [threading.Thread(target=work, args=(number,)) for number in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert not any(thread.is_alive() for thread in threads)
    assert failures == []
    assert lock.held() == ()
