"""Reads an image file as a person sees it: upright, in sRGB, on white, with black at 0 and white at 255.

- Upright: turned as the EXIF orientation says (CIPA DC-008, tag 274), or XMP's where there is none.
- One picture: the first frame of an animation, the first page of a file of several.
- sRGB: an embedded ICC profile is converted from, unless it is sRGB itself or does not fit the image, which viewers
  ignore too. Without a profile values are taken as sRGB's; PNG's gAMA and cHRM are passed over.
- On white: transparent pixels show what pages and viewers put behind them. What is drawn with transparency (diagrams,
  cut-out products) is mostly drawn for white paper; the colours hidden under transparent pixels are arbitrary.
- Deeper than 8 bits: scaled, never clipped (`_white_and_black`).

An 8-bit RGB image that is upright and has neither profile nor transparency is as its decoder gives it, bit for bit.
"""

import io
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
from jaxtyping import UInt8
from PIL import ExifTags, Image, ImageCms

from xmflow_jax.data.question import Box
from xmflow_jax.errors import QuestionSetAside

Size = tuple[int, int]

_BACKGROUND: Final = (255, 255, 255)

# What turns a stored image upright, by its orientation; of any other value nothing does.
_TURNS: Final = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
_UPRIGHT: Final = 1
# Orientations of which rows become columns.
_SIDEWAYS: Final = (5, 6, 7, 8)

# What modes are converted to first, so that an alpha has a channel of its own; a palette may have alphas, too.
_FIRST_TO: Final = {"P": "RGBA", "PA": "RGBA", "La": "LA", "RGBa": "RGBA"}
# Pillow's name of a PNG's bits -> what its tRNS chunk's value is multiplied with to be one of the image's. It is
# counted in the file's bits, where Pillow's pixels have 8, of 16 the upper ones.
_KEY_FACTORS: Final = {"L;2": 255 / 3, "L;4": 255 / 15, "RGB;16B": 1 / 256}

# Pixels of a deep image that are scaled at a time, so that a photo of 100 megapixels takes no gigabytes.
_PIXELS_AT_A_TIME: Final = 2**22

_TIFF: Final = "TIFF"
_TIFF_BITS: Final = 258
_TIFF_PHOTOMETRIC: Final = 262
_WHITE_IS_ZERO: Final = 0
# Formats of which Pillow keeps unsigned 16 bits in mode I.
_SIXTEEN_BITS_IN_I: Final = ("PNG", "PPM")

# How a file begins that is often found under an image's name, and what it is.
_NO_IMAGES: Final = (
    (b"version https://git-lfs", "it is a git-lfs pointer; fetch the image with `git lfs pull`"),
    (b"<svg", "it is an SVG drawing; save it as PNG"),
    (b"<", "it is a page of text, such as a server's error message; fetch it again"),
    (b"{", "it is JSON, such as a server's error message; fetch it again"),
    (b"%PDF", "it is a PDF document; save it as PNG"),
)
_ISO_BASE_MEDIA: Final = b"ftyp"


@dataclass(frozen=True, eq=False)
class SeenImage:
    """An image as a person sees it.

    Attributes:
        picture: upright, of mode RGB.
        orientation: how the stored image was turned, EXIF's 1 to 8.
    """

    picture: Image.Image
    orientation: int = _UPRIGHT

    @property
    def size(self) -> Size:
        """(width, height) of the upright image, in pixels."""
        return self.picture.size

    @property
    def stored_size(self) -> Size:
        """(width, height) of the image as it is stored."""
        width, height = self.size
        return (height, width) if self.orientation in _SIDEWAYS else (width, height)

    def upright(self, box: Box) -> Box:
        """A box in pixels of the stored image, in those of the upright one."""
        width, height = self.stored_size
        x, y, right, bottom = box.x, box.y, width - box.x - box.width, height - box.y - box.height
        corner = {2: (right, y), 3: (right, bottom), 4: (x, bottom), 5: (y, x), 6: (bottom, x), 7: (bottom, right)}
        left, top = (corner | {8: (y, right)}).get(self.orientation, (x, y))
        sides = (box.height, box.width) if self.orientation in _SIDEWAYS else (box.width, box.height)
        return Box(left, top, *sides)


