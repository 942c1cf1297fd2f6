from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mirrorgui.qmp.lexer import MAX_SCALAR, MAX_TOKEN
from mirrorgui.qmp.parser import MAX_NESTING, MAX_SIZE, MAX_TOKENS, JsonStream


def read(*packets: bytes) -> list[Any]:
    """Return the values, and for what is no value the text that says why."""
    stream = JsonStream()
    found = [parsed for packet in packets for parsed in stream.feed(packet)]
    return [parsed.value if parsed.error is None else parsed.error.desc for parsed in found]


@pytest.mark.parametrize(
    ("text", "value"),
    [
        (b'{"a": [1, -2.5e1, true, false, null, {"b": {}}, []]}', None),
        (b"{'a': \"b\"}", {"a": "b"}),
        (b'"\\u00e9\\ud83d\\ude00\\n\\/\\\\\\""', 'é😀\n/\\"'),
        (b"'\\''", "'"),
        (b'"\xc3\xa9\x7f"', "é\x7f"),
        (b'"\xc0\x80\\u0000"', "\0\0"),
        (b"18446744073709551615 ", 18446744073709551615),
        (b"18446744073709551616 ", 18446744073709551616.0),
        (b"-9223372036854775809 ", -9223372036854775809.0),
        (b"-0 ", 0),
        (b"[]", []),
    ],
)
def test_values_are_read(text: bytes, value: object) -> None:
    wanted = {"a": [1, -25.0, True, False, None, {"b": {}}, []]} if value is None else value
    assert read(text) == [wanted]


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (b"{]", "expecting value"),
        (b"[5,]", "expecting value"),
        (b"[5 6]", "expected separator in list"),
        (b'{"a":5 "b":6}', "expected separator in dict"),
        (b'{"a"}', "missing : in object pair"),
        (b"{5:5}", "key is not a string in object"),
        (b'{"a":1,"\\u0061":2}', "duplicate key"),
        (b"tru ", "invalid keyword 'tru'"),
        (b"01", "stray '01'"),
        (b"-a", "stray '-a'"),
        (b"5.x", "stray '5.x'"),
        (b"%", "stray '%'"),
        (b"\xff", "stray '\ufffd'"),
        (b'"a\n', "stray '\"a\n'"),
        (b'"\\x"', "invalid escape sequence in string"),
        (b'"\\u12"', '\\u12" is not a valid Unicode character'),
        (b'"\\ud800x"', "\\ud800 is not a valid Unicode character"),
        (b'"\\uffff"', "\\uffff is not a valid Unicode character"),
        (b'"\xed\xa0\x80"', "invalid UTF-8 sequence in string"),
        (b"1e400 ", "number out of range '1e400'"),
    ],
)
def test_what_is_no_json_is_named(text: bytes, reason: str) -> None:
    assert read(text) == [f"JSON parse error, {reason}"]


def test_commands_may_share_a_packet_and_be_cut_anywhere() -> None:
    text = b'{"a":"\\u00e9\\"","b":[1.5e3,true]}{"c":-1}\r\n {"d":null}'
    whole = read(text)
    assert whole == [{"a": 'é"', "b": [1500.0, True]}, {"c": -1}, {"d": None}]
    assert read(*(text[n : n + 1] for n in range(len(text)))) == whole


def test_it_goes_on_behind_a_broken_line() -> None:
    text = b'{"execute": oops"}\n{"execute":"ok"}\n'
    assert read(text)[-1] == {"execute": "ok"}


@pytest.mark.parametrize("reset", [b"\n", b"\0", b"\xfe", b"\xff", b"}", b":"])
def test_a_mistake_is_skipped_up_to_a_character_that_begins_something_new(reset: bytes) -> None:
    assert read(b'%junk "5 \t' + reset + b"[7]")[-1] == [7]


def test_brackets_are_limited() -> None:
    assert read(b"[" * MAX_NESTING + b"]" * MAX_NESTING)[0] != "JSON nesting depth limit exceeded"
    assert read(b"[" * (MAX_NESTING + 1)) == ["JSON nesting depth limit exceeded"]


def test_tokens_are_limited() -> None:
    many = b"[" + b"1," * (MAX_TOKENS // 2)
    assert read(many) == ["JSON token count limit exceeded"]


@pytest.mark.parametrize("text", [b'"' + b"x" * (MAX_TOKEN + 1), b"1" * (MAX_SCALAR + 1)])
def test_a_token_is_limited_also_when_it_never_ends(text: bytes) -> None:
    assert read(text) == ["JSON token size limit exceeded"]


def test_a_value_is_limited() -> None:
    half = b'"' + b"x" * (MAX_SIZE // 2) + b'"'
    assert read(b"[" + half + b"," + half + b"]")[0] == "JSON token size limit exceeded"


def test_a_long_string_in_small_packets_is_looked_at_once() -> None:
    length = 1 << 18
    packets = [b'"'] + [b"x" * 16] * (length // 16) + [b'"']
    assert read(*packets) == ["x" * length]


@given(st.binary(max_size=200), st.integers(1, 9))
def test_no_bytes_break_it(data: bytes, step: int) -> None:
    packets = [data[n : n + step] for n in range(0, len(data), step)]
    assert read(*packets) == read(data)


_json = st.recursive(
    st.none() | st.booleans() | st.integers(-(1 << 63), (1 << 64) - 1) | st.text(max_size=8),
    lambda below: st.lists(below, max_size=4) | st.dictionaries(st.text(max_size=4), below),
    max_leaves=12,
)


@given(_json)
def test_what_json_can_say_is_understood(value: object) -> None:
    import json

    text = json.dumps(value)
    if any(f"\\u{code}" in text for code in ("ffff", "fffe", "fdd", "fde")) or "\\ud" in text:
        return  # may be no character
    assert read(text.encode() + b"\n") == [value]
