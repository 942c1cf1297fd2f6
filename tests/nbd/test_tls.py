"""TLS in both directions, with certificates as ``tls-creds-x509`` wants them and real peers."""

import ssl
import threading
from pathlib import Path

import pytest

from mirrorgui.block.memory import MemoryNode
from mirrorgui.block.nbd import NbdNode
from mirrorgui.errors import ImageRefused, InvalidInput
from mirrorgui.nbd import handshake
from mirrorgui.nbd.client_handshake import list_exports
from mirrorgui.nbd.constants import Option, Reply
from mirrorgui.nbd.negotiation import TlsMode
from mirrorgui.nbd.tls import TlsCredentials
from mirrorgui.nbd.uri import NbdAddress
from mirrorgui.units import MiB
from tests.nbd.support import RawClient, pattern, peer, run, serving, short_directory

LOOPBACK = NbdAddress(host="127.0.0.1", port=0)


def make_authority(directory: Path) -> None:
    run(
        *("openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256"),
        *("-nodes", "-days", "2", "-subj", "/CN=Test authority"),
        *("-addext", "basicConstraints=critical,CA:TRUE"),
        *("-addext", "keyUsage=critical,keyCertSign,cRLSign"),
        *("-keyout", directory / "ca-key.pem", "-out", directory / "ca-cert.pem"),
    )


def make_certificate(directory: Path, role: str, names: str) -> None:
    key, request = directory / f"{role}-key.pem", directory / f"{role}.csr"
    usage = "serverAuth" if role == "server" else "clientAuth"
    extensions = directory / f"{role}.ext"
    extensions.write_text(
        f"subjectAltName={names}\nkeyUsage=critical,digitalSignature\nextendedKeyUsage={usage}\n"
    )
    run(
        *("openssl", "req", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"),
        *("-subj", f"/CN={role}", "-keyout", key, "-out", request),
    )
    run(
        *("openssl", "x509", "-req", "-days", "2", "-in", request, "-extfile", extensions),
        *("-CA", directory / "ca-cert.pem", "-CAkey", directory / "ca-key.pem"),
        *("-CAcreateserial", "-out", directory / f"{role}-cert.pem"),
    )


@pytest.fixture(scope="module")
def certificates(tmp_path_factory) -> Path:
    directory = tmp_path_factory.mktemp("pki")
    make_authority(directory)
    make_certificate(directory, "server", "DNS:localhost,IP:127.0.0.1")
    make_certificate(directory, "client", "DNS:client")
    return directory


@pytest.fixture(scope="module")
def strangers(tmp_path_factory) -> Path:
    """Certificates of an authority that nobody here trusts."""
    directory = tmp_path_factory.mktemp("strangers")
    make_authority(directory)
    make_certificate(directory, "server", "DNS:localhost,IP:127.0.0.1")
    make_certificate(directory, "client", "DNS:client")
    return directory


def tls_serving(certificates, mode=TlsMode.REQUIRED, node=1 * MiB, **options):
    options.setdefault("address", LOOPBACK)
    return serving(node, tls=TlsCredentials(certificates), tls_mode=mode, **options)


def parallel(work, count: int = 4) -> None:
    failures = []

    def guarded(number):
        try:
            work(number)
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=guarded, args=(n,)) for n in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures


@pytest.mark.parametrize("unix", [False, True])
def test_our_client_and_our_server(certificates, unix):
    options = {} if unix else {"address": LOOPBACK}
    credentials = TlsCredentials(certificates)
    with serving(8 * MiB, tls=credentials, **options) as server:
        assert server.uri("disk").startswith("nbds")
        node = NbdNode(server.uri("disk"), tls=credentials)
        try:

            def work(number):
                for turn in range(8):
                    data = pattern(200_000, number * 100 + turn)
                    node.write(number * 2 * MiB + turn * 200_000, data)
                    back = bytearray(len(data))
                    node.read_into(number * 2 * MiB + turn * 200_000, back)
                    assert back == data

            parallel(work)
            node.flush()
            assert all(look.encrypted for look in server.connections())
        finally:
            node.close()


def test_real_clients_on_our_server(certificates, tmp_path):
    source, back = tmp_path / "source", tmp_path / "back"
    source.write_bytes(pattern(4 * MiB))
    with tls_serving(certificates, node=4 * MiB) as server:
        port = server.address.port
        uri = f"nbds://localhost:{port}/disk?tls-certificates={certificates}"
        assert "with TLS" in run("nbdinfo", uri)
        run("nbdcopy", source, uri)
        run("nbdcopy", uri, back)
        assert back.read_bytes() == source.read_bytes()
        creds = f"tls-creds-x509,id=t,dir={certificates},endpoint=client"
        image = (
            f"driver=nbd,host=localhost,port={port},export=disk,tls-creds=t,tls-hostname=localhost"
        )
        run(
            *("qemu-img", "convert", "-O", "raw", "--object", creds, "--image-opts", image),
            back,
        )
        assert back.read_bytes() == source.read_bytes()


