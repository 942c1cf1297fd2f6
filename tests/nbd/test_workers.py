"""The helping threads: started when needed, gone when closed, replaced when one dies."""

import threading

from mirrorgui.nbd.workers import WorkerPool
from tests.nbd.support import PATIENCE_S, wait_until


def test_threads_are_started_as_they_are_needed_and_not_beyond_the_limit():
    pool = WorkerPool(2, "helper")
    begun, let = threading.Semaphore(0), threading.Semaphore(0)

    def work():
        begun.release()
        assert let.acquire(timeout=PATIENCE_S)

    for _ in range(5):
        pool.submit(work)
    assert begun.acquire(timeout=PATIENCE_S)
    assert begun.acquire(timeout=PATIENCE_S)
    assert not begun.acquire(timeout=0.05)
    assert len(pool._threads) == 2
    let.release(5)
    pool.close()
    assert pool._threads == []


def test_an_idle_thread_is_used_again():
    pool = WorkerPool(8, "helper")
    seen = []
    for turn in range(20):
        pool.submit(lambda: seen.append(threading.current_thread()))
        wait_until(lambda: pool._unclaimed == 1 and len(seen) == turn + 1)  # noqa: B023
    assert len(set(seen)) == 1
    pool.close()


def test_it_works_again_after_it_was_closed():
    pool = WorkerPool(2, "helper")
    for _ in range(3):
        done = threading.Event()
        pool.submit(done.set)
        assert done.wait(PATIENCE_S)
        pool.close()


def test_a_thread_that_dies_is_replaced(monkeypatch):
    seen = []
    monkeypatch.setattr(threading, "excepthook", lambda args: seen.append(args.exc_type))
    pool = WorkerPool(1, "helper")
    pool.submit(lambda: 1 / 0)
    wait_until(lambda: seen == [ZeroDivisionError])
    wait_until(lambda: pool._threads == [])
    done = threading.Event()
    pool.submit(done.set)
    assert done.wait(PATIENCE_S)
    pool.close()


def test_closing_finishes_what_is_queued():
    pool = WorkerPool(1, "helper")
    seen = []
    for number in range(50):
        pool.submit(lambda number=number: seen.append(number))
    pool.close()
    assert seen == list(range(50))
