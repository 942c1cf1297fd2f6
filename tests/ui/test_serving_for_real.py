"""The real engine in the window, with a real NBD client on the export, from Start to the end."""

import hashlib
import stat
import subprocess
from pathlib import Path

import pytest

from mirrorgui.mirror import rates
from mirrorgui.mirror.options import CopyMode
from mirrorgui.mirror.snapshot import Outcome
from mirrorgui.mirror.states import OVER, JobStatus
from mirrorgui.ui.app import make_window
from mirrorgui.ui.availability import Act
from mirrorgui.ui.backend import Engine
from mirrorgui.ui.dialogs.live import SpeedDialog
from mirrorgui.ui.models.log import LogQueue
from mirrorgui.ui.notices import NoticeAction
from mirrorgui.ui.questions import Answer
from mirrorgui.units import KiB, MiB
from tests.nbd.support import pattern, short_directory
from tests.ui.driving import Driver

BLOCK = 64 * KiB

# libnbd, as nbdsh uses it: one connection, told by lines what to do.
GUEST = """
import hashlib, nbd, sys, threading, time
handle = nbd.NBD()
handle.connect_uri(sys.argv[1])
size, block = handle.get_size(), 65536
stop, thread, written = threading.Event(), None, 0

def work(start, pause):
    global written
    while not stop.is_set():
        place = start + written * block % (size - start)
        handle.pwrite(bytes([1 + written % 255]) * block, place)
        written += 1
        time.sleep(pause)

for line in sys.stdin:
    name, *numbers = line.split()
    answer = "done"
    if name == "write":
        handle.pwrite(bytes([int(numbers[1])]) * block, int(numbers[0]))
    elif name == "run":
        thread = threading.Thread(target=work, args=(int(numbers[0]), float(numbers[1])))
        thread.start()
    elif name == "stop":
        stop.set()
        thread.join()
        answer = written
    elif name == "digest":
        handle.flush()
        parts = (handle.pread(min(size - at, 1 << 20), at) for at in range(0, size, 1 << 20))
        answer = hashlib.sha256(b"".join(parts)).hexdigest()
    print(answer, flush=True)
handle.shutdown()
"""