def test_our_client_on_real_servers(certificates):
    with short_directory() as directory:
        image = directory / "image"
        image.write_bytes(pattern(4 * MiB))
        socket_path = directory / "s"
        commands = [
            (
                *("qemu-nbd", "-f", "raw", "-k", socket_path, "-x", "disk", "-t", image),
                *("--object", f"tls-creds-x509,id=t,dir={certificates},endpoint=server"),
                *("--tls-creds", "t"),
            ),
            (
                *("nbdkit", "-f", "-U", socket_path, "--tls=require"),
                *(f"--tls-certificates={certificates}", "--tls-verify-peer", "file", image),
            ),
        ]
        for command in commands:
            socket_path.unlink(missing_ok=True)
            address = NbdAddress(
                socket_path=str(socket_path),
                export="disk",
                tls=True,
                tls_hostname="localhost",
                tls_certificates=str(certificates),
            )
            with peer(*command, socket_path=socket_path):
                node = NbdNode(address)
                data = bytearray(4 * MiB)
                node.read_into(0, data)
                assert data == pattern(4 * MiB)
                node.write(0, data[1000:2000])
                node.write(0, data[:1000])
                node.close()


def test_a_server_that_requires_tls_tells_nothing_in_the_clear(certificates):
    with tls_serving(certificates) as server, RawClient(server) as client:
        for option in (Option.LIST, Option.GO, Option.STRUCTURED_REPLY, 77):
            assert client.option(option, b"")[-1][0] == Reply.ERR_TLS_REQD
        client.send(handshake.pack_option(Option.EXPORT_NAME, b"disk"))
        assert client.is_closed_by_server()
    with tls_serving(certificates) as server, RawClient(server) as client:
        assert client.option(Option.ABORT) == [(Reply.ACK, b"")]


def test_a_willing_server_serves_both_kinds(certificates):
    with tls_serving(certificates, TlsMode.ON) as server:
        assert server.uri("disk").startswith("nbd://")
        plain = NbdNode(server.uri("disk"))
        encrypted = NbdNode(server.uri("disk"), tls=TlsCredentials(certificates))
        plain.write(0, b"abcd")
        data = bytearray(4)
        encrypted.read_into(0, data)
        assert data == b"abcd"
        assert [look.encrypted for look in server.connections()] == [False, True]
        plain.close()
        encrypted.close()


def test_a_wish_for_tls_is_dropped_where_the_uri_allows_it(certificates):
    with serving(address=LOOPBACK) as server:
        node = NbdNode(server.uri("disk"), tls=TlsCredentials(certificates))
        node.write(0, b"abcd")
        assert [look.encrypted for look in server.connections()] == [False]
        node.close()
        demanding = server.uri("disk").replace("nbd://", "nbds://")
        with pytest.raises(ImageRefused, match="policy forbids it"):
            NbdNode(demanding, tls=TlsCredentials(certificates))


def test_the_client_is_told_that_tls_is_required(certificates):
    with tls_serving(certificates) as server:
        plain = server.uri("disk").replace("nbds://", "nbd://")
        with pytest.raises(ImageRefused, match="requires TLS"):
            NbdNode(plain)


def test_peers_must_prove_who_they_are(certificates, strangers, tmp_path):
    nobody = tmp_path / "nobody"
    nobody.mkdir()
    (nobody / "ca-cert.pem").write_bytes((certificates / "ca-cert.pem").read_bytes())
    with tls_serving(certificates) as server:
        uri = server.uri("disk")
        with pytest.raises(ImageRefused, match="certificate is not accepted"):
            NbdNode(uri, tls=TlsCredentials(strangers))
        with pytest.raises(ImageRefused, match="certificate is not accepted"):
            NbdNode(uri, tls=TlsCredentials(certificates, hostname="other.example"))
        with pytest.raises(ImageRefused, match="certificate is not accepted"):
            NbdNode(uri)  # the system's authorities do not know ours
        # A client without a certificate, and one that trusts anybody but is trusted by nobody.
        for credentials in (TlsCredentials(nobody), TlsCredentials(strangers, verify_peer=False)):
            with pytest.raises(ImageRefused):
                NbdNode(uri, tls=credentials)
        node = NbdNode(uri, tls=TlsCredentials(certificates, verify_peer=False, hostname="x"))
        node.close()


def test_a_server_may_let_anybody_in(certificates, strangers):
    credentials = TlsCredentials(certificates, verify_peer=False)
    with serving(1 * MiB, tls=credentials, address=LOOPBACK) as server:
        node = NbdNode(server.uri("disk"), tls=TlsCredentials(strangers, verify_peer=False))
        node.write(0, b"abcd")
        node.close()


