"""A mirror whose disk is offered to clients: what the window shows, keeps and asks."""

from dataclasses import replace

import pytest
from PySide6.QtGui import QGuiApplication

from mirrorgui.mirror.options import MirrorOptions
from mirrorgui.mirror.snapshot import Outcome
from mirrorgui.mirror.states import JobStatus
from mirrorgui.session import ExportRequest, MirrorRequest
from mirrorgui.ui.availability import Act
from mirrorgui.ui.exported import LOOK_NS
from mirrorgui.ui.notices import NoticeAction
from mirrorgui.ui.questions import Answer
from tests.ui.fakes import client, snapshot
from tests.ui.test_accessibility import nameless

S = JobStatus
URI = "nbd+unix:///debian-server?socket=/run/mirrorgui/1.sock"


@pytest.fixture
def served(driver):
    """A mirror with an export that is being copied."""
    request = MirrorRequest(
        "/vm/source.img",
        "/vm2/target.img",
        export=ExportRequest(URI),
        options=MirrorOptions(job_id="mirror0"),
    )
    driver.key = driver.run(driver.controller.start(request))
    driver.session = driver.backend.sessions[-1]
    driver.settle()
    return driver


def connect(driver, *clients):
    """Have these clients connected, and the window know it."""
    driver.session.connected = list(clients)
    driver.controller._mirrors[driver.key].watch._looked_ns -= LOOK_NS
    driver.controller.look_now()
    driver.settle()


def end(driver, outcome=Outcome.SWITCHED, **changes):
    driver.show(snapshot(S.NULL, outcome=outcome, **changes))
    driver.until(lambda: driver.session.released, "the unused image's release")


def test_the_address_stands_below_the_head(served):
    bar = served.view.export
    assert bar.isVisible()
    assert bar.uri.full_text() == URI
    bar.copy.click()
    assert QGuiApplication.clipboard().text() == URI
    assert nameless() == []


def test_a_plain_copy_has_no_address(driver):
    driver.mirror()
    assert not driver.view.export.isVisible()
    assert driver.view.header.numbers.text("clients") == "0 B/s"
    driver.view.show_view(driver.view.clients)
    assert driver.view.clients.nothing.isVisible()


def test_clients_are_counted_in_the_head_and_on_the_tab(served):
    tabs = served.view.tabs
    place = tabs.indexOf(served.view.clients)
    assert [tabs.tabText(n) for n in range(tabs.count())] == [
        "Map",
        "Charts",
        "Errors",
        "Clients",
        "Log",
    ]
    assert served.view.header.numbers.text("clients") == "0 B/s, 0 connected"
    connect(served, client(1), client(2))
    assert served.view.header.numbers.text("clients") == "0 B/s, 2 connected"
    assert tabs.tabText(place) == "Clients (2)"
    connect(served)
    assert tabs.tabText(place) == "Clients"


def test_the_table_shows_them(served):
    connect(served, client(1), client(2, peer="nbdsh (pid 9)"))
    served.window.act.clients.trigger()
    served.settle()
    panel = served.view.clients
    assert served.view.tabs.currentWidget() is panel
    assert [each.peer for each in panel.model.clients] == [
        "qemu-system-x86 (pid 812)",
        "nbdsh (pid 9)",
    ]
    assert nameless() == []


def test_complete_says_how_many_move(served):
    connect(served, client(1), client(2))
    served.show(snapshot(S.READY))
    served.trigger(Act.COMPLETE)
    assert served.question().question.text.startswith(
        "The 2 connected clients continue on the target."
    )


@pytest.mark.parametrize("outcome", [Outcome.SWITCHED, Outcome.FINISHED, Outcome.CANCELLED])
def test_the_session_outlives_the_job(served, outcome):
    connect(served, client(1))
    end(served, outcome)
    served.settle()
    assert not served.session.closed
    assert served.view.export.isVisible()
    assert "Clients keep the disk until you remove this mirror" in served.view.message.text()
    connect(served, client(1), client(2))
    assert served.view.header.numbers.text("clients").endswith("2 connected")
    assert [each.key for each in served.controller.serving()] == [served.key]


def test_the_state_says_what_clients_use(served):
    end(served)
    assert served.view.header.state.text() == "Done. Clients use target.img."


