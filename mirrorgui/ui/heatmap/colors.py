"""The map's colours: what value a cell gets, and which colour a value has. Free of Qt.

A cell's value is one of sixteen, ordered from harmless to grave, so that the gravest of several
cells is their maximum. The palettes stay apart for people with any colour vision (simulated after
Machado 2009: smallest CIE76 distance of any two 29 in the light one, 25 in the dark one), and no
state is told by its colour alone: failed has a cross, in flight a frame, not allocated a hatch.
"""

import enum
import functools
import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mirrorgui.ui.heatmap.cells import CellCounts, ChunkState

STEPS = 6
"""Steps of the ramp from in sync (0) to all to copy (6)."""

OUTSIDE = 0
NOT_ALLOCATED = 1
IN_SYNC = 2
TO_COPY = IN_SYNC + STEPS
AGAIN = TO_COPY + STEPS
FAILED = AGAIN + 1
"""Values of cells; IN_SYNC + 1 ... TO_COPY and TO_COPY + 1 ... AGAIN are the two ramps."""

_RAMP = (0.0, 0.36, 0.49, 0.62, 0.74, 0.87, 1.0)
"""Where each step stands between the two colours; the first is a leap: a little must be seen."""

SUBDUED = 0.6
"""Share of colourfulness that is taken away half way between two colours."""

Cells = NDArray[np.uint8]


@dataclass(frozen=True, slots=True)
class MapPalette:
    """Colours of the map as ``#RRGGBB``.

    Attributes:
        name: ``light``, ``dark`` or ``monochrome``, or a person's own.
        in_sync, to_copy, again, in_flight, failed, not_allocated: of the states; ``in_flight`` is
            a frame.
        hatch: lines over what is not allocated.
        ground: behind and between the cells.
        mark: the cross on what failed.
        cursor: the frame around the cursor's cell, and the selection.
    """

    name: str
    in_sync: str
    to_copy: str
    again: str
    in_flight: str
    failed: str
    not_allocated: str
    hatch: str
    ground: str
    mark: str
    cursor: str

    def of(self, state: ChunkState) -> str:
        """Return the colour of a state."""
        found: str = getattr(self, state.name.lower())
        return found


LIGHT = MapPalette(
    name="light",
    in_sync="#4A98DA",
    to_copy="#F2B134",
    again="#A65E00",
    in_flight="#000000",
    failed="#E5007A",
    not_allocated="#E4E4E4",
    hatch="#CDCDCD",
    ground="#FFFFFF",
    mark="#FFFFFF",
    cursor="#1B1F24",
)

DARK = MapPalette(
    name="dark",
    in_sync="#5AA9E6",
    to_copy="#F2B134",
    again="#A65E00",
    in_flight="#FFFFFF",
    failed="#FF2D95",
    not_allocated="#3A3A3A",
    hatch="#4C4C4C",
    ground="#16181B",
    mark="#FFFFFF",
    cursor="#FFFFFF",
)

MONOCHROME = MapPalette(
    name="monochrome",
    in_sync="#D2D2D2",
    to_copy="#8C8C8C",
    again="#555555",
    in_flight="#000000",
    failed="#000000",
    not_allocated="#FFFFFF",
    hatch="#C4C4C4",
    ground="#FFFFFF",
    mark="#FFFFFF",
    cursor="#000000",
)


class Scheme(enum.Enum):
    """Which palette the map uses; values are what the settings store."""

    THEME = "theme"
    """Light or dark, as the window is."""
    MONOCHROME = "monochrome"


def palette_for(scheme: Scheme, dark: bool) -> MapPalette:
    """Return the palette of a scheme in a light or dark window."""
    if scheme is Scheme.MONOCHROME:
        return MONOCHROME
    return DARK if dark else LIGHT


def encode(counts: CellCounts) -> Cells:
    """Return each cell's value.

    Failed beats everything. Otherwise the share of what is to copy among the chunks that take part
    (not allocated ones do not): step 0 only when there is none, step 6 only when it is all. A chunk
    in flight still counts as to copy: its frame says the rest. The ramp is that of *again* when
    more than half of what is to copy had been copied before.
    """
    again = counts.again + counts.in_flight_again
    dirty = counts.again + counts.to_copy + counts.in_flight
    part = dirty + counts.in_sync
    step = 1 + (STEPS - 1) * dirty // np.maximum(part, 1)
    values = IN_SYNC + np.where(dirty == 0, 0, step)
    values[(again * 2 > dirty)] += STEPS
    values[part == 0] = NOT_ALLOCATED
    values[counts.failed > 0] = FAILED
    return values.astype(np.uint8)


