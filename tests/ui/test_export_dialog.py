"""The export in the New mirror dialog: fields, what is said, what is asked for and remembered."""

import pytest

from mirrorgui.block.safety import Finding, Severity
from mirrorgui.session import ExportRequest, MirrorRequest
from mirrorgui.ui.export_form import LOOPBACK, ExportValues
from mirrorgui.ui.settings import Settings
from tests.ui.test_accessibility import nameless

SOURCE, TARGET = "/vm/source.img", "/vm2/target.img"
REMOTE = "Anyone who can reach 0.0.0.0:10809 can read and write this disk. There is no password."


@pytest.fixture
def runtime(tmp_path, monkeypatch):
    folder = tmp_path / "run"
    folder.mkdir(mode=0o700)
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(folder))
    return folder / "mirrorgui"


@pytest.fixture
def form(driver, runtime):
    driver.window.flows.new_mirror(SOURCE, TARGET)
    dialog = driver.window.flows.new_dialog
    dialog.driver = driver
    look(dialog)
    return dialog


def look(form):
    form._look()
    form.driver.until(lambda: form.is_up_to_date, "the look")


def finds(form, severity, text, code="export-address"):
    form.driver.backend.export_findings = [Finding(severity, code, "export", text)]


def offer(form, *, tcp=False):
    """Tick the offer; returns the part of the form."""
    part = form.options.export
    part.enabled.set_checked(True)
    if tcp:
        part.tcp.setChecked(True)
    look(form)
    return part


def start(form):
    """Press Start; returns what was asked for."""
    driver = form.driver
    form.start.click()
    driver.until(lambda: driver.window.flows.new_dialog is None)
    return driver.backend.sessions[-1].request


def test_nobody_gets_the_source_unless_it_is_asked_for(form):
    part = form.options.export
    assert not part.enabled.is_checked()
    assert not part.details.isVisible()
    assert part.enabled.text() == "Offer the source to virtual machines while it is mirrored"
    assert "opened for reading only" in part.enabled.accessibleDescription()
    request = start(form)
    assert request.export is None
    assert not request.opens_writable


def test_an_offer_begins_with_a_socket_of_this_user(form, runtime):
    part = offer(form)
    assert part.details.isVisible()
    assert part.unix.isChecked()
    assert part.socket.text() == f"{runtime}/1.sock"
    assert part.name.placeholderText() == "source"
    assert form.summary.text().endswith(f"Clients use source.img at {runtime}/1.sock.")
    request = start(form)
    assert request.export == ExportRequest(f"nbd+unix:///source?socket={runtime}/1.sock")
    assert request.opens_writable


def test_each_way_has_its_fields(form):
    part = offer(form)
    assert part.socket.isVisible()
    assert not part.address.isVisible()
    assert not part.certificates.isVisible()
    part.tcp.setChecked(True)
    assert not part.socket.isVisible()
    assert part.address.isVisible()
    assert part.certificates.isVisible()
    assert part.address.text() == "127.0.0.1:10809"


def test_the_fields_make_the_request(form):
    part = offer(form, tcp=True)
    part.address.setText("localhost:1234")
    part.name.setText("my disk")
    part.certificates.setText("/pki")
    part.read_only.setChecked(True)
    look(form)
    uri = "nbds://localhost:1234/my%20disk?tls-certificates=/pki"
    assert start(form).export == ExportRequest(uri, read_only=True)


def test_every_change_is_looked_at_again(form):
    part = offer(form)
    for change in (
        lambda: part.socket.setText("/run/x.sock"),
        lambda: part.name.setText("n"),
        lambda: part.read_only.setChecked(True),
        lambda: part.tcp.setChecked(True),
        lambda: part.address.setText("localhost"),
        lambda: part.certificates.setText("/pki"),
        lambda: part.enabled.set_checked(False),
    ):
        change()
        assert not form.start.isEnabled()
        look(form)
        assert form.start.isEnabled()


def test_a_problem_stands_beside_start(form):
    text = "Port 10809 of 127.0.0.1 is in use by another program."
    finds(form, Severity.REFUSE, text)
    offer(form, tcp=True)
    assert form.reason.text() == text
    assert not form.start.isEnabled()
    form.options.export.enabled.set_checked(False)
    look(form)
    assert form.start.isEnabled()


