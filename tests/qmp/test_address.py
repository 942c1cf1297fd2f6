import pytest

from mirrorgui.errors import InvalidInput
from mirrorgui.qmp.address import MAX_PATH, Address, parse_address


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("unix:/run/a.sock", Address(path="/run/a.sock")),
        ("unix:a:5", Address(path="a:5")),
        ("/run/a:5", Address(path="/run/a:5")),
        ("a.sock", Address(path="a.sock")),
        ("tcp:localhost:4444", Address(host="localhost", port=4444)),
        ("127.0.0.2:0", Address(host="127.0.0.2", port=0)),
        ("tcp:[::1]:80", Address(host="::1", port=80)),
    ],
)
def test_addresses_are_read(text: str, address: Address) -> None:
    assert parse_address(text) == address
    assert parse_address(str(address)) == address


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "a path is missing"),
        ("unix:", "a path is missing"),
        ("unix:a\0b", "zero byte"),
        ("/" + "x" * MAX_PATH, "107 bytes"),
        ("tcp:4444", "expected HOST:PORT"),
        ("localhost:http", "'http' is not a port"),
        ("localhost:70000", "'70000' is not a port"),
        ("0.0.0.0:4444", "only localhost and loopback"),
        (":4444", "only localhost and loopback"),
        ("tcp:[::]:4444", "only localhost and loopback"),
        ("tcp:example.org:4444", "'example.org' can be reached from elsewhere"),
    ],
)
def test_what_is_no_address_or_open_to_others_is_refused(text: str, reason: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        parse_address(text)
    assert reason in caught.value.reason
    assert caught.value.field == "qmp"
