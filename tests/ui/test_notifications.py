"""Who looks elsewhere is told: on a real bus, by a service as desktops have one."""

import asyncio
from dataclasses import replace

import pytest
from PySide6.QtWidgets import QApplication

from mirrorgui.mirror.rates import EtaState
from mirrorgui.mirror.snapshot import Outcome
from mirrorgui.mirror.states import JobStatus
from mirrorgui.ui.desktop import bus as bus_module
from mirrorgui.ui.desktop.bus import session_socket
from mirrorgui.ui.desktop.notifications import Notifications
from mirrorgui.ui.news import TOO_SLOW_S, news_of
from mirrorgui.ui.notifier import Notifier
from mirrorgui.ui.tasks import TaskSet
from tests.ui.buses import message_bus, said, service
from tests.ui.fakes import full, snapshot, stopped

SERVICE = "notification_service.py"


@pytest.fixture
def bus(tmp_path, monkeypatch):
    """A session bus of our own."""
    with message_bus(tmp_path) as address:
        monkeypatch.setenv("DBUS_SESSION_BUS_ADDRESS", address)
        yield address


@pytest.fixture
def desktop(bus):
    with service(SERVICE) as process:
        yield process


class Told:
    """A desktop that keeps what it was asked to show."""

    def __init__(self):
        self.shown = []
        self.withdrawn = 0

    async def show(self, subject, title, text, *, urgent, action):
        self.shown.append((subject, title, text, urgent))
        return True

    async def withdraw(self):
        self.withdrawn += 1

    async def close(self):
        pass


@pytest.fixture
def away(driver, monkeypatch):
    """The window's notifier while another program's window is the active one."""
    told, now = Told(), [0.0]
    notifier = Notifier(told, TaskSet(driver.loop), driver.window, clock=lambda: now[0])
    driver.controller.frame_ready.connect(notifier.look)
    monkeypatch.setattr(QApplication, "activeWindow", lambda: None)
    told.notifier, told.now = notifier, now
    yield told
    driver.run(notifier.shutdown())


def pass_time(driver, away, seconds):
    away.now[0] += seconds
    driver.controller.look_now()
    driver.settle()


def titles(away):
    return [title for _key, title, _text, _urgent in away.shown]


def test_being_in_sync_is_told_once_and_only_when_it_lasts(driver, away):
    driver.mirror()
    driver.show(snapshot(JobStatus.READY))
    assert titles(away) == []
    pass_time(driver, away, 1.5)
    pass_time(driver, away, 60)
    assert away.shown == [
        (
            0,
            "source.img is in sync. Complete when you like.",
            "Both images are kept equal until you decide.",
            False,
        )
    ]


def test_a_stop_is_urgent_and_says_whether_data_are_safe(driver, away):
    driver.mirror()
    driver.show(stopped())
    pass_time(driver, away, 1.5)
    driver.show(full())
    pass_time(driver, away, 1.5)
    assert titles(away) == [
        "Writing to target.img stopped at 12.0 GiB: Input/output error.",
        "Writing to target.img stopped: no space left (unknown free, up to 389.0 MiB needed).",
    ]
    assert all(urgent for *_rest, urgent in away.shown)
    assert "Clients are not affected" in away.shown[0][2]


@pytest.mark.parametrize(
    ("outcome", "title", "urgent"),
    [
        (Outcome.SWITCHED, "Done. Clients use target.img.", False),
        (Outcome.FAILED, "Failed: Input/output error. The target is not usable.", True),
    ],
)
def test_the_end_is_told_at_once(driver, away, outcome, title, urgent):
    driver.mirror()
    error = "Input/output error" if outcome is Outcome.FAILED else None
    driver.show(replace(snapshot(JobStatus.NULL), outcome=outcome, error=error))
    driver.quiet()
    assert titles(away) == [title]
    assert away.shown[0][3] is urgent


def test_who_cancels_need_not_be_told(driver, away):
    driver.mirror()
    driver.job.cancel(force=True)
    driver.quiet()
    pass_time(driver, away, 5)
    assert away.shown == []


def test_guests_that_write_too_much_are_news_after_a_while(driver, away):
    driver.mirror()
    frame = driver.controller.frame()
    frame = replace(frame, rates=replace(frame.rates, state=EtaState.WILL_NOT_FINISH))
    assert news_of(frame).after_s == TOO_SLOW_S
    away.notifier.look(frame)
    away.now[0] = TOO_SLOW_S + 1
    away.notifier.look(frame)
    driver.settle()
    assert titles(away)[0].startswith("Will not finish")


def test_nothing_is_told_to_who_sees_it(driver, away, monkeypatch):
    monkeypatch.setattr(QApplication, "activeWindow", lambda: driver.window)
    driver.mirror()
    driver.show(stopped())
    pass_time(driver, away, 2)
    monkeypatch.setattr(QApplication, "activeWindow", lambda: None)
    pass_time(driver, away, 2)
    assert away.shown == []


