"""What keeps a source from being exported is found before anything starts."""

import os
import socket
import stat
from pathlib import Path

import pytest

from mirrorgui import runtime
from mirrorgui.block.safety import Severity
from mirrorgui.errors import InvalidInput
from mirrorgui.export_check import MAX_SOCKET_PATH, check_export
from mirrorgui.nbd.uri import NbdAddress, format_uri
from mirrorgui.request import ExportRequest
from tests.nbd.support import short_directory
from tests.running import NOBODY


def unix(path, **changes):
    return ExportRequest(format_uri(NbdAddress(socket_path=str(path), export="vm")), **changes)


def tcp(host="127.0.0.1", port=0, **changes):
    address = NbdAddress(host=host, port=port, **changes.pop("address", {}))
    return ExportRequest(format_uri(address), **changes)


def texts(export):
    found = check_export(export)
    assert all(each.field == "export" for each in found)
    assert all(each.severity is Severity.REFUSE for each in found)
    return [each.text for each in found]


@pytest.fixture
def folder():
    with short_directory() as folder:
        yield folder


@pytest.fixture
def listening():
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server.getsockname()[1]


def test_a_free_path_and_a_free_port_are_fine(folder):
    assert texts(unix(folder / "odd name, ünd so.sock")) == []
    assert texts(tcp()) == []
    assert texts(tcp("localhost")) == []
    assert texts(unix("\0abstract")) == []


def test_looking_leaves_nothing_behind(folder):
    check_export(unix(folder / "s"))
    assert list(folder.iterdir()) == []


def test_what_is_no_uri_is_told_with_the_reason():
    assert texts(ExportRequest("http://x/")) == [
        "'http://x/' is no address: the scheme must be one of nbd, nbds, nbd+tcp, nbds+tcp, "
        "nbd+unix, nbds+unix."
    ]


def test_a_path_must_be_whole():
    assert texts(unix("vm.sock")) == ["'vm.sock' is not a whole path: it must begin with '/'."]


def test_the_longest_path_is_the_systems(folder):
    path = f"{folder}/{'x' * (MAX_SOCKET_PATH - len(str(folder)) - 1)}"
    assert texts(unix(path)) == []
    with socket.socket(socket.AF_UNIX) as sock:
        sock.bind(path)
    longer = path[:-1] + "ü"
    assert texts(unix(longer)) == ["The socket's path has 108 bytes; the system allows 107."]
    with socket.socket(socket.AF_UNIX) as sock, pytest.raises(OSError, match="too long"):
        sock.bind(longer)


def test_a_missing_folder_is_named(folder):
    assert texts(unix(folder / "no" / "s")) == [f"The folder {folder}/no does not exist."]


def test_a_folder_that_cannot_be_written_is_named(folder):
    folder.chmod(0o755)
    found = _as_nobody(lambda: texts(unix(folder / "s")))
    assert found == [f"Nothing can be made in {folder}: permission denied."]


def _as_nobody(look):
    if os.geteuid():
        return look()
    # access(2), as the check uses it, asks for the real user.
    os.setresuid(NOBODY, 0, 0)
    try:
        return look()
    finally:
        os.setresuid(0, 0, 0)


def test_a_file_is_not_taken_for_a_socket(folder):
    (folder / "s").touch()
    assert texts(unix(folder / "s")) == [f"{folder}/s exists and is no socket."]


def test_a_folder_on_the_way_that_is_none(folder):
    (folder / "f").touch()
    assert texts(unix(folder / "f" / "s")) == [f"{folder}/f/s cannot be used: Not a directory."]


def test_a_socket_that_is_served_is_refused_and_a_stale_one_is_not(folder):
    path = str(folder / "s")
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(path)
        server.listen()
        assert texts(unix(path)) == [f"Another program listens at {path}."]
    assert texts(unix(path)) == []
    assert Path(path).exists()