def worst(values: Cells, rows: int) -> Cells:
    """Return the gravest value in each of ``rows`` equal parts; cells may be fewer than rows."""
    if not len(values) or rows <= 0:
        return np.zeros(max(rows, 0), np.uint8)
    begin = np.arange(rows) * len(values) // rows
    if len(values) <= rows:
        return values[begin]
    gravest: Cells = np.maximum.reduceat(values, begin)
    return gravest


def to_rgb(name: str) -> tuple[int, int, int]:
    """Read ``#RRGGBB``."""
    return int(name[1:3], 16), int(name[3:5], 16), int(name[5:7], 16)


def to_name(rgb: tuple[int, int, int]) -> str:
    """Write ``#RRGGBB``."""
    return "#{:02X}{:02X}{:02X}".format(*rgb)


def mix(first: str, second: str, share: float, *, rising_hue: bool) -> tuple[int, int, int]:
    """Blend two colours in OKLab along an arc of hues.

    The straight way between the map's colours leads through grey, where both ramps would meet and
    look like nothing at all. *To copy* goes by way of green (falling hue), *again* by way of mauve
    (rising hue); both are subdued half way, so that the ends remain what catches the eye.
    """
    light, chroma, hue = _polar(_to_oklab(first))
    light_2, chroma_2, hue_2 = _polar(_to_oklab(second))
    if rising_hue and hue_2 < hue:
        hue_2 += 2 * math.pi
    elif not rising_hue and hue_2 > hue:
        hue_2 -= 2 * math.pi
    light += (light_2 - light) * share
    chroma += (chroma_2 - chroma) * share
    chroma *= 1 - SUBDUED * 4 * share * (1 - share)
    hue += (hue_2 - hue) * share
    return _from_oklab(np.array([light, chroma * math.cos(hue), chroma * math.sin(hue)]))


@functools.lru_cache(maxsize=8)
def lookup_table(palette: MapPalette) -> NDArray[np.uint8]:
    """Return colours for all values: shape (256, 4), red, green, blue, alpha.

    256 entries and bytes keep pyqtgraph on its fast way (an indexed image). NOT_ALLOCATED is
    transparent: what lies behind the cells shows there, hatch and all.
    """
    table = np.zeros((256, 4), np.uint8)
    table[OUTSIDE] = (*to_rgb(palette.ground), 255)
    for step, share in enumerate(_RAMP):
        to_copy = mix(palette.in_sync, palette.to_copy, share, rising_hue=False)
        table[IN_SYNC + step] = (*to_copy, 255)
        if step:
            again = mix(palette.in_sync, palette.again, share, rising_hue=True)
            table[TO_COPY + step] = (*again, 255)
    table[FAILED] = (*to_rgb(palette.failed), 255)
    table.setflags(write=False)
    return table


@functools.lru_cache(maxsize=8)
def opaque_table(palette: MapPalette) -> NDArray[np.uint8]:
    """Return the lookup table with a plain colour for what is not allocated."""
    table = lookup_table(palette).copy()
    table[NOT_ALLOCATED] = (*to_rgb(palette.not_allocated), 255)
    table.setflags(write=False)
    return table


_TO_LMS = np.array(
    [
        [0.4122214708, 0.5363325363, 0.0514459929],
        [0.2119034982, 0.6806995451, 0.1073969566],
        [0.0883024619, 0.2817188376, 0.6299787005],
    ]
)
_TO_LAB = np.array(
    [
        [0.2104542553, 0.7936177850, -0.0040720468],
        [1.9779984951, -2.4285922050, 0.4505937099],
        [0.0259040371, 0.7827717662, -0.8086757660],
    ]
)


def _to_oklab(name: str) -> NDArray[np.float64]:
    srgb = np.array(to_rgb(name)) / 255
    linear = np.where(srgb <= 0.04045, srgb / 12.92, ((srgb + 0.055) / 1.055) ** 2.4)
    lab: NDArray[np.float64] = _TO_LAB @ np.cbrt(_TO_LMS @ linear)
    return lab


def _polar(lab: NDArray[np.float64]) -> tuple[float, float, float]:
    light, a, b = lab.tolist()
    return light, math.hypot(a, b), math.atan2(b, a) % (2 * math.pi)


def _from_oklab(lab: NDArray[np.float64]) -> tuple[int, int, int]:
    linear = np.clip(np.linalg.solve(_TO_LMS, np.linalg.solve(_TO_LAB, lab) ** 3), 0, 1)
    srgb = np.where(linear <= 0.0031308, linear * 12.92, 1.055 * linear ** (1 / 2.4) - 0.055)
    red, green, blue = np.rint(srgb * 255).astype(int).tolist()
    return red, green, blue
