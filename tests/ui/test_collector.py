"""Garbage goes on Qt's thread, whoever made it."""

import gc
import threading

import pytest
from PySide6.QtCore import QObject

from mirrorgui.ui.collector import Collector


class Knot:
    """Garbage that only the collector finds; notes the thread it goes on."""

    gone: list[threading.Thread] = []

    def __init__(self):
        self.me = self
        self.inner = QObject()

    def __del__(self):
        Knot.gone.append(threading.current_thread())


@pytest.fixture
def collector(qapp):
    Knot.gone.clear()
    made = Collector()
    made.start()
    yield made
    made.stop()
    gc.disable()  # the fixture around the test turns it on again


def allocate():
    """Make far more objects than the collector's thresholds."""
    kept = [[number] for number in range(200_000)]
    assert kept


def test_another_thread_collects_nothing(collector):
    for _ in range(10):
        Knot()
    thread = threading.Thread(target=allocate)
    thread.start()
    thread.join()
    assert Knot.gone == []
    while gc.get_count()[0] <= gc.get_threshold()[0]:
        Knot()
    collector.collect()
    assert len(Knot.gone) >= 10
    assert set(Knot.gone) == {threading.main_thread()}


def test_the_interpreter_gets_its_collector_back(qapp):
    gc.enable()
    made = Collector()
    made.start()
    assert not gc.isenabled()
    assert gc.get_freeze_count() > 0
    made.stop()
    assert gc.isenabled()
    assert gc.get_freeze_count() == 0
    gc.disable()