class Guest:
    """A real client in a process of its own."""

    def __init__(self, uri):
        self.process = subprocess.Popen(
            ["/usr/bin/python3", "-c", GUEST, uri],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def tell(self, line):
        """Have it do something; no switch may be under way, for the window stands still."""
        self.process.stdin.write(f"{line}\n")
        self.process.stdin.flush()
        answer = self.process.stdout.readline()
        assert answer, self.process.stderr.read()
        return answer.strip()

    def leave(self):
        if self.process.poll() is None:
            self.process.communicate(timeout=20)
        for pipe in (self.process.stdin, self.process.stdout, self.process.stderr):
            pipe.close()


@pytest.fixture
def runtime(monkeypatch):
    with short_directory() as folder:
        monkeypatch.setenv("XDG_RUNTIME_DIR", str(folder))
        yield folder / "mirrorgui"


@pytest.fixture
def driver(qapp, loop, settings, runtime):
    made = None

    def quit_now():
        made.quit_asked += 1

    async def make():
        return make_window(qapp, Engine(), settings, LogQueue(), quit_now)

    window = loop.run_until_complete(make())
    made = Driver(window, None, loop, None)
    window.show()
    yield made
    loop.run_until_complete(window.shutdown())
    window.close()
    window.deleteLater()


@pytest.fixture
def images(tmp_path):
    """A sparse source of 128 MiB with 16 MiB of data, and where the target goes."""
    source = tmp_path / "source.img"
    with source.open("wb") as file:
        file.write(pattern(16 * MiB))
        file.truncate(128 * MiB)
    return source, tmp_path / "target.img"


def start(driver, images, *, speed="", read_only=False):
    """Fill the dialog in with an export and press Start; returns the client's address."""
    driver.window.flows.new_mirror(*map(str, images))
    dialog = driver.window.flows.new_dialog
    dialog.options.export.enabled.set_checked(True)
    dialog.options.export.read_only.setChecked(read_only)
    dialog.options.pace.speed.setCurrentText(speed or "Unlimited")
    driver.until(dialog.start.isEnabled, f"Start: {dialog.reason.text()}")
    dialog.start.click()
    driver.until(lambda: driver.window.flows.new_dialog is None, "the start")
    return driver.view.export.uri.full_text()


@pytest.fixture
def guests():
    made = []

    def come(uri):
        made.append(Guest(uri))
        return made[-1]

    yield come
    for guest in made:
        guest.leave()


def frame(driver):
    return driver.controller.frame()


def status(driver):
    return frame(driver).snapshot.status


def number_of_clients(driver):
    exported = frame(driver).exported
    return len(exported.clients) if exported is not None else None


def digest(path):
    return hashlib.sha256(Path(path).read_bytes()).hexdigest()


def test_a_guest_that_writes_ends_up_on_the_target_without_noticing(
    driver, images, runtime, guests
):
    source, target = images
    uri = start(driver, images, speed="64M")
    assert uri == f"nbd+unix:///source?socket={runtime}/1.sock"
    assert stat.S_IMODE(runtime.stat().st_mode) == 0o700
    guest = guests(uri)
    guest.tell("run 16777216 0.002")
    driver.window.act.clients.trigger()
    driver.until(lambda: number_of_clients(driver) == 1, "the client")
    [client] = frame(driver).exported.clients
    assert client.peer == f"python3 (pid {guest.process.pid})"
    assert driver.view.header.numbers.text("clients").endswith("1 connected")
    driver.until(lambda: "write 64.0 KiB" in last_request(driver), "a write in the table")
    driver.until(lambda: frame(driver).rates.guest_written > MiB, "the guest's rate")
    driver.until(lambda: status(driver) is JobStatus.READY, "READY")
    driver.trigger(Act.COMPLETE)
    text = driver.question().question.text
    assert text.startswith("The 1 connected client continues on the target.")
    driver.answer(Answer.SWITCH)
    driver.until(lambda: status(driver) in OVER, "the end")
    assert frame(driver).snapshot.outcome is Outcome.SWITCHED
    assert driver.view.header.state.text() == "Done. Clients use target.img."
    left_behind = digest(source)
    before, counted = written(driver), frame(driver).snapshot.guest.writes
    driver.until(lambda: written(driver) > before + 4, "writes after the switch")
    assert frame(driver).snapshot.guest.writes > counted  # what the charts are drawn from
    assert frame(driver).exported.clients[0].id == client.id
    assert frame(driver).exported.clients[0].errors == 0
    assert int(guest.tell("stop")) > 10
    assert guest.tell("digest") == digest(target)
    assert digest(source) == left_behind != digest(target)
    remove(driver, runtime)


def written(driver):
    return frame(driver).exported.clients[0].writes


def last_request(driver):
    model = driver.view.clients.model
    return str(model.index(0, 1).data()) if model.rowCount() else ""


def remove(driver, runtime):
    """Take the mirror off the list, which disconnects its client."""
    driver.trigger(Act.REMOVE)
    assert driver.question().question.text.startswith("1 client is using the export.")
    driver.answer(Answer.STOP)
    driver.until(lambda: not driver.controller.keys, "the removal")
    assert not (runtime / "1.sock").exists()


def test_after_finishing_the_guest_stays_and_the_target_is_free(driver, images, runtime, guests):
    source, target = images
    guest = guests(start(driver, images))
    driver.until(lambda: status(driver) is JobStatus.READY, "READY")
    driver.trigger(Act.FINISH)
    driver.until(lambda: status(driver) in OVER, "the end")
    driver.quiet()
    guest.tell("write 0 200")
    assert "Clients keep the disk" in driver.view.message.text()
    copy = target.read_bytes()[:BLOCK]
    assert copy == pattern(16 * MiB)[:BLOCK] != source.read_bytes()[:BLOCK]
    line = ["qemu-io", "-f", "raw", "-c", "write -P 9 0 4096", str(target)]  # takes QEMU's locks
    done = subprocess.run(line, capture_output=True, text=True, timeout=20, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    remove(driver, runtime)


def test_a_read_only_export_takes_no_writes(driver, images, guests):
    uri = start(driver, images, speed="64M", read_only=True)
    assert uri.endswith(" (read-only)")
    guest = guests(frame(driver).exported.uri)
    driver.until(lambda: number_of_clients(driver) == 1, "the client")
    guest.process.stdin.write("write 0 1\n")
    _output, errors = guest.process.communicate(timeout=20)
    assert "Operation not permitted" in errors or "read-only" in errors
    source = images[0]
    assert source.read_bytes()[:BLOCK] == pattern(16 * MiB)[:BLOCK]


@pytest.fixture
def impatient(monkeypatch):
    """Two seconds of too many writes are enough to say that the mirror will not finish."""
    monkeypatch.setattr(rates, "TREND_WINDOW_NS", 2 * rates.SECOND)
    monkeypatch.setattr(rates, "RATE_WINDOW_NS", rates.SECOND)


def too_slow(driver):
    notice = driver.view.message.notice
    return notice is not None and notice.key == "too-slow"


@pytest.mark.parametrize("way", [NoticeAction.RAISE_LIMIT, NoticeAction.WRITE_BLOCKING])
def test_a_guest_that_writes_too_much_can_be_helped(driver, images, guests, impatient, way):
    guest = guests(start(driver, images, speed="1M"))
    guest.tell("run 16777216 0.01")
    driver.until(lambda: too_slow(driver), "the message")
    message = driver.view.message
    assert message.notice.title.startswith("Will not finish: clients write ")
    assert driver.view.header.state.text() == "Copying - clients write faster than the copy"
    message.button(way).click()
    if way is NoticeAction.RAISE_LIMIT:
        dialog = driver.dialog(SpeedDialog)
        dialog.field.set_speed(0)
        dialog.accept()
        driver.settle()
        assert frame(driver).snapshot.speed == 0
    else:
        driver.until(lambda: frame(driver).snapshot.copy_mode is CopyMode.WRITE_BLOCKING)
        assert driver.view.header.numbers.text("mode") == "write-blocking"
    driver.until(lambda: not too_slow(driver), "the message's end")
    assert frame(driver).exported.clients[0].errors == 0
    assert int(guest.tell("stop")) > 20
