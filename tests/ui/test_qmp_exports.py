"""Exports that QMP clients add stand in the window, and the window's own are known to clients."""

import os
from pathlib import Path

import pytest
from PySide6.QtGui import QGuiApplication

from mirrorgui.block.nbd import NbdNode
from mirrorgui.mirror.snapshot import Outcome
from mirrorgui.mirror.states import OVER, JobStatus
from mirrorgui.nbd.uri import parse_uri
from mirrorgui.session import ExportRequest, MirrorRequest
from mirrorgui.ui.availability import Act
from mirrorgui.ui.questions import Answer
from mirrorgui.units import MiB
from tests.nbd.support import short_directory


@pytest.fixture
def driver(qmp_driver):
    return qmp_driver


@pytest.fixture
def client(qmp_client):
    return qmp_client


@pytest.fixture
def images(tmp_path):
    source, target = tmp_path / "source.raw", tmp_path / "target.raw"
    source.write_bytes(os.urandom(MiB))
    target.write_bytes(bytes(MiB))
    return source, target


@pytest.fixture
def folder():
    with short_directory() as folder:
        yield folder


@pytest.fixture
def guests(driver):
    """Makes NBD clients, whose reads and writes block: in a thread."""
    made = []

    def come(uri, **options):
        def connect():
            return NbdNode(parse_uri(uri), reconnect_s=0, **options)

        made.append(driver.run(in_thread(driver, connect)))
        return made[-1]

    yield come
    for node in made:
        driver.run(in_thread(driver, node.close))


async def in_thread(driver, work):
    return await driver.loop.run_in_executor(None, work)


async def offer(client, images, folder, *, writable=True):
    """Add both images and offer the source as disk0."""
    for node, path in zip(("s", "t"), images, strict=True):
        await client.ask("blockdev-add", driver="file", node_name=node, filename=str(path))
    address = {"type": "unix", "data": {"path": str(folder / "n.sock")}}
    await client.ask("nbd-server-start", addr=address)
    await add(client, "disk0", "s", writable=writable)


async def add(client, export_id, node, **more):
    await client.ask("block-export-add", type="nbd", id=export_id, node_name=node, **more)


def rows(driver):
    return driver.window.exports.rows


def connected(driver, count, name="disk0"):
    driver.until(lambda: rows(driver)[name].clients.text() == f"{count} connected", "clients")


def status(driver):
    return driver.controller.frame().snapshot.status


def test_exports_come_and_go_with_the_commands(driver, client, images, folder):
    assert not driver.window.exports.isVisible()
    driver.run(offer(client, images, folder))
    row = rows(driver)["disk0"]
    assert driver.window.exports.isVisible()
    driver.window.act.previous_pane.trigger()
    assert driver.window.focusWidget() is row.copy
    assert (row.name.full_text(), row.shows.full_text()) == ("disk0", "s: source.raw")
    assert (row.access.text(), row.clients.text()) == ("writable", "0 connected")
    row.copy.click()
    uri = f"nbd+unix:///s?socket={folder}/n.sock"
    assert QGuiApplication.clipboard().text() == row.uri.full_text() == uri
    assert "guestfish" in str([each.text() for each in row.menu.actions()])
    driver.run(add(client, "other", "t", name="spare disk"))
    other = rows(driver)["other"]
    assert list(rows(driver)) == ["disk0", "other"]
    assert rows(driver)["disk0"] is row
    assert other.access.text() == "read-only"
    assert other.uri.full_text() == f"nbd+unix:///spare%20disk?socket={folder}/n.sock"
    # Which means an export without its name, and so the only one of a server.
    assert "guestfish" not in str([each.text() for each in row.menu.actions()])
    driver.run(client.ask("block-export-del", id="disk0"))
    assert list(rows(driver)) == ["other"]
    driver.run(client.ask("nbd-server-stop"))
    assert rows(driver) == {}
    assert not driver.window.exports.isVisible()


def test_clients_are_counted_while_they_stay(driver, client, images, folder, guests):
    driver.run(offer(client, images, folder))
    uri = rows(driver)["disk0"].uri.full_text()
    first, _second = guests(uri), guests(uri)
    connected(driver, 2)
    driver.run(in_thread(driver, first.close))
    connected(driver, 1)


def test_the_button_asks_only_when_somebody_loses_a_disk(driver, client, images, folder, guests):
    driver.run(offer(client, images, folder))
    driver.run(add(client, "other", "t"))
    rows(driver)["other"].stop.click()
    driver.run(client.wait_for("BLOCK_EXPORT_DELETED", id="other"))
    guests(rows(driver)["disk0"].uri.full_text())
    connected(driver, 1)
    rows(driver)["disk0"].stop.click()
    question = driver.question().question
    assert question.title == "Stop the export disk0?"
    assert question.text.startswith("1 client is using the export. Clients lose their disk;")
    driver.answer(Answer.KEEP)
    assert [one["id"] for one in driver.run(client.ask("query-block-exports"))] == ["disk0"]
    rows(driver)["disk0"].stop.click()
    driver.answer(Answer.STOP)
    driver.run(client.wait_for("BLOCK_EXPORT_DELETED", id="disk0"))
    driver.until(lambda: not rows(driver))
    driver.run(client.ask("blockdev-del", node_name="s"))
    driver.quiet()


