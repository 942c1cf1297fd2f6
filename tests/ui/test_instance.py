"""A second start hands over to the window that is open, whatever became of the first."""

import asyncio
import contextlib
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from mirrorgui import instance
from mirrorgui.__main__ import _claim
from mirrorgui.instance import Claim, Wish, claim, has_own_screen
from mirrorgui.qmp.address import Address
from mirrorgui.ui.app import grant
from mirrorgui.ui.dialogs.new_mirror import NewMirrorDialog
from mirrorgui.ui.options import WindowOptions
from tests.running import command, environment

SCREEN = {"DISPLAY": ":77"}


@pytest.fixture(autouse=True)
def runtime(tmp_path, monkeypatch):
    folder = tmp_path / "run"
    folder.mkdir(mode=0o700)
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(folder))
    return folder / "mirrorgui"


@pytest.fixture
def first(loop):
    """The first window's claim, and what it is asked for."""
    made = claim(Wish(), SCREEN)
    assert isinstance(made, Claim)
    made.asked = []
    loop.run_until_complete(made.serve(made.asked.append))
    yield made
    loop.run_until_complete(made.close())


def start_again(loop, wish, screen=None):
    """Start a second time while the first window lives."""
    work = loop.run_in_executor(None, claim, wish, screen or SCREEN)
    return loop.run_until_complete(work)


def test_a_second_start_hands_over_what_it_was_given(first, loop):
    assert start_again(loop, Wish(("/vm/a.qcow2", "/vm/b.qcow2"))) is True
    assert start_again(loop, Wish(demo=True)) is True
    assert start_again(loop, Wish()) is True
    assert first.asked == [Wish(("/vm/a.qcow2", "/vm/b.qcow2")), Wish(demo=True), Wish()]


def test_a_path_means_the_same_file_in_the_first_window(first, loop, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    others = ("nbd+unix:///x?socket=s", 'json:{"driver":"nbd"}')
    for given in ("disk.img", *others):
        start_again(loop, Wish((given,)))
    assert first.asked == [Wish((str(tmp_path / "disk.img"),)), *(Wish((one,)) for one in others)]


def test_every_screen_has_a_window_of_its_own(first, loop):
    other = start_again(loop, Wish(), {"DISPLAY": ":78"})
    assert isinstance(other, Claim)
    loop.run_until_complete(other.close())


def test_only_this_user_can_ask(first, runtime):
    assert (runtime / "window-_77.sock").stat().st_mode & 0o777 == 0o600
    assert runtime.stat().st_mode & 0o777 == 0o700


@pytest.mark.parametrize("said", [b"", b"\n", b"[]\n", b'{"sources": 3}\n', b"\xff" * 100_000])
def test_who_says_something_else_is_not_heard(first, loop, runtime, said):
    async def say():
        reader, writer = await asyncio.open_unix_connection(str(runtime / "window-_77.sock"))
        writer.write(said)
        writer.write_eof()
        answer = await reader.read()
        writer.close()
        return answer

    with contextlib.suppress(ConnectionError):  # cut off before everything was said
        assert loop.run_until_complete(say()) == b""
    assert first.asked == []
    assert start_again(loop, Wish()) is True


def test_a_first_window_that_hangs_does_not_hold_up_the_second(first, loop, monkeypatch, caplog):
    monkeypatch.setattr(instance, "PATIENCE_S", 0.3)
    loop.run_until_complete(asyncio.sleep(0))
    # The loop stands still here, as a first window's would that hangs.
    assert claim(Wish(), SCREEN) is False


def test_what_a_killed_window_left_is_taken_over(loop, runtime):
    code = (
        "import asyncio; from mirrorgui.instance import *\n"
        "async def main():\n"
        "    await claim(Wish(), {'DISPLAY': ':77'}).serve(print)\n"
        "    print('serving', flush=True); await asyncio.sleep(60)\n"
        "asyncio.run(main())"
    )
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE) as process:
        assert process.stdout.readline() == b"serving\n"
        process.send_signal(signal.SIGKILL)
    assert (runtime / "window-_77.sock").exists()
    made = claim(Wish(), SCREEN)
    assert isinstance(made, Claim)
    loop.run_until_complete(made.serve(print))
    loop.run_until_complete(made.close())
    assert not (runtime / "window-_77.sock").exists()


def test_without_a_private_folder_every_start_stands_alone(runtime, caplog):
    runtime.symlink_to("/tmp")
    assert claim(Wish(), SCREEN) is False


def test_a_monitor_or_a_picture_is_wanted_of_this_process(monkeypatch):
    monkeypatch.setenv("QT_QPA_PLATFORM", "xcb")
    assert _claim(WindowOptions(qmp=Address(path="/x"))) is False
    assert _claim(WindowOptions(demo=True, demo_picture=Path("x.png"))) is False
    assert has_own_screen({}) and not has_own_screen({"QT_QPA_PLATFORM": "offscreen"})


def test_the_window_does_what_a_later_start_was_asked_for(driver):
    grant(driver.window, Wish(("/vm/a.img",)))
    assert driver.dialog(NewMirrorDialog).source.path.text() == "/vm/a.img"


def windows(process, name):
    found = subprocess.run(
        ["xdotool", "search", "--all", "--onlyvisible", "--pid", str(process.pid), "--name", name],
        capture_output=True,
        text=True,
        check=False,
    )
    return found.stdout.split()


@pytest.mark.skipif("DISPLAY" not in os.environ, reason="needs a screen")
def test_the_command_started_twice_is_one_window(tmp_path, loop):
    own = environment() | {"XDG_CONFIG_HOME": str(tmp_path), "XDG_STATE_HOME": str(tmp_path)}
    image = tmp_path / "handed-over.img"
    image.write_bytes(bytes(65536))

    async def until(reached):
        async with asyncio.timeout(60):
            while not reached():
                await asyncio.sleep(0.2)

    with subprocess.Popen(command(), env=own) as process:
        try:
            loop.run_until_complete(until(lambda: windows(process, "^MirrorGUI$")))
            again = subprocess.run(command(image.name), env=own, cwd=tmp_path, timeout=60)
            assert again.returncode == 0
            loop.run_until_complete(until(lambda: windows(process, "^New mirror")))
            assert process.poll() is None
        finally:
            process.terminate()
        assert process.wait(60) == 0
