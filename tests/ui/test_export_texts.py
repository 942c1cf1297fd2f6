"""The commands for clients work as they are, with odd names and paths, in the real programs."""

import shlex
import subprocess
from contextlib import contextmanager
from pathlib import Path

import pytest

from mirrorgui.block.memory import MemoryNode
from mirrorgui.nbd.export import Export
from mirrorgui.nbd.server import NbdServer
from mirrorgui.nbd.tls import TlsCredentials
from mirrorgui.nbd.uri import NbdAddress
from mirrorgui.ui.export_texts import client_commands
from mirrorgui.ui.exported import Exported, age_text, connected_text, since_text, users_text
from mirrorgui.units import MiB
from tests.nbd.support import short_directory
from tests.nbd.test_tls import make_authority, make_certificate

UNIX = "nbd+unix:///vm?socket=/run/user/1000/mirrorgui/1.sock"
TCP = "nbd://127.0.0.1/vm"
ODD = "my, vm/$HOME ä'1;#?%"


def lines(uri, **options):
    return {each.program: each.line for each in client_commands(uri, **options)}


def test_commands_for_a_unix_socket():
    assert lines(UNIX) == {
        "qemu": f"qemu-system-x86_64 -m 1G -drive 'file={UNIX},format=raw,if=virtio'",
        "nbd-client": ("sudo nbd-client -unix /run/user/1000/mirrorgui/1.sock /dev/nbd0 -name vm"),
        "guestfish": ("guestfish --format=raw -a 'nbd://?socket=/run/user/1000/mirrorgui/1.sock'"),
        "qemu-img": f"qemu-img info '{UNIX}'",
        "nbdcopy": f"nbdcopy '{UNIX}' backup.img",
        "nbdinfo": f"nbdinfo '{UNIX}'",
    }


def test_commands_for_tcp():
    assert lines(TCP) == {
        "qemu": f"qemu-system-x86_64 -m 1G -drive file={TCP},format=raw,if=virtio",
        "nbd-client": "sudo nbd-client 127.0.0.1 10809 /dev/nbd0 -name vm",
        "guestfish": "guestfish --format=raw -a nbd://127.0.0.1:10809",
        "qemu-img": f"qemu-img info {TCP}",
        "nbdcopy": f"nbdcopy {TCP} backup.img",
        "nbdinfo": f"nbdinfo {TCP}",
    }


def test_what_may_only_be_read_is_opened_like_that():
    found = lines(TCP, read_only=True)
    assert found["qemu"].endswith(",if=virtio,readonly=on")
    assert found["nbd-client"].endswith(" -readonly")
    assert found["guestfish"].startswith("guestfish --ro ")


def test_every_command_has_its_purpose():
    assert all(each.purpose and each.program in each.line for each in client_commands(UNIX))


def test_no_command_is_offered_that_its_program_cannot_read():
    assert "nbd-client" not in lines("nbd+unix:///vm?socket=/a=b")
    assert "guestfish" not in lines("nbd://[::1]/vm")
    assert "guestfish" not in lines("nbds://localhost/vm", certificates="/pki")


@contextmanager
def offered(address, name=ODD, **options):
    """An export of 1 MiB; yields the server and its URI."""
    server = NbdServer(address, **options)
    server.add_export(Export(name, MemoryNode(1 * MiB)), default=True)
    server.start()
    try:
        yield server, server.uri(name)
    finally:
        server.stop()


@pytest.fixture(params=["unix", "tcp"])
def odd(request):
    """An export whose name and path a shell, a URI and QEMU's options all want to read."""
    with short_directory() as folder:
        path = str(folder / "a, b'c&d %41$HOME.sock")
        unix = NbdAddress(socket_path=path)
        address = unix if request.param == "unix" else NbdAddress(host="127.0.0.1", port=0)
        with offered(address) as found:
            yield found


def shell(line, **options):
    """Have a shell run a line, as a person would by pasting it; root needs no sudo."""
    return subprocess.run(
        ["bash", "-c", line.removeprefix("sudo ")],
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
        **options,
    )


@pytest.mark.parametrize("program", ["qemu-img", "nbdinfo"])
def test_programs_that_only_look_find_the_export(odd, program):
    server, uri = odd
    ended = shell(lines(uri)[program])
    assert ended.returncode == 0, ended.stderr
    assert "1048576" in ended.stdout
    assert server.accepted


def test_nbdcopy_copies_it(odd, tmp_path):
    ended = shell(lines(odd[1])["nbdcopy"], cwd=tmp_path)
    assert ended.returncode == 0, ended.stderr
    assert (tmp_path / "backup.img").stat().st_size == 1 * MiB


def test_nbdsh_opens_the_uri(odd):
    line = shlex.join(("nbdsh", "-u", odd[1], "-c", "print(h.get_size())"))
    ended = shell(line, env={"PATH": "/usr/bin:/bin"})  # the system's Python has its module
    assert (ended.returncode, ended.stdout) == (0, "1048576\n"), ended.stderr


def test_nbd_client_agrees_with_the_server_and_fails_only_at_the_kernel(odd):
    server, uri = odd
    ended = shell(lines(uri)["nbd-client"])
    assert "size = 1MB" in ended.stdout, ended.stderr
    assert server.accepted == 1


def monitor(line):
    """Start a machine that does not run, and ask it for its disks."""
    stopped = f"{line} -S -nodefaults -display none -monitor stdio"
    return shell(stopped, input="info block\nquit\n")


@pytest.mark.parametrize("read_only", [False, True])
def test_a_virtual_machine_gets_the_disk(odd, read_only):
    server, uri = odd
    ended = monitor(lines(uri, read_only=read_only)["qemu"])
    assert "virtio0" in ended.stdout, ended.stderr
    assert ("(raw, read-only)" in ended.stdout) is read_only
    assert server.accepted


@pytest.fixture(scope="module")
def certificates(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("pki, odd")
    make_authority(folder)
    make_certificate(folder, "server", "DNS:localhost,IP:127.0.0.1")
    make_certificate(folder, "client", "DNS:client")
    return folder


@pytest.mark.parametrize("program", ["qemu-img", "nbdinfo", "nbd-client", "qemu"])
def test_commands_of_an_encrypted_export_bring_the_certificates(certificates, program):
    address = NbdAddress(host="127.0.0.1", port=0)
    with offered(address, tls=TlsCredentials(certificates)) as (_server, uri):
        assert uri.startswith("nbds://")
        line = lines(uri, certificates=str(certificates))[program]
        ended = monitor(line) if program == "qemu" else shell(line)
        sign = {"qemu": "disk0", "nbd-client": "size = 1MB"}.get(program, "1048576")
        assert sign in ended.stdout, ended.stderr


def test_an_export_knows_its_commands():
    exported = Exported(TCP, read_only=True)
    assert [each.line for each in exported.commands] == list(lines(TCP, read_only=True).values())


def test_how_many_use_it():
    assert connected_text(0) == "0 connected"
    assert users_text(0) == "No client is using the export at the moment."
    assert users_text(1) == "1 client is using the export."
    assert users_text(2) == "2 clients are using the export."


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.9, "now"), (1, "1 s ago"), (59.9, "59 s ago"), (60, "1 min ago"), (7200, "2 h ago")],
)
def test_ages(seconds, text):
    assert age_text(seconds) == text


def test_another_day_is_named():
    day = 24 * 3600
    assert len(since_text(1_700_000_000, 1_700_000_000)) == len("19:52:07")
    assert since_text(1_700_000_000, 1_700_000_000 + 2 * day).startswith("2023-11-1")