def test_a_port_in_use_is_named(listening):
    text = f"Port {listening} of 127.0.0.1 is in use by another program."
    assert texts(tcp(port=listening)) == [text]


def test_an_address_of_another_computer_is_refused():
    assert texts(tcp("192.0.2.1")) == ["192.0.2.1 is not an address of this computer."]


def test_a_name_that_nobody_knows_is_refused():
    [text] = texts(tcp("no-such-host.invalid"))
    assert text.startswith("no-such-host.invalid cannot be listened at: ")
    assert texts(tcp("a" * 70))


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        (
            {},
            "Anyone who can reach 0.0.0.0:0 can read and write this disk. There is no password.",
        ),
        (
            {"read_only": True},
            "Anyone who can reach 0.0.0.0:0 can read this disk. There is no password.",
        ),
    ],
)
def test_other_machines_need_an_agreement(changes, text):
    [found] = check_export(tcp("0.0.0.0", **changes))
    assert (found.severity, found.code, found.text) == (Severity.CONFIRM, "export-remote", text)


def test_certificates_of_clients_are_worth_a_password(tmp_path):
    address = {"tls": True, "tls_certificates": str(tmp_path)}
    found = check_export(tcp("0.0.0.0", address=address))
    assert [each.text for each in found] == [
        "Anyone with a certificate of your authority who can reach 0.0.0.0:0 can read and write "
        "this disk.",
        f"The certificates in {tmp_path} cannot be used: server-cert.pem is missing.",
    ]


def test_tls_needs_a_folder():
    [text] = texts(tcp(address={"tls": True}))
    assert (
        text
        == "The certificates in no folder cannot be used: a directory of certificates is needed."
    )


def private(folder):
    return stat.S_IMODE(folder.stat().st_mode) == 0o700


def test_sockets_lie_in_the_users_own_runtime_folder(tmp_path, monkeypatch):
    tmp_path.chmod(0o700)
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    assert runtime.runtime_folder() == tmp_path / "mirrorgui"
    assert texts(unix(runtime.free_socket_path())) == []
    assert not runtime.runtime_folder().exists()
    assert private(runtime.make_runtime_folder())
    assert runtime.make_runtime_folder() == tmp_path / "mirrorgui"
    assert texts(unix(runtime.free_socket_path())) == []


@pytest.mark.parametrize("base", ["", "relative", "/no/such/folder", "OPEN"])
def test_without_one_a_private_temporary_folder_is_used(base, tmp_path, monkeypatch):
    tmp_path.chmod(0o755)
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path) if base == "OPEN" else base)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    assert runtime.runtime_folder() == tmp_path / f"mirrorgui-{os.geteuid()}"
    assert private(runtime.make_runtime_folder())


def test_a_folder_that_others_can_enter_is_not_used(tmp_path, monkeypatch):
    tmp_path.chmod(0o700)
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    (tmp_path / "mirrorgui").mkdir()
    (tmp_path / "mirrorgui").chmod(0o777)
    with pytest.raises(InvalidInput, match="others can enter"):
        runtime.make_runtime_folder()


def test_neither_is_a_link_or_a_file(tmp_path, monkeypatch):
    tmp_path.chmod(0o700)
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    (tmp_path / "mirrorgui").symlink_to(tmp_path)
    with pytest.raises(InvalidInput, match="or it is a link"):
        runtime.make_runtime_folder()
    (tmp_path / "mirrorgui").unlink()
    (tmp_path / "mirrorgui").touch()
    with pytest.raises(InvalidInput, match="File exists"):
        runtime.make_runtime_folder()


def test_a_path_that_is_taken_is_passed_over(tmp_path, monkeypatch):
    tmp_path.chmod(0o700)
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    folder = runtime.make_runtime_folder()
    assert runtime.free_socket_path() == folder / "1.sock"
    (folder / "1.sock").touch()
    (folder / "2.sock").symlink_to("nowhere")
    assert runtime.free_socket_path() == folder / "3.sock"