def read_image(path: Path) -> SeenImage:
    """The image in a file.

    Pillow's limit holds: of more than 178,956,970 pixels (twice its `MAX_IMAGE_PIXELS`) nothing is unpacked. The
    warning that it gives from half of that on is dropped, since cameras make such photos.

    Raises:
        QuestionSetAside: the file is missing, truncated, no image, or too large; or which of its values is white
            cannot be told.
    """
    try:
        if not path.is_file():
            raise QuestionSetAside(f"image {path} does not exist")
        # Of large images and of faulty metadata. Pillow's alone, since filters are those of all threads.
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", module=r"PIL\.")
            # Given the path, Pillow would map files of plain pixels into memory, and turns those wrongly.
            with path.open("rb") as file, Image.open(file) as image:
                return _seen(image, path)
    except QuestionSetAside:
        raise
    except Image.DecompressionBombError as error:
        raise QuestionSetAside(f"image {path} is too large: {error}") from None
    # Pillow's readers raise whatever their parsing runs into: OSError, SyntaxError, ValueError, struct.error and more.
    except Exception as error:
        reason = _what_it_is(path) or " ".join(str(error).split()) or type(error).__name__
        raise QuestionSetAside(f"image {path} cannot be read: {reason}") from error


def _seen(image: Image.Image, path: Path) -> SeenImage:
    if image.format == "EPS":
        raise QuestionSetAside(f"image {path} is a PostScript program, which is not run; save it as PNG")
    tiles = getattr(image, "tile", ())
    key_factor = _KEY_FACTORS.get(str(tiles[0][3]), 1) if tiles else 1
    orientation = _orientation(image)
    image.load()
    # Pillow turns TIFF files itself while it loads them.
    turn = _TURNS.get(orientation) if _orientation(image) == orientation else None
    if "transparency" in image.info and key_factor != 1:
        key = image.info["transparency"]
        values = [int(value * key_factor) for value in (key if isinstance(key, tuple) else (key,))]
        image.info["transparency"] = tuple(values) if isinstance(key, tuple) else values[0]
    picture = as_seen(image, path)
    return SeenImage(picture if turn is None else picture.transpose(turn), orientation)


def _orientation(image: Image.Image) -> int:
    """EXIF's orientation; upright where it is faulty or its block cannot be parsed."""
    try:
        orientation = image.getexif().get(ExifTags.Base.Orientation, _UPRIGHT)
    except Exception:  # any, as of Pillow's readers
        return _UPRIGHT
    return orientation if isinstance(orientation, int) and orientation in _TURNS else _UPRIGHT


def as_seen(image: Image.Image, name: object) -> Image.Image:
    """An image of any of Pillow's modes, as it is stored, in RGB: sRGB on white.

    Args:
        name: for the message.

    Raises:
        QuestionSetAside: which value is white cannot be told.
    """
    if image.mode.startswith("I") or image.mode == "F":
        shallow = _eight_bits(image, name)
    elif "transparency" in image.info:
        shallow = image.convert("RGBA")
    else:
        shallow = image.convert(_FIRST_TO[image.mode]) if image.mode in _FIRST_TO else image
    alpha = shallow.getchannel("A") if shallow.mode in ("LA", "RGBA") else None
    colours = _in_srgb(shallow.convert(shallow.mode.removesuffix("A")) if alpha else shallow)
    if alpha is None or alpha.getextrema() == (255, 255):
        return colours
    page = Image.new("RGB", image.size, _BACKGROUND)
    page.paste(colours, mask=alpha)
    return page


