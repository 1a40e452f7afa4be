"""Images against what a person sees: pixels within 2 levels of formulas written out in `pictures`."""

import io
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from tests.data.pictures import (
    ALPHAS,
    COLOURS,
    LEVELS,
    MODES,
    ORIENTATIONS,
    enlarged,
    grey,
    icc_profile,
    over_white,
    picture,
    plain,
    png,
    seen,
    srgb_of_xyz,
    tiff,
    upright,
    worst,
)
from xmflow_jax.data.image_files import as_seen, read_image
from xmflow_jax.data.question import Box
from xmflow_jax.errors import QuestionSetAside

LEVELS_OFF = 2
Image.init()

# Settings that make a lossy writer keep what it is given.
SETTINGS: dict[str, dict[str, Any]] = {
    "AVIF": {"quality": 100, "subsampling": "4:4:4"},
    "JPEG": {"quality": 100, "subsampling": 0},
    "MPO": {"quality": 100, "subsampling": 0},
    "WEBP": {"lossless": True},
}
# What Pillow writes, but nobody sees as an image of this size: documents, programs, icons of fixed sizes.
OTHERS = {"BUFR", "EPS", "GRIB", "HDF5", "ICNS", "ICO", "PALM", "PDF", "WMF"}
# (format, mode): the writer itself loses something: alphas, colours, or what lies above 255.
LOSSES = {
    *(("SPIDER", mode) for mode in MODES if mode not in ("1", "L", "I", "I;16", "I;16B", "I;16L", "I;16N", "F")),
    *((name, mode) for name in ("AVIF", "GIF", "WEBP") for mode in MODES if mode.startswith("I") or mode == "F"),
    *(("GIF", mode) for mode in ("LA", "La", "PA", "RGBA", "RGBa")),
    *((name, "RGBA") for name in ("BMP", "DIB", "PPM")),
    # Its own conversion is two levels off, those of other modes to colours come on top.
    *(("AVIF", mode) for mode in ("YCbCr", "LAB", "HSV")),
}
# Some of those that must have been written: all modes of PNG, TIFF and JPEG.
MUST = {
    *(("PNG", mode) for mode in ("1", "L", "LA", "P", "RGB", "RGBA", "I;16")),
    *(("TIFF", mode) for mode in ("1", "L", "LA", "P", "PA", "RGB", "RGBA", "CMYK", "YCbCr", "LAB", "I", "I;16", "F")),
    *(("JPEG", mode) for mode in ("1", "L", "RGB", "CMYK", "YCbCr")),
    *(("WEBP", mode) for mode in ("RGB", "RGBA")),
    *(("GIF", mode) for mode in ("L", "P")),
}


def turned(orientation: int) -> Image.Exif:
    """EXIF that tells an orientation; writers take it out of what they are given, so each is given its own."""
    exif = Image.Exif()
    exif[0x0112] = orientation
    return exif


@pytest.mark.parametrize("mode", MODES)
def test_every_mode(mode: str) -> None:
    image = picture(mode)
    assert image.mode == mode
    assert worst(as_seen(image, "memory"), seen(mode)) <= LEVELS_OFF


def test_every_format_and_mode_that_can_be_written(tmp_path: Path) -> None:
    compared = set()
    for name in sorted(set(Image.SAVE) - OTHERS):
        for mode in MODES:
            if (name, mode) in LOSSES:
                continue
            file = tmp_path / f"{name}-{mode}"
            try:
                with warnings.catch_warnings():
                    warnings.simplefilter("ignore", DeprecationWarning)  # of formats that Pillow means to drop
                    picture(mode).save(file, format=name, **SETTINGS.get(name, {}))
            except (OSError, ValueError, KeyError):  # the format has no such mode
                continue
            off = worst(read_image(file).picture, seen(mode))
            assert off <= LEVELS_OFF, (name, mode, off)
            compared.add((name, mode))
    assert compared >= MUST
    assert len(compared) >= 100


