"""The computer is kept awake for mirrors and clients, and no longer."""

import signal
import subprocess
import sys
from dataclasses import replace

import pytest

from mirrorgui.mirror.states import JobStatus
from mirrorgui.ui.desktop.awake import WakeLock
from mirrorgui.ui.exported import Exported
from mirrorgui.ui.keeper import Keeper, needs_a_computer
from mirrorgui.ui.node_exports import NodeExported
from mirrorgui.ui.tasks import TaskSet
from tests.ui.buses import message_bus, said, service
from tests.ui.fakes import client, snapshot


class FakeLock:
    def __init__(self):
        self.calls = []
        self.granted = True

    def acquire(self):
        self.calls.append("acquire")
        return self.granted

    def release(self):
        self.calls.append("release")
        return ""


@pytest.fixture
def lock():
    return FakeLock()


@pytest.fixture
def keeper(driver, lock):
    controller = driver.controller
    keeper = Keeper(lock, TaskSet(driver.loop))
    controller.frame_ready.connect(keeper.look)
    controller.removed.connect(keeper.forget)
    controller.exports.changed.connect(keeper.look_at_exports)
    keeper.awake.connect(driver.window.status.show_awake)
    yield keeper
    driver.run(keeper.shutdown())


def test_sleep_is_prevented_while_a_mirror_works(driver, keeper, lock):
    assert lock.calls == []
    driver.mirror()
    driver.until(lambda: lock.calls == ["acquire"])
    driver.settle()
    assert driver.window.status.awake.isVisible()
    assert driver.window.status.awake.text() == "Sleep is prevented"
    driver.show(snapshot(JobStatus.NULL))
    driver.until(lambda: lock.calls == ["acquire", "release"])
    driver.quiet()
    assert not driver.window.status.awake.isVisible()


def test_two_mirrors_need_one_lock(driver, keeper, lock):
    driver.mirror()
    other = driver.mirror("/vm/other.img", "/vm2/other.img", job_id="mirror1")
    driver.until(lambda: lock.calls == ["acquire"])
    driver.run(driver.controller.remove(other))
    driver.settle()
    assert lock.calls == ["acquire"]


def test_a_lock_that_is_refused_is_not_said_to_be_held(driver, keeper, lock):
    lock.granted = False
    driver.mirror()
    driver.until(lambda: lock.calls == ["acquire"])
    driver.controller.look_now()
    driver.settle()
    assert lock.calls == ["acquire"]
    assert not driver.window.status.awake.isVisible()


def test_clients_need_the_computer_and_the_demonstration_does_not(driver):
    driver.mirror()
    frame = driver.controller.frame()
    assert needs_a_computer(frame)
    assert not needs_a_computer(replace(frame, demonstration=True))
    over = replace(frame, snapshot=snapshot(JobStatus.NULL))
    assert not needs_a_computer(over)
    served = Exported("nbd://localhost/x", clients=(client(),))
    assert needs_a_computer(replace(over, exported=served))


def test_clients_of_exports_alone_need_it(driver, keeper, lock):
    used = Exported("nbd://localhost/x", clients=(client(),), by_command=True)
    keeper.look_at_exports((NodeExported("e", "n", "/vm/a.img", used),))
    driver.until(lambda: lock.calls == ["acquire"])
    keeper.look_at_exports(())
    driver.until(lambda: lock.calls == ["acquire", "release"])


# With the real program, on a bus of our own.


@pytest.fixture
def system_bus(tmp_path, monkeypatch):
    with message_bus(tmp_path) as address:
        monkeypatch.setenv("DBUS_SYSTEM_BUS_ADDRESS", address)
        yield address


def test_the_login_manager_grants_a_lock_and_gets_it_back(system_bus):
    with service("logind_service.py") as logind:
        lock = WakeLock()
        assert lock.acquire()
        assert said(logind) == {
            "what": "sleep:shutdown",
            "who": "MirrorGUI",
            "why": "A disk image is being mirrored",
            "mode": "block",
        }
        assert lock.release() == ""
        assert said(logind) == {"released": True}


def test_a_killed_process_lets_the_computer_sleep(system_bus):
    code = (
        "from mirrorgui.ui.desktop.awake import WakeLock; lock = WakeLock(); "
        "print(lock.acquire(), flush=True); input()"
    )
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    command = [sys.executable, "-c", code]
    with (
        service("logind_service.py") as logind,
        subprocess.Popen(command, text=True, **pipes) as process,
    ):
        assert process.stdout.readline() == "True\n"
        said(logind)
        process.send_signal(signal.SIGKILL)
        assert said(logind) == {"released": True}


def test_without_a_login_manager_nothing_is_held_and_nothing_left(system_bus):
    lock = WakeLock()
    assert not lock.acquire()
    assert lock._process is None


def test_without_the_program_nothing_is_held(monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    assert not WakeLock().acquire()
