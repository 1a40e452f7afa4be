"""Small pictures in every mode that Pillow has, and what a person sees of them, by formulas written out here.

A picture has six fields of 16 x 16 pixels, two rows of three; what is told of it is told by field.
"""

import colorsys
import struct
import zlib
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any

import numpy as np
from jaxtyping import Float64, UInt8
from PIL import Image

SIDE = 16

# Red, green, blue of the fields, and a level and an alpha for each.
COLOURS = np.array([[(214, 40, 40), (38, 84, 214), (250, 250, 250)], [(0, 0, 0), (120, 200, 60), (255, 128, 0)]])
LEVELS = np.array([[200, 30, 255], [0, 129, 77]])
ALPHAS = np.array([[255, 0, 128], [64, 255, 200]])

Fields = np.ndarray[Any, Any]


def over_white(colours: Fields, alphas: Fields) -> Fields:
    share = alphas[..., None] / 255
    return colours * share + 255 * (1 - share)


def grey(levels: Fields) -> Fields:
    return np.repeat(np.asarray(levels, np.float64)[..., None], 3, axis=-1)


def srgb_of_xyz(xyz: Float64[np.ndarray, "... 3"]) -> Float64[np.ndarray, "... 3"]:
    """CIE XYZ under D50 (white has Y = 1) to sRGB, 0 to 255: Bradford's adaptation to D65, IEC 61966-2-1's curve."""
    adapted = np.array(
        [[0.9555766, -0.0230393, 0.0631636], [-0.0282895, 1.0099416, 0.0210077], [0.0122982, -0.0204830, 1.3299098]]
    )
    primaries = np.array(
        [[3.2404542, -1.5371385, -0.4985314], [-0.9692660, 1.8760108, 0.0415560], [0.0556434, -0.2040259, 1.0572252]]
    )
    linear = np.clip(xyz @ adapted.T @ primaries.T, 0, 1)
    return 255 * np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * linear ** (1 / 2.4) - 0.055)


def _xyz_of_lab(lab: Float64[np.ndarray, "... 3"]) -> Float64[np.ndarray, "... 3"]:
    f = (lab[..., 0] + 16) / 116
    roots = np.stack([f + lab[..., 1] / 500, f, f - lab[..., 2] / 200], axis=-1)
    return np.where(roots > 6 / 29, roots**3, 3 * (6 / 29) ** 2 * (roots - 4 / 29)) * (0.9642, 1.0, 0.8249)


def _ycbcr(values: Fields) -> Fields:
    luma, blue, red = np.moveaxis(np.asarray(values, np.float64), -1, 0)
    green = luma - 0.344136 * (blue - 128) - 0.714136 * (red - 128)
    return np.clip(np.stack([luma + 1.402 * (red - 128), green, luma + 1.772 * (blue - 128)], -1), 0, 255)


_SOFT = COLOURS // 2 + 64  # colours that YCbCr, LAB and HSV all hold
_LAB = np.array([[(50, 40, 20), (60, -30, 30), (90, 0, 0)], [(10, 0, 0), (70, 10, -20), (30, 20, -30)]])
_PREMULTIPLIED = np.rint(COLOURS * (ALPHAS[..., None] / 255)).astype(int)