def test_an_incomplete_target_is_deleted_while_clients_go_on(served):
    connect(served, client(1))
    served.trigger(Act.CANCEL)
    served.answer(Answer.CANCEL, tick=True)
    served.until(lambda: served.session.deleted)
    assert not served.session.closed
    served.quiet()


def test_removing_it_asks_while_somebody_is_connected(served):
    connect(served, client(1))
    end(served)
    served.trigger(Act.REMOVE)
    question = served.question().question
    assert question.title == "Stop offering target.img to clients?"
    assert question.text.startswith("1 client is using the export. Clients lose their disk;")
    served.answer(Answer.KEEP)
    assert served.controller.keys == (served.key,)
    served.trigger(Act.REMOVE)
    served.answer(Answer.STOP)
    served.until(lambda: not served.controller.keys)
    assert served.session.closed


def test_removing_it_asks_nothing_when_nobody_is(served):
    end(served)
    served.trigger(Act.REMOVE)
    served.until(lambda: not served.controller.keys)
    assert served.session.closed


def test_closing_the_window_asks_about_clients(served):
    connect(served, client(1), client(2))
    end(served)
    served.window.close()
    question = served.question().question
    assert question.text.startswith("2 clients are using the export. Clients lose their disk;")
    served.answer(Answer.KEEP)
    assert served.quit_asked == 0
    served.window.close()
    served.answer(Answer.STOP)
    assert served.quit_asked == 1


def test_closing_a_mirror_at_work_counts_them_too(served):
    connect(served, client(1), client(2))
    served.window.close()
    text = served.question().question.text
    assert text.endswith(
        "2 clients are using the export. Clients lose their disk; nothing is lost on the source."
    )
    served.answer(Answer.KEEP)


def test_a_switch_that_is_waited_for_does_not_take_the_disk_away(served):
    connect(served, client(1))
    served.show(snapshot(S.PENDING, complete_requested=True))
    served.window.close()
    served.settle()
    end(served)
    assert served.question().question.title == "Stop offering target.img to clients?"
    assert served.quit_asked == 0
    served.answer(Answer.STOP)
    assert served.quit_asked == 1


def test_trying_again_gives_the_source_back_first(served):
    connect(served, client(1))
    end(served, Outcome.FAILED, error="Input/output error", ready=False)
    served.view.message.button(NoticeAction.RETRY).click()
    served.answer(Answer.KEEP)
    assert served.window.flows.new_dialog is None
    served.view.message.button(NoticeAction.RETRY).click()
    served.answer(Answer.STOP)
    served.until(lambda: served.window.flows.new_dialog is not None)
    assert served.session.closed
    dialog = served.window.flows.new_dialog
    assert dialog.source.path.text() == "/vm/source.img"
    values = dialog.options.export.values()
    assert (values.enabled, values.socket_path) == (True, "/run/mirrorgui/1.sock")
    dialog.reject()
    served.quiet()


def test_an_export_that_is_gone_with_its_mirror_is_not_shown(served):
    connect(served, client(1))
    frame = served.controller.frame()
    served.run(served.controller.remove(served.key))
    assert frame.exported is not None
    assert served.controller.serving() == ()
    assert served.controller.clients(served.key) is None


def test_looks_at_clients_are_shared_by_fast_frames(served):
    looks = []
    clients = served.session.clients
    served.session.clients = lambda: looks.append(1) or clients()
    record = served.controller._mirrors[served.key]
    now = record.snapshot.time_ns + 10 * LOOK_NS
    served.job.snapshot = lambda: replace(record.snapshot, time_ns=now)
    for _ in range(5):
        served.controller.look_now()
    assert len(looks) == 1
    del served.job.snapshot


def test_a_narrow_head_leaves_out_what_is_said_elsewhere(served):
    connect(served, client(1), client(2))
    numbers = served.view.header.numbers
    served.window.resize(1400, 760)
    served.settle()
    assert numbers.isVisible()
    assert not any(label.isHidden() for label in numbers._values.values())
    served.window.resize(760, 520)
    served.settle()
    assert numbers._values["mode"].isHidden()
    assert not numbers._values["clients"].isHidden()
    served.window.resize(1400, 760)
    served.settle()
    assert not numbers._values["mode"].isHidden()
