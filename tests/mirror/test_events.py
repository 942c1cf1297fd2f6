"""The event log."""

import logging

import pytest

from mirrorgui.mirror.events import EventLog


def test_events_are_numbered_and_read_from_any_place() -> None:
    log = EventLog()
    for number in range(3):
        log.emit("E", number=number)
    events, lost = log.since(1)
    assert [(event.sequence, event.data["number"]) for event in events] == [(2, 1), (3, 2)]
    assert lost == 0 and log.last_sequence == 3
    assert log.since(3) == ((), 0)


def test_a_late_reader_is_told_how_many_it_lost() -> None:
    log = EventLog(capacity=4)
    for _ in range(10):
        log.emit("E")
    events, lost = log.since(2)
    assert [event.sequence for event in events] == [7, 8, 9, 10]
    assert lost == 4


def test_an_event_is_frozen_and_reads_as_qmp() -> None:
    event = EventLog().emit("BLOCK_JOB_READY", io_status="ok", len=1)
    with pytest.raises(TypeError):
        event.data["len"] = 2  # type: ignore[index]
    message = event.as_qmp()
    assert message["event"] == "BLOCK_JOB_READY"
    assert message["data"] == {"io-status": "ok", "len": 1}
    stamp = message["timestamp"]
    assert stamp["seconds"] * 10**6 + stamp["microseconds"] == event.time_ns // 1000


def test_listeners_come_and_go() -> None:
    log = EventLog()
    seen: list[str] = []
    stop = log.listen(lambda event: seen.append(event.name))
    log.emit("A")
    stop()
    stop()
    log.emit("B")
    assert seen == ["A"]


def test_a_listener_that_raises_is_removed_and_hurts_nobody(
    caplog: pytest.LogCaptureFixture,
) -> None:
    log = EventLog()
    seen: list[str] = []

    def broken(_event: object) -> None:
        raise ZeroDivisionError

    log.listen(broken)
    log.listen(lambda event: seen.append(event.name))
    with caplog.at_level(logging.ERROR):
        log.emit("A")
        log.emit("B")
    assert seen == ["A", "B"]
    assert caplog.text.count("event listener removed") == 1