@pytest.mark.parametrize("orientation", ORIENTATIONS)
def test_every_orientation(tmp_path: Path, orientation: int) -> None:
    formats: dict[str, list[str]] = {
        "AVIF": ["RGB", "RGBA"],
        "JPEG": ["L", "RGB", "CMYK"],
        "MPO": ["RGB"],
        "PNG": ["1", "L", "LA", "P", "RGB", "RGBA", "I;16"],
        "TIFF": ["1", "L", "LA", "P", "PA", "RGB", "RGBA", "CMYK", "YCbCr", "LAB", "I", "I;16", "I;16B", "F"],
        "WEBP": ["RGB", "RGBA"],
    }
    for name, modes in formats.items():
        for mode in modes:
            for more in ({}, {"compression": "tiff_lzw"}) if name == "TIFF" and mode not in ("YCbCr", "LAB") else ({},):
                file = tmp_path / f"{name}-{mode}-{len(more)}"
                picture(mode).save(file, format=name, exif=turned(orientation), **SETTINGS.get(name, {}), **more)
                found = read_image(file)
                assert worst(found.picture, upright(seen(mode), orientation)) <= LEVELS_OFF, (name, mode, more)
                assert found.orientation == orientation
                assert found.stored_size == (48, 32)


def test_orientation_that_xmp_alone_tells(tmp_path: Path) -> None:
    xmp = b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:Description tiff:Orientation="8"/></x:xmpmeta>'
    Image.fromarray(plain(COLOURS)).save(tmp_path / "1.webp", lossless=True, xmp=xmp)
    assert worst(read_image(tmp_path / "1.webp").picture, upright(seen("RGB"), 8)) == 0


@pytest.mark.parametrize("exif", [b"Exif\0\0", b"Exif\0\0MM\0*\xff\xff\xff\xff", b"nonsense", None])
def test_a_faulty_orientation_is_none(tmp_path: Path, exif: bytes | None) -> None:
    told = turned(9) if exif is None else exif
    Image.fromarray(plain(COLOURS)).save(tmp_path / "1.jpg", exif=told, **SETTINGS["JPEG"])
    found = read_image(tmp_path / "1.jpg")
    assert found.orientation == 1
    assert worst(found.picture, seen("RGB")) <= LEVELS_OFF


def test_an_ordinary_image_is_as_its_decoder_gives_it(tmp_path: Path) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (40, 60, 3), np.uint8)
    profile = icc_profile(b"RGB ", 2.2, np.eye(3) / 3, b"sRGB IEC61966-2.1")
    for name, embedded in {"1.jpg": None, "2.jpg": profile, "1.png": None}.items():
        Image.fromarray(noise).save(tmp_path / name, icc_profile=embedded)
        with Image.open(tmp_path / name) as image:
            np.testing.assert_array_equal(np.asarray(read_image(tmp_path / name).picture), np.asarray(image))


# Colour type -> depths.
PNG_DEPTHS = {0: (1, 2, 4, 8, 16), 2: (8, 16), 3: (1, 2, 4, 8), 4: (8, 16), 6: (8, 16)}
PNG_KINDS = [(colour_type, depth) for colour_type, depths in PNG_DEPTHS.items() for depth in depths]