def test_an_address_that_cannot_be_read_is_told_at_once(form):
    part = offer(form, tcp=True)
    part.address.setText("here:there")
    text = "'here:there' is not an address (examples: 127.0.0.1:10809, [::1]:10809)."
    assert form.reason.text() == text
    part.unix.setChecked(True)
    look(form)
    assert form.start.isEnabled()


def test_an_empty_socket_is_asked_for(form):
    part = offer(form)
    part.socket.clear()
    look(form)
    assert form.reason.text() == "Say where the socket for clients goes."


def test_other_machines_need_a_tick(form):
    finds(form, Severity.CONFIRM, REMOTE, "export-remote")
    part = offer(form, tcp=True)
    assert part.remote.isVisible()
    assert part.remote.text() == REMOTE
    assert form.reason.text() == "Tick that others may reach the source."
    assert not form.start.isEnabled()
    part.remote.set_checked(True)
    assert form.start.isEnabled()
    assert start(form).export.allow_remote


@pytest.mark.parametrize("change", ["address", "way", "certificates", "read_only"])
def test_a_tick_is_for_one_address_only(form, change):
    finds(form, Severity.CONFIRM, REMOTE, "export-remote")
    part = offer(form, tcp=True)
    part.remote.set_checked(True)
    {
        "address": lambda: part.address.setText("[::]:1"),
        "way": lambda: part.unix.setChecked(True),
        "certificates": lambda: part.certificates.setText("/pki"),
        "read_only": lambda: part.read_only.setChecked(True),
    }[change]()
    assert not part.remote.is_checked()


def test_the_next_dialog_begins_as_the_last_one_ended(form):
    part = offer(form, tcp=True)
    part.address.setText("localhost:4321")
    part.name.setText("once")
    look(form)
    start(form)
    form.driver.window.flows.new_mirror(SOURCE)
    values = form.driver.window.flows.new_dialog.options.export.values()
    assert (values.enabled, values.unix, values.host, values.port) == (
        True,
        False,
        "localhost",
        4321,
    )
    assert values.name == ""


def test_what_is_started_without_an_offer_is_remembered_too(form, store):
    offer(form, tcp=True)
    start(form)
    form.driver.window.flows.new_mirror(SOURCE, TARGET)
    again = form.driver.window.flows.new_dialog
    again.driver = form.driver
    again.options.export.enabled.set_checked(False)
    look(again)
    start(again)
    remembered = Settings(store).export
    assert not remembered.enabled
    assert not remembered.unix  # for whoever ticks it again


@pytest.mark.parametrize(
    "values",
    [
        ExportValues(),
        ExportValues(enabled=True, read_only=True),
        ExportValues(enabled=True, unix=False, host="::1", port=3, certificates="/pki"),
    ],
)
def test_settings_keep_the_choice(store, values):
    Settings(store).export = values
    assert Settings(store).export == values


def test_settings_forget_agreements_and_survive_nonsense(store):
    Settings(store).export = ExportValues(enabled=True, unix=False, allow_remote=True)
    assert not Settings(store).export.allow_remote
    store.setValue("export/address", "a b c")
    store.setValue("export/enabled", ["x"])
    assert (Settings(store).export.host, Settings(store).export.enabled) == (LOOPBACK, False)


def test_a_retry_fills_the_export_in(form):
    export = ExportRequest("nbd://0.0.0.0:5/vm", read_only=True, allow_remote=True)
    form.fill(MirrorRequest(SOURCE, TARGET, export=export))
    part = form.options.export
    assert part.enabled.is_checked()
    assert part.values() == ExportValues(
        enabled=True,
        unix=False,
        socket_path=part.socket.text(),
        host="0.0.0.0",
        port=5,
        name="vm",
        read_only=True,
    )


@pytest.mark.parametrize("tcp", [False, True])
def test_every_field_says_its_name(form, tcp):
    finds(form, Severity.CONFIRM, REMOTE, "export-remote")
    offer(form, tcp=tcp)
    assert nameless() == []


def test_the_dialog_grows_with_the_fields(form):
    form.resize(form.width(), 300)
    before = form.height()
    part = offer(form, tcp=True)
    form.driver.until(lambda: form.height() > before)
    assert part.details.isVisible()