def test_a_mirror_shows_the_clients_of_its_node_and_keeps_them(
    driver, client, images, folder, guests
):
    driver.run(offer(client, images, folder))
    guest = guests(rows(driver)["disk0"].uri.full_text())
    more = {"job_id": "job", "device": "s", "target": "t", "sync": "full"}
    driver.run(client.ask("blockdev-mirror", **more))
    driver.until(lambda: status(driver) is JobStatus.READY, "in sync")
    driver.until(lambda: driver.view.header.numbers.text("clients").endswith("1 connected"))
    assert driver.view.tabs.tabText(3) == "Clients (1)"
    assert not driver.view.export.isVisible()  # it has a line of its own
    assert rows(driver)["disk0"].shows.full_text() == "s: source.raw"
    driver.run(in_thread(driver, lambda: guest.write(0, b"x" * 4096)))
    driver.trigger(Act.COMPLETE)
    assert driver.question().question.text.startswith("The 1 connected client continues on")
    driver.answer(Answer.SWITCH)
    driver.run(client.wait_for("JOB_STATUS_CHANGE", status="null"))
    driver.until(lambda: rows(driver)["disk0"].shows.full_text() == "t: target.raw", "the switch")
    driver.run(in_thread(driver, lambda: guest.write(4096, b"y" * 4096)))
    driver.run(in_thread(driver, guest.flush))
    assert images[1].read_bytes()[:8192] == b"x" * 4096 + b"y" * 4096
    assert images[0].read_bytes()[4096:8192] != b"y" * 4096
    driver.until(lambda: status(driver) in OVER)
    driver.quiet()
    assert driver.controller.serving() == ()  # it goes on without the mirror
    driver.run(driver.controller.remove(driver.controller.selected))
    assert list(rows(driver)) == ["disk0"]
    connected(driver, 1)


def test_closing_the_window_asks_for_the_clients(driver, client, images, folder, guests):
    driver.run(offer(client, images, folder, writable=False))
    driver.window.close()
    assert driver.quit_asked == 1  # nobody uses it
    guests(rows(driver)["disk0"].uri.full_text(), read_only=True)
    connected(driver, 1)
    driver.window.close()
    assert driver.question().question.title == "Stop offering disk0 to clients?"
    driver.answer(Answer.KEEP)
    assert driver.quit_asked == 1
    driver.window.close()
    driver.answer(Answer.STOP)
    assert driver.quit_asked == 2
    driver.quiet()


# The other way round: what New mirror has offered.


def start_with_export(driver, images, folder):
    uri = f"nbd+unix:///disk?socket={folder}/own.sock"
    request = MirrorRequest(
        str(images[0]), str(images[1]), writable=True, export=ExportRequest(uri), overwrite=True
    )
    driver.run(driver.controller.start(request))
    driver.until(lambda: status(driver) is JobStatus.READY, "in sync")
    return uri


def test_clients_know_the_windows_export_and_can_remove_it(driver, client, images, folder, guests):
    uri = start_with_export(driver, images, folder)
    assert driver.view.export.isVisible()
    assert rows(driver) == {}  # its mirror shows it
    [export] = driver.run(client.ask("query-block-exports"))
    assert (export["id"], export["type"], export["shutting-down"]) == ("mirror0", "nbd", False)
    guests(uri)
    driver.until(lambda: driver.controller.clients(driver.controller.selected) == 1)
    driver.run(client.ask("block-export-del", id="mirror0", mode="hard"))
    driver.run(client.wait_for("BLOCK_EXPORT_DELETED", id="mirror0"))
    driver.until(lambda: not driver.view.export.isVisible(), "the bar's end")
    assert driver.view.tabs.tabText(3) == "Clients"
    assert not Path(folder, "own.sock").exists()
    driver.trigger(Act.FINISH)
    driver.until(lambda: driver.controller.frame().snapshot.outcome is Outcome.FINISHED)
    driver.quiet()


def test_a_mirror_that_only_serves_closes_when_its_export_is_removed(
    driver, client, images, folder
):
    start_with_export(driver, images, folder)
    driver.trigger(Act.FINISH)
    driver.until(driver.controller.serving, "clients keep the disk")
    driver.until(lambda: "Clients keep the disk" in driver.view.message.text())
    driver.run(client.ask("block-export-del", id="mirror0"))
    driver.until(lambda: not driver.controller.serving(), "the end")
    driver.until(lambda: "Clients keep the disk" not in driver.view.message.text())
    driver.quiet()
    assert [node["node-name"] for node in driver.run(client.ask("query-named-block-nodes"))] == []