@pytest.mark.parametrize(("colour_type", "depth"), PNG_KINDS)
@pytest.mark.parametrize("keyed", [False, True], ids=["", "with tRNS"])
def test_every_kind_of_png(tmp_path: Path, colour_type: int, depth: int, keyed: bool) -> None:
    """Grey, colours, palette, with alpha: at every depth, and with one colour declared transparent."""
    most = 2**depth - 1
    rng = np.random.default_rng(depth)
    channels = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}[colour_type]
    samples = rng.integers(0, most + 1, (8, 9, channels))
    key = samples[3, 4]
    chunks: dict[str, bytes] = {}
    levels = samples * (255 / most)
    alphas = np.full((8, 9), 255.0)
    if colour_type == 3:
        palette = rng.integers(0, 256, (min(most, 255) + 1, 3))
        chunks["PLTE"] = palette.astype(np.uint8).tobytes()
        colours = palette[samples[..., 0]].astype(float)
        if keyed:
            steps = rng.integers(0, 256, len(palette))
            chunks["tRNS"] = steps.astype(np.uint8).tobytes()
            alphas = steps[samples[..., 0]].astype(float)
    else:
        colours = grey(levels[..., 0]) if colour_type in (0, 4) else levels[..., :3]
        if colour_type in (4, 6):
            alphas = levels[..., -1]
        elif keyed:
            chunks["tRNS"] = b"".join(int(value).to_bytes(2, "big") for value in key)
            alphas = np.where((samples == key).all(-1), 0.0, 255.0)
    (tmp_path / "1.png").write_bytes(png(colour_type, depth, samples.tolist(), chunks))
    assert worst(read_image(tmp_path / "1.png").picture, over_white(colours, alphas)) <= LEVELS_OFF


DEEP: dict[str, tuple[np.ndarray[Any, Any], dict[str, int], float]] = {
    "16 bits": (LEVELS * 257, {"bits": 16, "photometric": 1, "format": 1}, 65535),
    "16 bits, white is 0": (65535 - LEVELS * 257, {"bits": 16, "photometric": 0, "format": 1}, -65535),
    "16 signed bits": (LEVELS * 128, {"bits": 16, "photometric": 1, "format": 2}, 32767),
    "32 bits, as 8": (LEVELS, {"bits": 32, "photometric": 1, "format": 1}, 255),
    "32 bits, as 16": (LEVELS * 257, {"bits": 32, "photometric": 1, "format": 2}, 65535),
    "32 bits": (LEVELS * 8421504, {"bits": 32, "photometric": 1, "format": 2}, 2**31 - 1),
    "floating point": (LEVELS / 255, {"bits": 32, "photometric": 1, "format": 3}, 1),
    "floating point, white is 0": (1 - LEVELS / 255, {"bits": 32, "photometric": 0, "format": 3}, -1),
    "floating point, as 8": (LEVELS * 1.0, {"bits": 32, "photometric": 1, "format": 3}, 255),
}


@pytest.mark.parametrize("kind", DEEP)
def test_deep_images_are_scaled_and_not_clipped(tmp_path: Path, kind: str) -> None:
    values, tags, white = DEEP[kind]
    stored = enlarged(values).astype(f"<{' uif'[tags['format']]}{tags['bits'] // 8}")
    for orientation in ORIENTATIONS:
        (tmp_path / "1.tif").write_bytes(tiff(stored.tobytes(), (48, 32), **tags, orientation=orientation))
        shown = 255 * enlarged(values / white if white > 0 else 1 + values / white)
        assert worst(read_image(tmp_path / "1.tif").picture, upright(grey(shown), orientation)) <= LEVELS_OFF


def test_twelve_bits(tmp_path: Path) -> None:
    values = np.array([[0, 4095, 2048, 100]] * 2)
    bits = "".join(f"{value:012b}" for value in values.flatten())
    packed = bytes(int(bits[place : place + 8], 2) for place in range(0, len(bits), 8))
    (tmp_path / "1.tif").write_bytes(tiff(packed, (4, 2), bits=12, photometric=1, format=1))
    assert worst(read_image(tmp_path / "1.tif").picture, grey(values * (255 / 4095))) <= LEVELS_OFF


@pytest.mark.parametrize("values", [[-1.0, 0.5], [0.0, 3e9], [float("nan"), 1.0], [float("inf"), 0.0]])
def test_where_white_cannot_be_told_the_image_is_set_aside(tmp_path: Path, values: list[float]) -> None:
    Image.fromarray(np.array([values], np.float32)).save(tmp_path / "1.tif")
    with pytest.raises(QuestionSetAside, match=r"1\.tif has values from .* which of them is white cannot be told"):
        read_image(tmp_path / "1.tif")


