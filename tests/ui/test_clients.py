"""The clients of an export: table, empty states, address and commands."""

from dataclasses import replace
from types import SimpleNamespace

import pytest
from PySide6.QtCore import QModelIndex, QPersistentModelIndex, QPoint, Qt
from PySide6.QtGui import QGuiApplication
from PySide6.QtTest import QAbstractItemModelTester, QTest

from mirrorgui.session import ExportRequest, MirrorRequest
from mirrorgui.ui.export_bar import ExportBar
from mirrorgui.ui.exported import LOOK_NS, Exported, ExportWatch
from mirrorgui.ui.models import clients as columns
from mirrorgui.ui.models.clients import ClientsModel, as_text, headings, last_request_text
from mirrorgui.ui.panels.clients import ClientsPanel
from mirrorgui.units import GiB
from tests.ui.fakes import NOON_NS, SECOND, client

NOW_S = NOON_NS / SECOND + 62
URI = "nbd+unix:///debian-server?socket=/run/user/1000/mirrorgui/1.sock"
EXPORTED = Exported(URI)


@pytest.fixture
def model(qapp):
    model = ClientsModel()
    model.tester = QAbstractItemModelTester(
        model, QAbstractItemModelTester.FailureReportingMode.Fatal
    )
    return model


@pytest.fixture
def panel(qtbot):
    panel = ClientsPanel()
    panel.resize(900, 400)
    panel.show()
    return panel


def row(model, number=0):
    return [model.index(number, column).data() for column in range(model.columnCount())]


def clipboard():
    return QGuiApplication.clipboard().text()


def test_a_row_says_everything_about_a_client(model):
    model.show_clients([client()], NOW_S)
    texts = dict(zip(headings(), row(model), strict=True))
    assert texts.pop("Since").count(":") == 2
    assert texts == {
        "Client": "qemu-system-x86 (pid 812)",
        "Export": "debian-server",
        "Reads": "1 200, 48.0 MiB",
        "Writes": "340, 12.0 MiB",
        "Errors": "0",
        "Last request": "write 4.0 KiB at 1.000 GiB, 2 s ago",
    }


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"last_request": ""}, "nothing yet"),
        ({"last_request": "FLUSH"}, "flush, 2 s ago"),
        ({"last_request": "WRITE_ZEROES 65536 at 0"}, "write zeroes 64.0 KiB at 0 B, 2 s ago"),
        ({"last_request": "77 512 at 512"}, "77 512 B at 512 B, 2 s ago"),
        ({"last_request_at": NOW_S}, "write 4.0 KiB at 1.000 GiB, now"),
    ],
)
def test_last_requests_in_words(changes, text):
    assert last_request_text(client(**changes), NOW_S) == text


def test_a_client_in_the_handshake_and_an_encrypted_one(model):
    fresh = client(export=None, encrypted=True, reads=0)
    model.show_clients([fresh, client(2, export="")], NOW_S)
    assert row(model)[columns.READS] == "0"
    assert row(model)[columns.EXPORT] == "(being agreed), TLS"
    assert row(model, 1)[columns.EXPORT] == "-"


def test_exact_numbers_are_told_on_hover(model):
    model.show_clients([client()], NOW_S)
    tips = [
        model.index(0, column).data(Qt.ItemDataRole.ToolTipRole)
        for column in (columns.READS, columns.WRITES, columns.EXPORT, columns.LAST, columns.PEER)
    ]
    assert tips == [
        "50 331 648 bytes read",
        "12 582 912 bytes written or discarded, 12 flushes",
        "not encrypted",
        "WRITE 4096 at 1073741824",
        "qemu-system-x86 (pid 812)",
    ]


def test_rows_stay_with_their_clients(model):
    model.show_clients([client(1), client(2), client(3)])
    third = QPersistentModelIndex(model.index(2, 0))
    model.show_clients([client(1), client(3, reads=9), client(4)])
    assert [each.id for each in model.clients] == [1, 3, 4]
    assert third.row() == 1
    assert row(model, 1)[columns.READS] == "9, 48.0 MiB"
    model.show_clients([])
    assert model.rowCount() == 0
    assert not third.isValid()