def test_a_demonstration_is_nobodys_data(driver):
    driver.mirror()
    frame = driver.controller.frame()
    assert news_of(replace(frame, snapshot=stopped())) is not None
    assert news_of(replace(frame, snapshot=stopped(), demonstration=True)) is None


# On a real bus.


def test_a_notification_is_shown_replaced_clicked_and_taken_back(driver, desktop):
    clicked = []
    made = Notifications(clicked.append, "MirrorGUI", "io.github.mirrorgui.mirrorgui")

    async def show(text):
        return await made.show(7, "Stopped", text, urgent=True, action="Show")

    assert driver.run(show("a < b & c"))
    assert said(desktop) == {
        "signature": "susssasa{sv}i",
        "number": 1,
        "replaces": 0,
        "app": "MirrorGUI",
        "icon": "io.github.mirrorgui.mirrorgui",
        "title": "Stopped",
        "text": "a &lt; b &amp; c",
        "actions": ["default", "Show"],
        "urgency": 2,
        "urgency_type": "Byte",
        "entry": "io.github.mirrorgui.mirrorgui",
        "timeout": -1,
    }
    assert driver.run(show("again"))
    assert said(desktop)["replaces"] == 1
    desktop.stdin.write("1\n")
    desktop.stdin.flush()
    driver.until(lambda: clicked)
    assert clicked == [7]
    driver.run(made.withdraw())
    assert said(desktop) == {"closed": 1}
    driver.run(made.close())


def test_without_a_service_nothing_is_shown_and_a_later_one_is_found(driver, bus):
    made = Notifications(lambda _key: None, "MirrorGUI", "entry")

    async def show():
        return await made.show(1, "title", "text", urgent=False, action="Show")

    assert not driver.run(show())
    with service(SERVICE) as process:
        assert driver.run(show())
        assert said(process)["title"] == "title"
    driver.run(made.close())


def test_a_bus_that_goes_away_is_found_again(driver, bus, tmp_path):
    made = Notifications(lambda _key: None, "MirrorGUI", "entry")
    with service(SERVICE) as process:

        async def show():
            return await made.show(1, "title", "text", urgent=False, action="Show")

        assert driver.run(show())
        said(process)
        made._bus._writer.transport.abort()
        driver.until(lambda: not made._bus.is_open)
        assert driver.run(show())
        assert said(process)["title"] == "title"
    driver.run(made.close())


@pytest.mark.parametrize("address", ["", "autolaunch:", "unix:path=/nonexistent", "tcp:host=x"])
def test_without_a_bus_nothing_is_started(driver, monkeypatch, address, tmp_path):
    monkeypatch.setenv("DBUS_SESSION_BUS_ADDRESS", address)
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    made = Notifications(lambda _key: None, "MirrorGUI", "entry")

    async def show():
        return await made.show(1, "title", "text", urgent=False, action="Show")

    assert not driver.run(show())
    driver.run(made.close())


def test_addresses_of_buses(monkeypatch, tmp_path):
    for address, path in (
        ("unix:path=/run/user/1/bus", "/run/user/1/bus"),
        ("unix:abstract=/tmp/dbus-x,guid=1", "\0/tmp/dbus-x"),
        ("unix:path=/a%20b,guid=7", "/a b"),
        ("tcp:host=h;unix:path=/x", "/x"),
        ("autolaunch:", None),
    ):
        monkeypatch.setenv("DBUS_SESSION_BUS_ADDRESS", address)
        assert session_socket() == path
    monkeypatch.delenv("DBUS_SESSION_BUS_ADDRESS")
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    (tmp_path / "bus").touch()
    assert session_socket() is None, "a file is no bus"


@pytest.mark.parametrize("said_first", [b"REJECTED\r\n", b"OK 1\r\n", b"", None])
def test_who_speaks_no_dbus_is_left(driver, monkeypatch, tmp_path, said_first):
    made = Notifications(lambda _key: None, "MirrorGUI", "entry")
    monkeypatch.setenv("DBUS_SESSION_BUS_ADDRESS", f"unix:path={tmp_path / 'bus'}")

    async def answer(reader, writer):
        await reader.readline()
        if said_first is None:
            writer.close()
            return
        writer.write(said_first)
        if said_first.startswith(b"OK"):
            await reader.readline()
            writer.write(b"x" * 64)
        await writer.drain()
        await reader.read()
        writer.close()

    async def show():
        async with await asyncio.start_unix_server(answer, tmp_path / "bus"):
            return await made.show(1, "title", "text", urgent=False, action="Show")

    monkeypatch.setattr(bus_module, "PATIENCE_S", 0.5)
    assert not driver.run(show())
    assert not made._bus.is_open
    driver.run(made.close())


def test_a_click_brings_the_window_forward_with_its_mirror(driver):
    first = driver.mirror()
    driver.mirror("/vm/other.img", "/vm2/other.img", job_id="mirror1")
    driver.window.showMinimized()
    driver.settle()
    driver.window.show_mirror(first)
    driver.settle()
    assert driver.controller.selected == first
    assert not driver.window.isMinimized()
