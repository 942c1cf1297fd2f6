"""Ready-made commands for the clients of an export, as they are typed into a shell. Free of Qt."""

import shlex
from dataclasses import dataclass, replace
from urllib.parse import quote

from mirrorgui.nbd.uri import NbdAddress, format_uri, parse_uri
from mirrorgui.ui.i18n import tr


@dataclass(frozen=True, slots=True)
class ClientCommand:
    """A command line.

    Attributes:
        program: what it starts.
        purpose: what it does, in a few words.
        line: to be pasted into a shell.
    """

    program: str
    purpose: str
    line: str


def client_commands(
    uri: str, *, read_only: bool = False, certificates: str = "", alone: bool = True
) -> tuple[ClientCommand, ...]:
    """Return commands that use an export, the most likely first; none where none can reach it.

    Args:
        uri: of the export, well formed.
        read_only: the export takes no writes.
        certificates: folder with a client's certificates, for an export with TLS.
        alone: it is its server's only one.
    """
    address = replace(parse_uri(uri), tls_certificates=certificates)
    if address.socket_path.startswith("\0"):
        return ()  # an abstract socket has no name that could stand in a command
    found = [ClientCommand("qemu", tr("Disk of a virtual machine"), _qemu(address, read_only))]
    if "=" not in address.socket_path:  # which nbd-client takes for an option of old
        line = _client(address, read_only)
        found.append(ClientCommand("nbd-client", tr("Block device of this computer"), line))
    if alone and _guestfish_can(address):
        line = _guestfish(address, read_only)
        found.append(ClientCommand("guestfish", tr("Look into its file systems"), line))
    whole = format_uri(address)
    found += [
        ClientCommand("qemu-img", tr("Show what it is"), _qemu_img(address)),
        ClientCommand(
            "nbdcopy", tr("Copy it to a file"), shlex.join(("nbdcopy", whole, "backup.img"))
        ),
        ClientCommand("nbdinfo", tr("Show what it offers"), shlex.join(("nbdinfo", whole))),
    ]
    return tuple(found)


def _qemu(address: NbdAddress, read_only: bool) -> str:
    if not address.tls:
        drive = f"file={_comma(format_uri(address))},format=raw,if=virtio"
        if read_only:
            drive += ",readonly=on"
        return shlex.join(("qemu-system-x86_64", "-m", "1G", "-drive", drive))
    # QEMU's URIs know nothing of TLS.
    device = f"driver=raw,node-name=disk0,{_options(address, 'file.')}"
    if read_only:
        device += ",read-only=on"
    words = ("qemu-system-x86_64", "-m", "1G", "-object", _credentials(address))
    more = ("-blockdev", device, "-device", "virtio-blk-pci,drive=disk0")
    return shlex.join((*words, *more))


def _qemu_img(address: NbdAddress) -> str:
    if not address.tls:
        return shlex.join(("qemu-img", "info", format_uri(address)))
    words = ("qemu-img", "info", "--object", _credentials(address), "--image-opts")
    return shlex.join((*words, f"driver=raw,{_options(address, 'file.')}"))


def _options(address: NbdAddress, prefix: str) -> str:
    """Write an address with TLS as QEMU's options of the nbd driver."""
    options = {"driver": "nbd"}
    if address.is_unix:
        options |= {"server.type": "unix", "server.path": address.socket_path}
    else:
        options |= {"server.type": "inet", "server.host": address.host}
        options["server.port"] = str(address.port)
    options["export"] = address.export
    options["tls-creds"] = "tls0"
    return ",".join(f"{prefix}{key}={_comma(value)}" for key, value in options.items())


def _credentials(address: NbdAddress) -> str:
    return f"tls-creds-x509,id=tls0,endpoint=client,dir={_comma(address.tls_certificates)}"


def _comma(value: str) -> str:
    """Write a value so that QEMU's lists of options do not end in it."""
    return value.replace(",", ",,")


def _client(address: NbdAddress, read_only: bool) -> str:
    words = ["sudo", "nbd-client"]
    words += (
        ["-unix", address.socket_path, "/dev/nbd0"]
        if address.is_unix
        else [address.host, str(address.port), "/dev/nbd0"]
    )
    if address.export:
        words += ["-name", address.export]
    if read_only:
        words.append("-readonly")
    if address.tls:
        folder = address.tls_certificates
        words += ["-cacertfile", f"{folder}/ca-cert.pem"]
        words += ["-certfile", f"{folder}/client-cert.pem"]
        words += ["-keyfile", f"{folder}/client-key.pem"]
    return shlex.join(words)


def _guestfish_can(address: NbdAddress) -> bool:
    """Say whether libguestfs has words for an address."""
    return not address.tls and ":" not in address.host


def _guestfish(address: NbdAddress, read_only: bool) -> str:
    """Write guestfish's own kind of URI: no ``nbd+unix``, and no name, which keeps its slash there.

    Its server's only export is meant without a name, too; another one cannot be said.
    """
    if address.is_unix:
        query = format_uri(replace(address, export="")).partition("?")[2]
        uri = f"nbd://?{query}"
    else:
        uri = f"nbd://{quote(address.host, safe='')}:{address.port}"
    access = ["--ro"] if read_only else []
    return shlex.join(("guestfish", *access, "--format=raw", "-a", uri))