# sRGB's primaries under D50, and Adobe RGB's.
SRGB_PRIMARIES = np.array([[0.4361, 0.2225, 0.0139], [0.3851, 0.7169, 0.0971], [0.1431, 0.0606, 0.7139]])
ADOBE_PRIMARIES = np.array([[0.6097, 0.3111, 0.0195], [0.2053, 0.6257, 0.0609], [0.1492, 0.0632, 0.7446]])


@pytest.mark.parametrize("gamma", [1.0, 1.8, 2.2])
@pytest.mark.parametrize("primaries", [SRGB_PRIMARIES[::-1], ADOBE_PRIMARIES], ids=["blue is red", "Adobe RGB"])
@pytest.mark.parametrize("mode", ["P", "RGB", "RGBA"])
def test_colours_are_converted_from_their_profile(
    tmp_path: Path, mode: str, primaries: np.ndarray[Any, Any], gamma: float
) -> None:
    picture(mode).save(tmp_path / "1.png", icc_profile=icc_profile(b"RGB ", gamma, primaries))
    shown = srgb_of_xyz((COLOURS / 255) ** gamma @ primaries)
    expected = over_white(shown, ALPHAS) if mode == "RGBA" else shown
    assert worst(read_image(tmp_path / "1.png").picture, enlarged(expected)) <= LEVELS_OFF
    assert np.abs(expected - MODES[mode][2]).max() > 5 * LEVELS_OFF  # it matters


@pytest.mark.parametrize("mode", ["L", "LA", "I;16"])
def test_greys_are_converted_from_their_profile(tmp_path: Path, mode: str) -> None:
    picture(mode).save(tmp_path / "1.png", icc_profile=icc_profile(b"GRAY", 1.0))
    shown = srgb_of_xyz((LEVELS / 255)[..., None] * np.array([0.9642, 1, 0.8249]))
    expected = over_white(shown, ALPHAS) if mode == "LA" else shown
    assert worst(read_image(tmp_path / "1.png").picture, enlarged(expected)) <= LEVELS_OFF


@pytest.mark.parametrize(
    ("mode", "profile"),
    [
        ("RGB", icc_profile(b"GRAY", 1.0)),
        ("L", icc_profile(b"RGB ", 1.0, ADOBE_PRIMARIES)),
        ("RGB", b"no profile"),
        ("RGB", icc_profile(b"RGB ", 1.0, ADOBE_PRIMARIES)[:200]),
    ],
    ids=["of greys", "of colours", "nonsense", "cut off"],
)
def test_a_profile_that_does_not_fit_is_ignored(tmp_path: Path, mode: str, profile: bytes) -> None:
    picture(mode).save(tmp_path / "1.png", icc_profile=profile)
    assert worst(read_image(tmp_path / "1.png").picture, seen(mode)) <= LEVELS_OFF


@pytest.mark.parametrize("name", ["GIF", "WEBP", "PNG", "TIFF", "MPO", "AVIF"])
def test_of_several_frames_the_first_is_seen(tmp_path: Path, name: str) -> None:
    frames = [Image.fromarray(plain(colours)) for colours in (COLOURS, COLOURS[::-1], 255 - COLOURS)]
    file = tmp_path / "1"
    frames[0].save(file, format=name, save_all=True, append_images=frames[1:], **SETTINGS.get(name, {}))
    with Image.open(file) as image:
        assert getattr(image, "n_frames", 1) == 3
    assert worst(read_image(file).picture, seen("RGB")) <= LEVELS_OFF


def test_a_frame_with_transparent_pixels(tmp_path: Path) -> None:
    other = picture("P").transpose(Image.Transpose.ROTATE_180)
    picture("P").save(tmp_path / "1.gif", transparency=1, save_all=True, append_images=[other])
    expected = COLOURS.copy()
    expected[0, 1] = 255
    assert worst(read_image(tmp_path / "1.gif").picture, enlarged(expected)) == 0


