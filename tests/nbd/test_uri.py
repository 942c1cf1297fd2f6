"""NBD URIs: the specification's examples, round trips, and refusals that say what is wrong."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mirrorgui.errors import InvalidInput
from mirrorgui.nbd.uri import NbdAddress, format_uri, is_nbd_uri, parse_uri

NAME = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=50)
PATH = NAME.filter(bool)


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("nbd://example.com/disk", NbdAddress(host="example.com", export="disk")),
        ("nbd+unix:///disk?socket=sock", NbdAddress(socket_path="sock", export="disk")),
        ("nbd://example.com/", NbdAddress(host="example.com")),
        ("nbd://example.com", NbdAddress(host="example.com")),
        ("nbd://example.com//disk", NbdAddress(host="example.com", export="/disk")),
        ("nbd://example.com/hello%20world", NbdAddress(host="example.com", export="hello world")),
        ("nbd+unix:///?socket=%00/abstract", NbdAddress(socket_path="\0/abstract")),
        ("nbd://[::1]:10810/a", NbdAddress(host="::1", port=10810, export="a")),
        ("nbd://localhost", NbdAddress()),
        ("nbd://", NbdAddress()),
        ("nbd:", NbdAddress()),
        ("NBD://10.0.0.1:1", NbdAddress(host="10.0.0.1", port=1)),
        ("nbd+tcp://h/", NbdAddress(host="h")),
        ("nbds://h", NbdAddress(host="h", tls=True)),
        (
            "nbds+unix:///x?socket=/s&tls-hostname=h&tls-verify-peer=0&tls-certificates=/c%26d",
            NbdAddress("/s", "localhost", 10809, "x", True, "h", False, "/c&d"),
        ),
        ("nbds://h?tls-type=x509", NbdAddress(host="h", tls=True)),
    ],
)
def test_what_a_uri_means(text, address):
    assert is_nbd_uri(text)
    assert parse_uri(text) == address


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("http://host/", "scheme must be one of"),
        ("/some/path", "scheme must be one of"),
        ("nbd+vsock://1/", "scheme must be one of"),
        ("nbd+unix:///disk", "socket=PATH is missing"),
        ("nbd+unix://host/disk?socket=/s", "has no host"),
        ("nbd://host/?socket=/s", "needs the scheme nbd\\+unix"),
        ("nbd://host:port/", "not HOST or HOST:PORT"),
        ("nbd://host:70000/", "port 70000"),
        ("nbd://[::1/", "not HOST"),
        ("nbd://user@host/", "TLS-PSK"),
        ("nbd://host/%00", "NUL"),
        ("nbd://host/%ff", "UTF-8"),
        ("nbd://host/a#b", "%23"),
        ("nbd://host/" + "a" * 5000, "longer than 4096"),
        ("nbd://host/?tls-psk-file=/x", "tls-psk-file' is not known"),
        ("nbd://host/?tls-hostname", "has no value"),
        ("nbd+unix:///?socket=", "has no value"),
        ("nbd+unix:///?socket=/a&socket=/b", "given twice"),
        ("nbds://host/?tls-type=psk", "tls-type psk"),
        ("nbds://host/?tls-verify-peer=maybe", "instead of 0 or 1"),
    ],
)
def test_refusals_name_what_is_wrong(text, reason):
    with pytest.raises(InvalidInput, match=reason) as refusal:
        parse_uri(text)
    assert refusal.value.field == "uri"
    assert refusal.value.value == text


@given(
    st.builds(
        NbdAddress,
        host=st.sampled_from(["localhost", "10.1.2.3", "::1", "fe80::1", "host.example"]),
        port=st.integers(0, 65535),
        export=NAME,
        tls=st.booleans(),
        tls_hostname=NAME,
        tls_verify_peer=st.booleans(),
        tls_certificates=NAME,
    )
)
def test_tcp_round_trip(address):
    assert parse_uri(format_uri(address)) == address


@given(st.builds(NbdAddress, socket_path=PATH, export=NAME, tls=st.booleans()))
def test_unix_round_trip(address):
    assert parse_uri(format_uri(address)) == address


@given(
    st.text(max_size=100) | st.text("nbd:/+unixs?&=@[]%0#socket.", max_size=60).map("nbd".__add__)
)
def test_any_text_is_an_address_or_refused(text):
    try:
        address = parse_uri(text)
    except InvalidInput:
        return
    assert parse_uri(format_uri(address)) == address


@pytest.mark.parametrize("text", ["disk.qcow2", "nbd", "nbdx://h", "", "json:{}"])
def test_what_is_no_nbd_uri(text):
    assert not is_nbd_uri(text)


def test_places_for_messages():
    assert NbdAddress(host="::1", port=7).place == "[::1]:7"
    assert NbdAddress(host="h", port=7).place == "h:7"
    assert NbdAddress(socket_path="/run/s").place == "/run/s"
    assert NbdAddress(socket_path="\0s").place == "@s"
    assert str(NbdAddress(socket_path="/run/s", export="a b")) == "nbd+unix:///a%20b?socket=/run/s"
