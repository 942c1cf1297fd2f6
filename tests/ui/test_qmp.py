"""QMP clients and a person work with the same mirrors."""

import asyncio
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from mirrorgui.mirror.options import MirrorOptions
from mirrorgui.mirror.states import OVER, JobStatus
from mirrorgui.session import MirrorRequest
from mirrorgui.ui.availability import Act
from mirrorgui.units import MiB
from tests.qmp.peers import Connection
from tests.running import command, environment


@pytest.fixture
def path(qmp_path):
    return qmp_path


@pytest.fixture
def driver(qmp_driver):
    return qmp_driver


@pytest.fixture
def client(qmp_client):
    return qmp_client


@pytest.fixture
def images(tmp_path):
    source, target = tmp_path / "source.raw", tmp_path / "target.raw"
    source.write_bytes(os.urandom(4 * MiB))
    target.write_bytes(bytes(4 * MiB))
    return source, target


async def begin(client, images, **arguments):
    for node, path in zip(("s", "t"), images, strict=True):
        await client.ask("blockdev-add", driver="file", node_name=node, filename=str(path))
    wanted = {"job_id": "job", "device": "s", "target": "t", "sync": "full"}
    await client.ask("blockdev-mirror", **(wanted | arguments))


def status(driver):
    frame = driver.controller.frame()
    return frame.snapshot.status if frame is not None else None


def test_what_a_client_begins_is_shown_and_ended_by_the_buttons(driver, client, images):
    driver.run(begin(client, images))
    driver.until(lambda: status(driver) is JobStatus.READY, "in sync")
    frame = driver.controller.frame()
    assert (frame.names.source, frame.names.target) == ("source.raw", "target.raw")
    assert driver.window.views
    driver.until(lambda: "4.0 MiB" in driver.controller.frame().ends.source, "a description")
    driver.trigger(Act.FINISH)
    driver.run(client.wait_for("JOB_STATUS_CHANGE", status="null"))
    driver.until(lambda: status(driver) in OVER)
    assert images[0].read_bytes() == images[1].read_bytes()
    driver.quiet()
    driver.run(client.ask("blockdev-del", node_name="s"))


def test_what_a_client_ends_is_shown_to_have_ended(driver, client, images):
    driver.run(begin(client, images))
    driver.run(client.wait_for("BLOCK_JOB_READY"))
    driver.run(client.ask("job-complete", id="job"))
    driver.until(lambda: status(driver) in OVER)
    driver.quiet()


def test_what_the_window_begins_is_known_to_clients(driver, client, images, tmp_path):
    request = MirrorRequest(
        str(images[0]), str(tmp_path / "new.raw"), options=MirrorOptions(speed=1)
    )
    driver.run(driver.controller.start(request))
    jobs = driver.run(client.ask("query-block-jobs"))
    assert [(job["device"], job["speed"]) for job in jobs] == [("mirror0", 1)]
    driver.run(client.ask("job-pause", id="mirror0"))
    driver.until(lambda: status(driver) is JobStatus.PAUSED)
    driver.run(client.ask("block-job-set-speed", device="mirror0", speed=0))
    driver.run(client.ask("job-resume", id="mirror0"))
    driver.until(lambda: status(driver) is JobStatus.READY)
    snapshot = driver.run(client.ask("x-mirror-snapshot", id="mirror0", cells=4))
    assert len(snapshot["map"]["dirty"]) == 4
    driver.run(client.ask("block-job-cancel", device="mirror0"))
    driver.until(lambda: status(driver) in OVER)
    assert (tmp_path / "new.raw").read_bytes() == images[0].read_bytes()
    driver.quiet()