def test_large_photos_are_read_without_a_word_and_bombs_are_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With Pillow's limit lowered; warnings are errors here."""
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1000)
    for name in ("PNG", "TIFF", "GIF", "JPEG", "WEBP"):
        Image.new("L", (40, 40), 128).save(tmp_path / name, format=name)
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            assert read_image(tmp_path / name).size == (40, 40)
        Image.new("L", (50, 41)).save(tmp_path / name, format=name)
        with pytest.raises(QuestionSetAside, match=r"is too large: .*2050 pixels"):
            read_image(tmp_path / name)


def test_a_bomb_is_not_unpacked(tmp_path: Path) -> None:
    file = tmp_path / "1.png"
    file.write_bytes(png(0, 8, [[[0]]], size=(20_000, 20_000)))
    with pytest.raises(QuestionSetAside, match=r"is too large: .*400000000 pixels"):
        read_image(file)


@pytest.mark.slow
def test_a_photo_of_100_megapixels(tmp_path: Path) -> None:
    for mode in ("RGB", "I;16"):
        Image.new(mode, (11648, 8736), 40_000 if mode == "I;16" else (10, 20, 30)).save(tmp_path / "1.png")
        found = read_image(tmp_path / "1.png")
        assert found.size == (11648, 8736)
        assert found.picture.getpixel((5000, 8000)) == ((156, 156, 156) if mode == "I;16" else (10, 20, 30))


NO_IMAGES = {
    b"": "the file is empty",
    b"version https://git-lfs.github.com/spec/v1\noid sha256:" + b"a" * 64: "it is a git-lfs pointer",
    b"<!DOCTYPE html><html>404</html>": "a server's error message",
    b'\n{"error": "not found"}': "it is JSON",
    b'<?xml version="1.0"?>\n<svg xmlns="http://www.w3.org/2000/svg"/>': "it is an SVG drawing",
    b"%PDF-1.7\n": "it is a PDF document",
    b"\0\0\0\x18ftypheic\0\0\0\0mif1heic": "it is a HEIC photo; save it as JPEG",
    b"neither": "cannot identify image file",
}


@pytest.mark.parametrize("content", NO_IMAGES, ids=NO_IMAGES.values())
def test_what_is_no_image_is_named(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "1.jpg").write_bytes(content)
    with pytest.raises(QuestionSetAside) as reason:
        read_image(tmp_path / "1.jpg")
    assert str(reason.value).startswith(f"image {tmp_path / '1.jpg'} cannot be read: ")
    assert NO_IMAGES[content] in str(reason.value)


def test_a_program_is_not_run(tmp_path: Path) -> None:
    picture("RGB").save(tmp_path / "1.eps")
    with pytest.raises(QuestionSetAside, match="is a PostScript program, which is not run"):
        read_image(tmp_path / "1.eps")


def test_a_cut_off_image_is_set_aside(tmp_path: Path) -> None:
    for name in ("PNG", "JPEG", "WEBP", "GIF", "TIFF", "BMP"):
        data = io.BytesIO()
        Image.fromarray(np.random.default_rng(0).integers(0, 256, (40, 60, 3), np.uint8)).save(data, name)
        (tmp_path / name).write_bytes(data.getvalue()[: len(data.getvalue()) // 2])
        with pytest.raises(QuestionSetAside, match="cannot be read"):
            read_image(tmp_path / name)


@pytest.mark.parametrize("orientation", ORIENTATIONS)
def test_a_box_of_the_stored_image_is_turned_with_it(tmp_path: Path, orientation: int) -> None:
    box = Box(5, 9, 12, 7)
    stored = np.zeros((32, 48, 3), np.uint8)
    stored[box.y : box.y + box.height, box.x : box.x + box.width] = 255
    Image.fromarray(stored).save(tmp_path / "1.png", exif=turned(orientation))
    found = read_image(tmp_path / "1.png")
    rows, columns = np.nonzero(np.asarray(found.picture)[..., 0])
    left, top = int(columns.min()), int(rows.min())
    assert found.upright(box) == Box(left, top, int(columns.max()) - left + 1, int(rows.max()) - top + 1)