def test_a_table_has_no_tables_in_it(model):
    model.show_clients([client()])
    assert model.rowCount(model.index(0, 0)) == model.columnCount(model.index(0, 0)) == 0
    assert model.data(QModelIndex()) is None
    assert model.headerData(0, Qt.Orientation.Vertical) is None


def test_copied_lines_stand_alone():
    [line] = as_text([client(peer="10.0.0.5:50123")], NOW_S).splitlines()
    assert line.startswith("10.0.0.5:50123, since ")
    assert line.endswith(
        ": 1200 reads (48.0 MiB), 340 writes (12.0 MiB), 0 errors, "
        "last write 4.0 KiB at 1.000 GiB, 2 s ago"
    )


def test_without_an_export_the_panel_says_how_to_get_one(panel):
    assert panel.nothing.isVisible()
    assert panel.nothing.text().startswith("The source is not offered to anybody.")
    panel.update_export(EXPORTED)
    panel.update_export(None)
    assert panel.nothing.isVisible()


def test_without_clients_it_says_how_to_connect(panel, qtbot):
    panel.update_export(EXPORTED)
    assert panel.invitation.isVisible()
    assert panel.invitation.title.text() == "No client is connected."
    buttons = panel.invitation.buttons
    assert list(buttons) == ["Address", *[each.program for each in EXPORTED.commands]]
    for program, line in [("Address", URI), *[(c.program, c.line) for c in EXPORTED.commands]]:
        buttons[program].click()
        assert clipboard() == line
        assert buttons[program].accessibleName() == f"Copy for {program}"


def test_another_export_has_other_commands(panel):
    panel.update_export(EXPORTED)
    panel.update_export(Exported("nbd://localhost/x", read_only=True))
    assert panel.invitation.buttons["qemu"].toolTip().endswith("readonly=on")
    assert panel.invitation.buttons["Address"].toolTip() == "nbd://localhost/x"


def test_with_clients_there_is_the_table(panel, qtbot):
    counts = []
    panel.count_changed.connect(counts.append)
    panel.update_export(EXPORTED)
    panel.update_export(replace(EXPORTED, clients=(client(1), client(2))))
    assert panel.table.isVisible()
    assert panel.count.text() == "2 clients"
    panel.update_export(EXPORTED)
    assert panel.invitation.isVisible()
    assert counts == [2, 0]


def test_the_table_is_filled_only_while_it_can_be_seen(panel):
    panel.update_export(replace(EXPORTED, clients=(client(1),)))
    panel.hide()
    counts = []
    panel.count_changed.connect(counts.append)
    panel.update_export(replace(EXPORTED, clients=(client(1), client(2))))
    assert counts == [2]
    assert len(panel.model.clients) == 1
    panel.show()
    assert len(panel.model.clients) == 2


def test_numbers_are_sorted_as_numbers(panel):
    clients = tuple(client(n, reads=reads) for n, reads in enumerate((9, 1000, 80)))
    panel.update_export(replace(EXPORTED, clients=clients))
    panel.table.sortByColumn(columns.READS, Qt.SortOrder.DescendingOrder)
    shown = [panel.table.model().index(n, columns.READS).data() for n in range(3)]
    assert [each.partition(",")[0] for each in shown] == ["1 000", "80", "9"]


def test_columns_have_room_for_what_may_come(panel):
    panel.resize(1600, 400)
    panel.update_export(replace(EXPORTED, clients=(client(), client(2, export="other"))))
    header, metrics = panel.table.horizontalHeader(), panel.table.fontMetrics()
    for column, text in enumerate(columns.WIDEST):
        assert header.sectionSize(column) > metrics.horizontalAdvance(text)
    assert header.length() >= panel.table.viewport().width()
    assert len(columns.WIDEST) == len(headings())