def test_the_window_takes_no_name_that_a_client_has_taken(driver, client, images):
    driver.run(begin(client, images, job_id="mirror0", auto_dismiss=False))
    driver.run(client.wait_for("BLOCK_JOB_READY"))
    assert driver.controller.free_job_id() == "mirror1"
    driver.run(client.ask("job-cancel", id="mirror0"))
    driver.run(client.wait_for("JOB_STATUS_CHANGE", status="concluded"))
    driver.quiet()
    assert [job["status"] for job in driver.run(client.ask("query-jobs"))] == ["concluded"]
    driver.run(client.ask("job-dismiss", id="mirror0"))


def test_removing_a_client_s_mirror_from_the_list_cancels_it(driver, client, images):
    driver.run(begin(client, images, speed=1))
    driver.until(lambda: status(driver) is JobStatus.RUNNING)
    (key,) = driver.controller.keys
    driver.run(driver.controller.remove(key))
    driver.run(client.wait_for("BLOCK_JOB_CANCELLED"))
    assert driver.controller.keys == ()
    driver.quiet()
    driver.run(client.ask("blockdev-del", node_name="t"))


def test_quit_ends_mirrors_and_closes_the_window(driver, client, images):
    driver.run(begin(client, images, speed=1))
    driver.run(client.ask("quit"))
    assert [event["event"] for event in client.events].count("BLOCK_JOB_CANCELLED") == 1
    assert driver.quit_asked == 1
    driver.quiet()


def test_many_events_do_not_hold_up_the_window(driver, client, images):
    async def flood():
        for _ in range(300):
            await client.ask("query-version")

    driver.run(flood())
    driver.run(begin(client, images))
    driver.until(lambda: status(driver) is JobStatus.READY)
    driver.run(client.ask("job-complete", id="job"))
    driver.until(lambda: status(driver) in OVER)
    driver.quiet()


def test_qmp_shell_completes_a_mirror_while_the_window_shows_it(driver, client, images, path):
    shell = Path(sys.executable).with_name("qmp-shell")
    lines = [
        *(
            f"blockdev-add driver=file filename={image} node-name={node}"
            for node, image in zip("st", images, strict=True)
        ),
        "blockdev-mirror job-id=job device=s target=t sync=full",
    ]

    async def run():
        pipe = subprocess.PIPE
        loop = asyncio.get_running_loop()
        own = os.environ | {"HOME": str(path.parent)}  # it keeps its history there
        process = subprocess.Popen([shell, path], stdin=pipe, stdout=pipe, text=True, env=own)

        def say(text):
            process.stdin.write(text)
            process.stdin.flush()

        # The window's loop must go on meanwhile: it serves the shell.
        await loop.run_in_executor(None, say, "\n".join(lines) + "\n")
        await client.wait_for("BLOCK_JOB_READY")
        driver.controller.look_now()
        shown = status(driver)
        said, _ = await loop.run_in_executor(
            None, process.communicate, "query-block-jobs\njob-complete id=job\n"
        )
        return shown, said

    shown, said = driver.run(run())
    assert shown is JobStatus.READY
    assert '"status": "ready"' in said
    driver.run(client.wait_for("JOB_STATUS_CHANGE", status="null"))
    driver.until(lambda: status(driver) in OVER)
    assert images[0].read_bytes() == images[1].read_bytes()
    driver.quiet()


def connected(path, process):
    deadline = time.monotonic() + 30
    while True:
        try:
            return Connection(path)
        except OSError:
            assert process.poll() is None and time.monotonic() < deadline
            time.sleep(0.02)  # there is nothing to wait for but the socket itself


def test_the_command_opens_a_window_that_quit_closes(tmp_path, path):
    run_environment = environment() | {"QT_QPA_PLATFORM": "offscreen", "HOME": str(tmp_path)}
    process = subprocess.Popen(
        command("--qmp", f"unix:{path}"), env=run_environment, stderr=subprocess.PIPE, text=True
    )
    try:
        client = connected(path, process)
        assert client.ok("query-jobs") == []
        client.ok("quit")
        client.close()
        _, said = process.communicate(timeout=30)
    finally:
        process.kill()
        process.wait()
    assert process.returncode == 0, said
    assert "Traceback" not in said
    assert not path.exists()