def _in_srgb(image: Image.Image) -> Image.Image:
    """An image without alpha, from the colours of its profile."""
    profile = image.info.get("icc_profile")
    if not profile or image.mode == "LAB":  # LAB tells its colours itself
        return image.convert("RGB")
    try:
        own = ImageCms.ImageCmsProfile(io.BytesIO(profile))
        # Numbers of published models were made from values taken as they are; in sRGB these are the right ones.
        if "srgb" in ImageCms.getProfileDescription(own).lower():
            return image.convert("RGB")
        base = image if image.mode in ("L", "RGB", "CMYK") else image.convert("RGB")
        converted = ImageCms.profileToProfile(base, own, ImageCms.createProfile("sRGB"), outputMode="RGB")
    except (ImageCms.PyCMSError, OSError, ValueError, TypeError):  # faulty, or of another kind of image
        return image.convert("RGB")
    assert converted is not None, "not in place"
    return converted


def _eight_bits(image: Image.Image, name: object) -> Image.Image:
    """An image of one channel of 16 or 32 bits, in mode L, or LA where one of its values is transparent."""
    values = np.asarray(image)
    white, black = _white_and_black(image, values, name)
    pixels = np.empty(values.shape, np.uint8)
    rows = max(1, _PIXELS_AT_A_TIME // max(1, values.shape[1]))
    for first in range(0, len(values), rows):
        part = values[first : first + rows].astype(np.float64)
        pixels[first : first + rows] = np.clip(np.rint((part - black) * (255 / (white - black))), 0, 255)
    key = image.info.get("transparency")
    shallow = _picture(pixels, image)
    if isinstance(key, int):
        shallow.putalpha(_picture(np.where(values == key, 0, 255).astype(np.uint8), image))
    return shallow


def _picture(pixels: UInt8[np.ndarray, "height width"], of: Image.Image) -> Image.Image:
    picture = Image.fromarray(pixels)
    picture.info |= {key: value for key, value in of.info.items() if key == "icc_profile"}
    return picture


def _white_and_black(image: Image.Image, values: np.ndarray, name: object) -> tuple[float, float]:
    """The values of white and of black.

    Of 16 bits white is the largest value (of a TIFF file of 12 bits or of signed ones, the largest of those). A file of
    32 bits a pixel, or of floating point, does not say: white is then the smallest of 1 (floating point only), 255,
    65,535 and 2,147,483,647 that no pixel exceeds.

    Raises:
        QuestionSetAside: values below 0, above all of these, or not finite.
    """
    tags = getattr(image, "tag_v2", {}) if image.format == _TIFF else {}
    bits = tags.get(_TIFF_BITS, (0,))[0]
    least, most = float(values.min(initial=0)), float(values.max(initial=0))
    if image.mode.startswith("I;16"):
        whites = [2.0 ** (bits or 16) - 1]
    elif image.mode == "I" and (bits == 16 or image.format in _SIXTEEN_BITS_IN_I):
        whites = [2.0**15 - 1 if bits else 2.0**16 - 1]
    else:
        whites = [1.0, 255.0, 2.0**16 - 1, 2.0**31 - 1][image.mode == "I" :]
    white = next((one for one in whites if most <= one), None)
    if white is None or not least >= 0:  # where a value is NaN, so are least and most
        raise QuestionSetAside(
            f"image {name} has values from {least:g} to {most:g}, and which of them is white cannot be told; save it "
            "with 8 or 16 bits a channel"
        )
    return (0.0, white) if tags.get(_TIFF_PHOTOMETRIC) == _WHITE_IS_ZERO else (white, 0.0)


def _what_it_is(path: Path) -> str | None:
    """What a file that is no image is, where its beginning tells."""
    try:
        with path.open("rb") as file:
            start = file.read(512)
    except OSError:
        return None
    if not start:
        return "the file is empty; fetch it again"
    if start[4:8] == _ISO_BASE_MEDIA and start[8:12] in (b"heic", b"heix", b"hevc", b"mif1", b"msf1"):
        return "it is a HEIC photo; save it as JPEG"
    text = start.lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    if b"<svg" in text and text.startswith(b"<"):
        return dict(_NO_IMAGES)[b"<svg"]
    return next((what for begins, what in _NO_IMAGES if text.startswith(begins.lower())), None)