def test_the_export_is_a_column_only_where_it_tells_clients_apart(panel):
    panel.update_export(replace(EXPORTED, clients=(client(), client(2, export=None))))
    assert panel.table.isColumnHidden(columns.EXPORT)
    assert not panel.table.horizontalScrollBar().isVisible()
    for other in (client(2, export="other"), client(2, encrypted=True)):
        panel.update_export(replace(EXPORTED, clients=(client(), other)))
        assert not panel.table.isColumnHidden(columns.EXPORT)


def test_a_selection_outlives_the_next_look(panel):
    panel.update_export(replace(EXPORTED, clients=(client(1), client(2, peer="nbdsh (pid 5)"))))
    panel.table.selectRow(1)
    panel.update_export(replace(EXPORTED, clients=(client(2, peer="nbdsh (pid 5)", reads=7),)))
    assert [each.id for each in panel.selected()] == [2]
    panel.copy.click()
    assert clipboard().startswith("nbdsh (pid 5), since ")


def test_without_a_selection_all_are_copied(panel):
    panel.update_export(replace(EXPORTED, clients=(client(1), client(2))))
    panel.copy.click()
    assert len(clipboard().splitlines()) == 2


@pytest.fixture
def bar(qtbot):
    bar = ExportBar()
    bar.resize(700, 40)
    return bar


def test_the_bar_hides_without_an_export(bar):
    bar.show_export(EXPORTED)
    assert bar.isVisible()
    bar.show_export(None)
    assert not bar.isVisible()


def test_the_bar_shows_and_copies_the_address(bar):
    bar.show_export(EXPORTED)
    assert bar.uri.full_text() == URI
    assert bar.uri.accessibleName() == f"Address for clients: {URI}"
    QTest.mouseClick(bar.copy, Qt.MouseButton.LeftButton)
    assert clipboard() == URI
    bar.show_export(replace(EXPORTED, read_only=True))
    assert bar.uri.full_text() == f"{URI} (read-only)"
    bar.copy.click()
    assert clipboard() == URI


def test_the_menu_copies_commands(bar):
    copied = []
    bar.menu.copied.connect(copied.append)
    bar.show_export(EXPORTED)
    bar.show_export(replace(EXPORTED, clients=(client(),)))
    actions = bar.menu.actions()
    assert [each.toolTip() for each in actions] == [each.line for each in EXPORTED.commands]
    assert actions[0].text() == "Copy for qemu: Disk of a virtual machine"
    actions[1].trigger()
    assert copied == ["nbd-client"]
    assert clipboard() == EXPORTED.commands[1].line


def test_the_menu_opens_by_key_and_mouse(bar, qtbot):
    bar.show_export(EXPORTED)
    assert bar.commands.focusPolicy() & Qt.FocusPolicy.TabFocus
    assert bar.commands.menu() is bar.menu
    bar.menu.popup(QPoint(0, 0))
    QTest.keyClick(bar.menu, Qt.Key.Key_Down)
    QTest.keyClick(bar.menu, Qt.Key.Key_Return)
    assert clipboard() == EXPORTED.commands[0].line


def session(**changes):
    export = ExportRequest("nbds://localhost/vm?tls-certificates=/pki", read_only=True)
    values = {
        "request": MirrorRequest("/s", "/t", export=export),
        "export_uri": "nbds://localhost/vm",
        "looks": [],
    } | changes
    made = SimpleNamespace(**values)

    def clients():
        made.looks.append(1)
        return (client(len(made.looks)),)

    made.clients = clients
    return made


def test_clients_are_looked_at_twice_a_second():
    made = session()
    watch = ExportWatch(made)
    first = watch.look(GiB)
    assert first == Exported("nbds://localhost/vm", True, "/pki", (client(1),))
    assert watch.look(GiB + LOOK_NS - 1) is first
    assert watch.look(GiB + LOOK_NS).clients == (client(2),)
    assert len(made.looks) == 2


def test_without_an_export_there_is_nothing_to_look_at():
    watch = ExportWatch(session(request=MirrorRequest("/s", "/t"), export_uri=""))
    assert watch.look(0) is None