# Mode -> the fields' values as its pixels hold them, the type of a value, and what a person sees.
MODES: dict[str, tuple[Fields, str, Fields]] = {
    "1": (255 * (LEVELS > 100), "u1", grey(255 * (LEVELS > 100))),
    "L": (LEVELS, "u1", grey(LEVELS)),
    "LA": (np.stack([LEVELS, ALPHAS], -1), "u1", over_white(grey(LEVELS), ALPHAS)),
    "La": (np.stack([LEVELS * ALPHAS // 255, ALPHAS], -1), "u1", over_white(grey(LEVELS), ALPHAS)),
    "P": (np.arange(6).reshape(2, 3), "u1", COLOURS),
    "PA": (np.stack([np.arange(6).reshape(2, 3), ALPHAS], -1), "u1", over_white(COLOURS, ALPHAS)),
    "RGB": (COLOURS, "u1", COLOURS),
    "RGBA": (np.dstack([COLOURS, ALPHAS]), "u1", over_white(COLOURS, ALPHAS)),
    "RGBa": (np.dstack([_PREMULTIPLIED, ALPHAS]), "u1", over_white(COLOURS, ALPHAS)),
    "RGBX": (np.dstack([COLOURS, ALPHAS]), "u1", COLOURS),
    "CMYK": (np.dstack([COLOURS, LEVELS]), "u1", (255 - COLOURS) * (255 - LEVELS[..., None]) / 255),
    "YCbCr": (_SOFT, "u1", _ycbcr(_SOFT)),
    "LAB": (
        np.dstack([np.rint(_LAB[..., 0] * 2.55).astype(int), _LAB[..., 1:] % 256]),
        "u1",
        srgb_of_xyz(_xyz_of_lab(_LAB.astype(float))),
    ),
    "HSV": (_SOFT, "u1", 255 * np.array([[colorsys.hsv_to_rgb(*one) for one in row] for row in _SOFT / 255])),
    "I": (257 * LEVELS, "i4", grey(LEVELS)),
    "I;16": (257 * LEVELS, "<u2", grey(LEVELS)),
    "I;16L": (257 * LEVELS, "<u2", grey(LEVELS)),
    "I;16B": (257 * LEVELS, ">u2", grey(LEVELS)),
    "I;16N": (257 * LEVELS, "=u2", grey(LEVELS)),
    "F": (LEVELS / 255, "f4", grey(LEVELS)),
}


def enlarged(fields: Fields) -> np.ndarray[Any, Any]:
    """Each field as 16 x 16 pixels."""
    return np.repeat(np.repeat(np.asarray(fields), SIDE, axis=0), SIDE, axis=1)


def picture(mode: str) -> Image.Image:
    """A picture of this mode, byte by byte."""
    values, kind, _ = MODES[mode]
    pixels = enlarged(values)
    if mode == "1":
        return Image.fromarray(pixels > 0)
    image = Image.new(mode, (3 * SIDE, 2 * SIDE))
    image.frombytes(pixels.astype(kind).tobytes(), "raw", mode)
    if mode in ("P", "PA"):
        image.putpalette(COLOURS.astype(np.uint8).tobytes())
    return image


def seen(mode: str) -> np.ndarray[Any, Any]:
    """What a person sees of it, height x width x 3."""
    return enlarged(MODES[mode][2])


def worst(image: Image.Image, expected: np.ndarray[Any, Any]) -> float:
    """The largest difference of a level from what is expected, which has not been rounded."""
    assert image.mode == "RGB"
    assert (image.height, image.width, 3) == expected.shape
    return float(np.abs(np.asarray(image).astype(np.float64) - expected).max())


# Where the stored image's first row and first column lie for a person (CIPA DC-008, tag Orientation).
ORIENTATIONS = {
    1: ("top", "left"),
    2: ("top", "right"),
    3: ("bottom", "right"),
    4: ("bottom", "left"),
    5: ("left", "top"),
    6: ("right", "top"),
    7: ("right", "bottom"),
    8: ("left", "bottom"),
}


def upright(stored: np.ndarray[Any, Any], orientation: int) -> np.ndarray[Any, Any]:
    """The stored pixels where a person sees them, one by one."""
    height, width = stored.shape[:2]
    first_row, first_column = ORIENTATIONS[orientation]
    sideways = first_row in ("left", "right")
    shown = np.zeros(((width, height) if sideways else (height, width)) + stored.shape[2:], stored.dtype)
    for row in range(height):
        for column in range(width):
            place = {first_row: row, first_column: column}
            y = place["top"] if "top" in place else len(shown) - 1 - place["bottom"]
            x = place["left"] if "left" in place else shown.shape[1] - 1 - place["right"]
            shown[y, x] = stored[row, column]
    return shown


def png(
    colour_type: int,
    depth: int,
    rows: Sequence[Sequence[Sequence[int]]],
    chunks: Mapping[str, bytes] = MappingProxyType({}),
    size: tuple[int, int] | None = None,
) -> bytes:
    """A PNG file (ISO/IEC 15948), written out here so that no reader's own writer vouches for it.

    Args:
        rows: samples of each pixel.
        chunks: by their names, written before the pixels in this order.
        size: (width, height) to claim; by default that of the rows.
    """
    lines = b""
    for row in rows:
        bits = "".join(f"{sample:0{depth}b}" for pixel in row for sample in pixel)
        bits += "0" * (-len(bits) % 8)
        lines += b"\0" + bytes(int(bits[place : place + 8], 2) for place in range(0, len(bits), 8))

    def chunk(name: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    header = struct.pack(">IIBBBBB", *(size or (len(rows[0]), len(rows))), depth, colour_type, 0, 0, 0)
    more = b"".join(chunk(name.encode(), data) for name, data in chunks.items())
    parts = chunk(b"IHDR", header) + more + chunk(b"IDAT", zlib.compress(lines)) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + parts


def tiff(pixels: bytes, size: tuple[int, int], **tags: int) -> bytes:
    """An uncompressed little-endian TIFF file (revision 6.0) of one strip and one channel.

    Args:
        tags: `bits`, `photometric`, `format` (1 unsigned, 2 signed, 3 floating point), `orientation`.
    """
    told = {256: size[0], 257: size[1], 258: tags["bits"], 259: 1, 262: tags["photometric"], 273: 8, 277: 1}
    told |= {278: size[1], 279: len(pixels), 339: tags["format"]}
    if "orientation" in tags:
        told[274] = tags["orientation"]
    entries = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in sorted(told.items()))
    directory = struct.pack("<H", len(told)) + entries + b"\0\0\0\0"
    return b"II*\0" + struct.pack("<I", 8 + len(pixels)) + pixels + directory


def icc_profile(space: bytes, curve_gamma: float, colorants: Fields | None = None, name: bytes = b"made up") -> bytes:
    """A display profile (ICC.1:2001-04): a gamma curve and, for `RGB `, the XYZ of its primaries under D50."""

    def fixed(*values: float) -> bytes:
        return b"".join(struct.pack(">i", round(value * 65536)) for value in values)

    curve = b"curv" + struct.pack(">IIH", 0, 1, round(curve_gamma * 256)) + b"\0\0"
    described = b"desc" + struct.pack(">II", 0, len(name) + 1) + name + b"\0" + bytes(78)
    parts = {b"desc": described + bytes(-len(described) % 4), b"wtpt": b"XYZ \0\0\0\0" + fixed(0.9642, 1, 0.8249)}
    if colorants is None:
        parts[b"kTRC"] = curve
    else:
        for letter, xyz in zip("rgb", colorants, strict=True):
            parts[f"{letter}XYZ".encode()] = b"XYZ \0\0\0\0" + fixed(*xyz)
            parts[f"{letter}TRC".encode()] = curve
    table, data, place = b"", b"", 128 + 4 + 12 * len(parts)
    for tag, content in parts.items():
        table += tag + struct.pack(">II", place + len(data), len(content))
        data += content
    body = struct.pack(">I", len(parts)) + table + data
    header = struct.pack(">I4sI4s4s4s", 128 + len(body), b"\0\0\0\0", 0x02400000, b"mntr", space, b"XYZ ")
    header += bytes(12) + b"acsp" + bytes(28) + fixed(0.9642, 1, 0.8249)
    return header + bytes(128 - len(header)) + body


def plain(colours: Fields) -> UInt8[np.ndarray, "height width 3"]:
    """Fields as pixels of an RGB image."""
    return enlarged(colours).astype(np.uint8)
