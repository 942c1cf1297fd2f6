"""The export in the New mirror form: what is read, what is asked for, what is said."""

from dataclasses import replace

import pytest

from mirrorgui.block.safety import Finding, Severity
from mirrorgui.mirror.options import SyncMode
from mirrorgui.session import ExportRequest, MirrorRequest, WhenReady
from mirrorgui.ui.backend import Engine
from mirrorgui.ui.export_form import (
    ExportValues,
    automatic_name,
    explanation,
    export_request,
    export_values_of,
    read_address,
    write_address,
)
from mirrorgui.ui.form import FormValues, Look, build_request, judge, values_of
from mirrorgui.ui.form_texts import summary
from mirrorgui.ui.probing import look_at
from tests.ui.fakes import IMAGE, FakeBackend

SOURCE = "/vm/debian server.img"
UNIX = ExportValues(enabled=True, socket_path="/run/mirrorgui/1.sock")
TCP = ExportValues(enabled=True, unix=False)
VALUES = FormValues(source=SOURCE, target="/vm2/t.img", export=UNIX)
LOOK = Look(source=IMAGE)
REMOTE = Finding(Severity.CONFIRM, "export-remote", "export", "Anyone who can reach it ...")


@pytest.mark.parametrize(
    ("text", "host", "port"),
    [
        ("127.0.0.1:10809", "127.0.0.1", 10809),
        (" localhost ", "localhost", 10809),
        ("[::1]:0", "::1", 0),
        ("[::]", "::", 10809),
        ("vmhost.example.org:65535", "vmhost.example.org", 65535),
    ],
)
def test_addresses_are_read_as_people_type_them(text, host, port):
    assert read_address(text) == (host, port)
    assert read_address(write_address(host, port)) == (host, port)


@pytest.mark.parametrize("text", ["", ":10809", "a b:1", "::1", "host:port", "host:1:2", "[x]:1"])
def test_what_is_no_address_is_refused_with_examples(text):
    with pytest.raises(ValueError, match="is not an address"):
        read_address(text)


def test_ports_end():
    with pytest.raises(ValueError, match="the last one is 65535"):
        read_address("localhost:65536")


@pytest.mark.parametrize(
    ("source", "name"),
    [
        (SOURCE, "debian-server"),
        ("/vm/win11.qcow2", "win11"),
        ("/dev/sdb", "sdb"),
        ("nbd://host/data", "data"),
        ("/vm/ä.img", "disk"),
        ("", "disk"),
        ("/vm/.img", "img"),
    ],
)
def test_a_name_that_needs_no_quotes_is_made_of_the_source(source, name):
    assert automatic_name(source) == name


def test_off_asks_for_nothing():
    assert export_request(ExportValues(), SOURCE) is None
    assert build_request(replace(VALUES, export=ExportValues()), "j").export is None
    assert not build_request(replace(VALUES, export=ExportValues()), "j").opens_writable


@pytest.mark.parametrize(
    ("values", "request_"),
    [
        (
            UNIX,
            ExportRequest("nbd+unix:///debian-server?socket=/run/mirrorgui/1.sock"),
        ),
        (
            replace(UNIX, name="my disk", read_only=True, allow_remote=True, certificates="/x"),
            ExportRequest("nbd+unix:///my%20disk?socket=/run/mirrorgui/1.sock", read_only=True),
        ),
        (TCP, ExportRequest("nbd://127.0.0.1/debian-server")),
        (
            replace(TCP, host="::", port=1, certificates="/p k/i", allow_remote=True),
            ExportRequest(
                "nbds://[::]:1/debian-server?tls-certificates=/p%20k/i", allow_remote=True
            ),
        ),
    ],
)
def test_the_request_says_what_is_filled_in(values, request_):
    assert export_request(values, SOURCE) == request_
    assert build_request(replace(VALUES, export=values), "j").export == request_


@pytest.mark.parametrize(
    "values",
    [
        ExportValues(),
        replace(UNIX, name="vm", read_only=True),
        replace(TCP, name="vm", host="::1", port=2, certificates="/pki"),
    ],
)
def test_a_form_filled_in_again_is_the_same(values):
    again = export_values_of(export_request(values, SOURCE))
    assert again == values


def test_others_have_to_be_let_in_again():
    request = MirrorRequest(
        SOURCE, "/t", export=ExportRequest("nbd://0.0.0.0/vm", allow_remote=True)
    )
    export = values_of(request).export
    assert export.enabled
    assert export.host == "0.0.0.0"
    assert not export.allow_remote


def test_a_missing_socket_is_an_invitation():
    verdict = judge(replace(VALUES, export=replace(UNIX, socket_path="")), LOOK)
    assert verdict.reason == "Say where the socket for clients goes."
    assert [each.invitation for each in verdict.remarks] == [True]


def test_a_problem_of_the_address_forbids_the_start():
    text = "Port 10809 of 127.0.0.1 is in use by another program."
    found = Finding(Severity.REFUSE, "export-address", "export", text)
    look = replace(LOOK, export=(found,))
    assert judge(VALUES, look).reason == text
    assert judge(replace(VALUES, export=ExportValues()), look).can_start


def test_others_must_be_agreed_to():
    look = replace(LOOK, export=(REMOTE,))
    values = replace(VALUES, export=TCP)
    verdict = judge(values, look)
    assert not verdict.can_start
    assert verdict.export_tick == REMOTE.text
    assert verdict.reason == "Tick that others may reach the source."
    assert verdict.remarks == ()
    assert not verdict.destructive
    assert judge(replace(values, export=replace(TCP, allow_remote=True)), look).can_start
    off = judge(replace(values, export=replace(TCP, enabled=False)), look)
    assert (off.can_start, off.export_tick) == (True, "")


def test_nothing_to_copy_is_said():
    values = replace(VALUES, sync=SyncMode.NONE, export=replace(UNIX, read_only=True))
    text = "Nothing will be copied: clients cannot write to a read-only export."
    assert text in [each.text for each in judge(values, LOOK).remarks]


def test_the_summary_says_who_uses_the_source():
    copies = f"Copies 1.0 GiB from {SOURCE} to the new file /vm2/t.img."
    assert summary(VALUES, LOOK) == f"{copies} Clients use debian server.img at {UNIX.socket_path}."
    reading = replace(VALUES, export=replace(TCP, read_only=True), when_ready=WhenReady.COMPLETE)
    assert summary(reading, LOOK) == (
        f"{copies} Clients read debian server.img at 127.0.0.1:10809. "
        "Clients move to the target once in sync."
    )
    assert summary(replace(VALUES, export=ExportValues()), LOOK) == copies


def test_the_choice_is_explained():
    assert "reading only" in explanation(ExportValues())
    assert explanation(UNIX).startswith("Clients write to the source.")
    assert explanation(replace(UNIX, read_only=True)).startswith("Clients can read.")


def test_the_address_is_looked_at_whatever_the_images_are():
    backend = FakeBackend()
    backend.export_findings = [REMOTE]
    for values in (VALUES, FormValues(export=UNIX), replace(VALUES, target="")):
        assert look_at(backend, values).export == (REMOTE,)
    assert look_at(backend, replace(VALUES, export=ExportValues())).export == ()
    assert look_at(backend, FormValues(export=replace(UNIX, socket_path=""))).export == ()


def test_the_engine_finds_out(tmp_path):
    request = ExportRequest(f"nbd+unix:///vm?socket={tmp_path}/no/s")
    [found] = Engine().check_export(request)
    assert found.text == f"The folder {tmp_path}/no does not exist."