def test_revoked_certificates_are_refused(certificates, tmp_path):
    for path in certificates.glob("*.pem"):
        (tmp_path / path.name).write_bytes(path.read_bytes())
    (tmp_path / "index").write_text("")
    (tmp_path / "number").write_text("01\n")
    config = tmp_path / "config"
    config.write_text(
        f"[ca]\ndefault_ca=d\n[d]\ndatabase={tmp_path}/index\ncrlnumber={tmp_path}/number\n"
        "default_md=sha256\ndefault_crl_days=2\n"
    )
    authority = ("-cert", tmp_path / "ca-cert.pem", "-keyfile", tmp_path / "ca-key.pem")
    ca = ("openssl", "ca", "-config", config, *authority)
    crl = tmp_path / "ca-crl.pem"
    run(*ca, "-gencrl", "-out", crl)
    with tls_serving(tmp_path) as server:
        NbdNode(server.uri("disk"), tls=TlsCredentials(certificates)).close()
    run(*ca, "-revoke", tmp_path / "client-cert.pem")
    run(*ca, "-gencrl", "-out", crl)
    with tls_serving(tmp_path) as server, pytest.raises(ImageRefused):
        NbdNode(server.uri("disk"), tls=TlsCredentials(certificates))


@pytest.mark.parametrize("missing", ["server-cert.pem", "server-key.pem", "ca-cert.pem"])
def test_missing_files_are_named(certificates, tmp_path, missing):
    for path in certificates.glob("*.pem"):
        if path.name != missing:
            (tmp_path / path.name).write_bytes(path.read_bytes())
    with pytest.raises(InvalidInput, match=f"{missing} is missing") as refusal:
        TlsCredentials(tmp_path).server_context()
    assert refusal.value.field == "tls-certificates"
    with pytest.raises(InvalidInput, match="a directory of certificates is needed"):
        TlsCredentials().server_context()


@pytest.mark.parametrize("broken", ["client-cert.pem", "ca-cert.pem"])
def test_broken_files_are_named(certificates, tmp_path, broken):
    for path in certificates.glob("*.pem"):
        (tmp_path / path.name).write_bytes(path.read_bytes())
    (tmp_path / broken).write_text("nonsense")
    with pytest.raises(InvalidInput, match=f"{broken}.*cannot be used"):
        TlsCredentials(tmp_path).client_context()


def test_garbage_instead_of_a_tls_handshake_ends_the_connection(certificates):
    with tls_serving(certificates) as server, RawClient(server) as client:
        assert client.option(Option.STARTTLS) == [(Reply.ACK, b"")]
        client.send(handshake.pack_option(Option.LIST))
        assert client.is_closed_by_server()


def test_starting_tls_twice_is_invalid_and_forgets_what_was_said_before(certificates):
    credentials = TlsCredentials(certificates)
    with tls_serving(certificates, TlsMode.ON) as server, RawClient(server) as client:
        assert client.option(Option.STRUCTURED_REPLY)[-1][0] == Reply.ACK
        assert client.option(Option.STARTTLS)[-1][0] == Reply.ACK
        context = credentials.client_context()
        client.sock = context.wrap_socket(client.sock, server_hostname="localhost")
        assert client.option(Option.STARTTLS)[-1][0] == Reply.ERR_INVALID
        meta = handshake.pack_meta_request(handshake.MetaRequest("disk", ("base:",)))
        assert client.option(Option.LIST_META_CONTEXT, meta)[-1][0] == Reply.ERR_INVALID
        client.go()
        client.write(0, b"abcd")
        assert client.read(0, 4) == b"abcd"


def test_a_client_that_stops_in_the_tls_handshake_loses_its_place(certificates):
    with tls_serving(certificates, handshake_timeout_s=0.2) as server, RawClient(server) as client:
        client.option(Option.STARTTLS)
        assert client.is_closed_by_server()


def test_old_versions_are_refused(certificates):
    context = TlsCredentials(certificates).client_context()
    context.minimum_version = ssl.TLSVersion.MINIMUM_SUPPORTED
    with pytest.warns(DeprecationWarning):
        context.maximum_version = ssl.TLSVersion.TLSv1_1
    with tls_serving(certificates) as server, RawClient(server) as client:
        client.option(Option.STARTTLS)
        with pytest.raises(ssl.SSLError):
            client.sock = context.wrap_socket(client.sock, server_hostname="localhost")


def test_exports_are_listed_over_tls(certificates):
    with tls_serving(certificates) as server:
        found = list_exports(server.address, tls=TlsCredentials(certificates, hostname="localhost"))
        assert found == [("disk", "")]


def test_large_reads_cross_many_records(certificates):
    node = MemoryNode(pattern(8 * MiB))
    credentials = TlsCredentials(certificates)
    with tls_serving(certificates, node=node) as server:
        client = NbdNode(server.uri("disk"), tls=credentials)
        data = bytearray(8 * MiB)
        client.read_into(0, data)
        assert data == pattern(8 * MiB)
        client.close()
