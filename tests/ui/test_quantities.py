import pytest

from mirrorgui.mirror.options import ErrorPolicy
from mirrorgui.ui.quantities import (
    place_text,
    plain_rate,
    plain_size,
    policy_explanation,
    policy_label,
    read_size,
    read_speed,
)
from mirrorgui.units import GiB, KiB, MiB, TiB


@pytest.mark.parametrize(
    ("text", "speed"),
    [
        ("Unlimited", 0),
        ("", 0),
        ("unlimited ", 0),
        ("25", 25 * MiB),
        ("1.5", 3 * MiB // 2),
        ("800K", 800 * KiB),
        ("800 KiB/s", 800 * KiB),
        ("10 MiB/s", 10 * MiB),
        ("1G", GiB),
        ("0", 0),
    ],
)
def test_speeds_as_people_type_them(text, speed):
    assert read_speed(text) == speed


@pytest.mark.parametrize("text", ["fast", "-1", "10 mph", "1e9", "--3"])
def test_what_is_no_speed_is_refused(text):
    with pytest.raises(ValueError, match="speed"):
        read_speed(text)


def test_sizes_as_people_type_them():
    assert read_size("16 MiB") == 16 * MiB
    assert read_size("65536") == 65536
    assert read_size("Auto (16 MiB)", ("Auto (16 MiB)",)) == 0
    assert read_size(" ") == 0
    with pytest.raises(ValueError, match="not negative"):
        read_size("-4K")
    with pytest.raises(ValueError, match="not a size"):
        read_size("lots")


def test_round_values_have_no_fraction():
    assert plain_size(64 * KiB) == "64 KiB"
    assert plain_size(3 * MiB // 2) == "1.5 MiB"
    assert plain_rate(0) == "Unlimited"
    assert plain_rate(10 * MiB) == "10 MiB/s"


def test_places_are_told_apart():
    assert place_text(12 * GiB) == "12.000 GiB"
    assert place_text(12 * GiB + 64 * MiB) == "12.062 GiB"
    assert place_text(TiB + MiB) == "1.000001 TiB"
    assert place_text(4 * KiB) == "4.0 KiB"


@pytest.mark.parametrize("policy", list(ErrorPolicy))
def test_every_policy_has_a_name_and_an_explanation(policy):
    assert policy_label(policy)
    assert policy_explanation(policy).endswith(".")
