"""The speed limit on a clock that the test moves."""

import random

import pytest

from mirrorgui.mirror.ratelimit import CREDIT_NS, PIECE_NS, RateLimit

SECOND = 1_000_000_000


class Clock:
    def __init__(self) -> None:
        self.now = 5 * SECOND

    def __call__(self) -> int:
        return self.now


def work(
    limit: RateLimit, clock: Clock, seconds: float, lateness: int = 0
) -> list[tuple[int, int]]:
    """Issue as fast as the limit lets; return (when, length) of each piece."""
    chance = random.Random(1)
    issued = []
    end = clock.now + int(seconds * SECOND)
    while clock.now < end:
        if delay := limit.delay_ns():
            clock.now += delay + chance.randrange(lateness + 1)
            continue
        issued.append((clock.now, limit.piece))
        limit.charge(limit.piece)
    return issued


def test_0_is_no_limit() -> None:
    limit = RateLimit(0, Clock())
    limit.charge(10**15)
    limit.refund(10**9)
    assert limit.delay_ns() == 0 and limit.piece == 0


@pytest.mark.parametrize("speed", [1, 1000, 10**6, 10**9])
@pytest.mark.parametrize("lateness", [0, 2_000_000, 15_000_000])
def test_the_average_is_exact_and_no_100_ms_hold_more_than_1_5_times_as_much(
    speed: int, lateness: int
) -> None:
    clock = Clock()
    issued = work(RateLimit(speed, clock), clock, 5, lateness)
    total = sum(length for _, length in issued)
    assert 0.97 * 5 * speed <= total <= 1.03 * 5 * speed + 1
    piece = max(length for _, length in issued)
    for when, _ in issued[:: max(len(issued) // 50, 1)]:
        window = sum(length for at, length in issued if when <= at < when + SECOND // 10)
        assert window <= speed * (SECOND // 10 + CREDIT_NS + PIECE_NS) / SECOND + piece


def test_a_rest_does_not_turn_into_a_burst() -> None:
    clock = Clock()
    limit = RateLimit(1000, clock)
    clock.now += 60 * SECOND
    limit.charge(1000)
    assert limit.delay_ns() == SECOND - CREDIT_NS


def test_a_new_limit_forgives_the_old_one() -> None:
    clock = Clock()
    limit = RateLimit(1, clock)
    limit.charge(10**6)
    assert limit.delay_ns() > 10**5 * SECOND
    limit.speed = 10**6
    assert limit.delay_ns() == 0
    limit.charge(10**6)
    limit.speed = 0
    assert limit.delay_ns() == 0 and limit.speed == 0


def test_what_needed_no_transfer_is_given_back() -> None:
    clock = Clock()
    limit = RateLimit(1000, clock)
    limit.charge(1000)
    limit.charge(500)
    limit.refund(1000)
    assert limit.delay_ns() == SECOND // 2
    limit.refund(10**9)
    limit.charge(1000)
    assert limit.delay_ns() == SECOND - CREDIT_NS, "no more than the credit is kept"
