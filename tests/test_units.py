import pytest
from hypothesis import given
from hypothesis import strategies as st

from mirrorgui.units import (
    GiB,
    KiB,
    MiB,
    PiB,
    TiB,
    align_down,
    align_up,
    format_rate,
    format_size,
    is_power_of_two,
    parse_size,
)


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("0", 0),
        ("512", 512),
        ("64K", 64 * KiB),
        ("64k", 64 * KiB),
        ("64KiB", 64 * KiB),
        ("64kb", 64 * KiB),
        ("10 MiB", 10 * MiB),
        ("1.5G", GiB + GiB // 2),
        ("0.5 KiB", 512),
        ("2T", 2 * TiB),
        ("1P", PiB),
        ("100B", 100),
        ("  7 ", 7),
        ("3.0", 3),
        ("9007199254740993", 2**53 + 1),
        ("16383P", 16383 * PiB),
    ],
)
def test_a_size_is_read_exactly(text: str, size: int) -> None:
    assert parse_size(text) == size


def test_a_minus_sign_is_kept_so_that_the_field_can_be_named_by_the_caller() -> None:
    assert parse_size("-1K") == -KiB
    assert parse_size("-1.5K") == -KiB - 512


def test_a_fraction_of_a_byte_is_cut_off_where_a_suffix_made_it() -> None:
    assert parse_size("1.0001K") == KiB


@pytest.mark.parametrize(
    "text", ["", "K", "1.2.3", "0x10", "1E3", "12 apples", "1,5G", "1KK", "--1", "1 0", "inf"]
)
def test_what_is_not_a_size_is_refused_by_its_text(text: str) -> None:
    with pytest.raises(ValueError, match="is not a size") as refusal:
        parse_size(text)
    assert f"'{text}'" in str(refusal.value)


def test_half_a_byte_is_refused() -> None:
    with pytest.raises(ValueError, match="not a whole number of bytes"):
        parse_size("0.5")


@given(st.integers(min_value=0, max_value=2**63 - 1))
def test_digits_are_bytes(size: int) -> None:
    assert parse_size(str(size)) == size


@given(st.integers(0, 2**40), st.sampled_from(list("KMGTPkmgtp")))
def test_suffixes_are_powers_of_1024(number: int, suffix: str) -> None:
    unit = 1024 ** ("KMGTP".index(suffix.upper()) + 1)
    assert parse_size(f"{number}{suffix}") == number * unit


@pytest.mark.parametrize(
    ("size", "text"),
    [
        (0, "0 B"),
        (512, "512 B"),
        (1023, "1023 B"),
        (1024, "1.0 KiB"),
        (64 * KiB, "64.0 KiB"),
        (MiB - 1, "1.0 MiB"),
        (1023 * KiB, "1023.0 KiB"),
        (GiB + GiB // 5, "1.2 GiB"),
        (TiB, "1.0 TiB"),
        (5 * PiB, "5.0 PiB"),
        (5000 * PiB, "5000.0 PiB"),
        (-64 * KiB, "-64.0 KiB"),
    ],
)
def test_a_size_is_written_with_four_digits_at_most_below_a_pebibyte(size: int, text: str) -> None:
    assert format_size(size) == text


def test_a_rate_is_a_size_each_second() -> None:
    assert format_rate(51.8 * MiB) == "51.8 MiB/s"


@given(st.integers(0, 2**60))
def test_what_is_written_reads_back_to_within_its_last_digit(size: int) -> None:
    read = parse_size(format_size(size))
    assert abs(read - size) <= max(size // 19, 0)


@given(st.integers(0, 2**63), st.integers(1, 2**26))
def test_alignment_brackets_the_value_with_neighbouring_multiples(
    value: int, alignment: int
) -> None:
    down, up = align_down(value, alignment), align_up(value, alignment)
    assert down % alignment == up % alignment == 0
    assert down <= value <= up
    assert up - down == (alignment if value % alignment else 0)


def test_powers_of_two_are_positive_with_one_bit_set() -> None:
    assert [value for value in range(-4, 20) if is_power_of_two(value)] == [1, 2, 4, 8, 16]
    assert is_power_of_two(2**62)
    assert not is_power_of_two(2**62 + 1)
