"""Finds image files in a folder or in the subfolders that a benchmark's archives unpack to."""

import os
import re
import unicodedata
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path, PurePath
from typing import Final

from xmflow_jax.errors import DataError

# Of images that are named without one, in the order in which they are looked for.
IMAGE_SUFFIXES: Final = (".jpg", ".jpeg", ".png", ".webp", ".gif", ".bmp", ".tif", ".tiff", ".avif", ".jp2")
# What else names an image file, although nobody would leave it out of the name.
_OTHER_SUFFIXES: Final = (".jpe", ".jfif", ".heic", ".heif", ".ppm", ".pgm", ".pbm", ".pnm", ".tga", ".ico", ".svg")
# Suffixes of one format.
_SAME_FORMAT: Final = ((".jpg", ".jpeg", ".jpe", ".jfif"), (".tif", ".tiff"))

# COCO's images lie in one of these, as its archives unpack. In 2017 the same images were dealt out anew.
COCO_SUBSETS: Final = ("train2014", "val2014", "test2015", "test2014", "train2017", "val2017", "test2017")
COCO_SUBFOLDERS: Final = (
    "images",
    *(f"{parent}{one}" for parent in ("", "images/", "coco/", "coco/images/") for one in COCO_SUBSETS),
)
# GQA's images are Visual Genome's.
GQA_SUBFOLDERS: Final = ("images", "VG_100K", "VG_100K_2", "images/VG_100K", "images/VG_100K_2")
KNOWN_SUBFOLDERS: Final = tuple(dict.fromkeys((*GQA_SUBFOLDERS, *COCO_SUBFOLDERS)))

_COCO_NAME: Final = re.compile(r"(?:COCO_[a-z]+20\d\d_)?(\d{12})")


def image_names(image_id: str) -> tuple[str, ...]:
    """The names that an image's file may have, in the order in which they are looked for.

    The id itself where it names an image file, also as `.jpeg` for `.jpg`; else the id and a suffix, and then the id
    alone. An id in COCO's pattern may be named as in any of COCO's years, whose numbers are those of one image.
    """
    stem, dot, suffix = image_id.rpartition(".")
    suffix = f".{suffix.lower()}"
    if dot and suffix in (*IMAGE_SUFFIXES, *_OTHER_SUFFIXES):
        same = next((formats for formats in _SAME_FORMAT if suffix in formats), ())
        names = [image_id, *(stem + other for other in same if other != suffix)]
    else:
        stem = image_id
        names = [*(f"{image_id}{suffix}" for suffix in IMAGE_SUFFIXES), image_id]
    parent, slash, last = stem.rpartition("/")
    if number := _COCO_NAME.fullmatch(last):
        names += [f"{parent}{slash}{name}" for name in coco_names(int(number[1]))]
    names += [name.replace("\\", "/") for name in names if "\\" in name]
    return tuple(dict.fromkeys(names))


def coco_names(number: int, subsets: Sequence[str] = COCO_SUBSETS) -> tuple[str, ...]:
    """The names of one of COCO's images: `COCO_val2014_000000262148.jpg`, and since 2017 `000000262148.jpg`."""
    return (
        *(f"COCO_{one}_{number:012d}.jpg" for one in subsets if one.endswith(("2014", "2015"))),
        f"{number:012d}.jpg",
    )


@dataclass(frozen=True)
class _Listing:
    """The files of a folder.

    Attributes:
        names: as they are.
        folded: by what is left where capitals and ways of writing an accent do not count, the names alike.
    """

    names: frozenset[str]
    folded: Mapping[str, Sequence[str]]


def image_finder(images: Path, subfolders: Sequence[str]) -> Callable[[tuple[str, ...]], Path]:
    """A function that tells where an image lies that may have any of the names given to it.

    Folders are listed once, since asking for tens of thousands of files one by one takes minutes on a network drive.
    The first name wins, and the folder itself wins over its subfolders. A name may begin with a folder, also with the
    image folder's own name. Where no name fits letter by letter, one is taken that differs in capitals or in how its
    accents are written (as archives from Windows and macOS often do), if there is just one. An image that lies nowhere
    is said to lie in the folder itself under its first name, so that the later complaint names what was looked for.

    Raises:
        DataError: there is no such folder, or it cannot be read.
    """
    if not images.is_dir():
        raise DataError(f"{images}: no such image folder")
    folders = [folder for folder in (images, *(images / name for name in subfolders)) if folder.is_dir()]
    try:
        listed = {folder: _listing(folder) for folder in folders}
    except OSError as error:
        raise DataError(f"{error.filename}: the image folder cannot be read: {error.strerror or error}") from error

    def listing(folder: Path) -> _Listing:
        if folder not in listed:
            try:
                listed[folder] = _listing(folder)
            except (OSError, ValueError):  # no such folder, or no name that a folder could have
                listed[folder] = _Listing(frozenset(), {})
        return listed[folder]

    def places(name: str) -> Iterator[tuple[Path, str]]:
        parts = PurePath(name).parts
        if not parts:
            return
        yield from ((folder.joinpath(*parts[:-1]), parts[-1]) for folder in folders)
        if len(parts) > 1 and parts[0] in (images.name, *subfolders):
            yield images.joinpath(*parts[1:-1]), parts[-1]

    @cache  # several questions are about one image
    def find(names: tuple[str, ...]) -> Path:
        for name in names:
            for folder, file in places(name):
                if file in listing(folder).names:
                    return folder / file
        for name in names:
            for folder, file in places(name):
                if len(alike := listing(folder).folded.get(_folded(file), ())) == 1:
                    return folder / alike[0]
        return images / names[0]

    return find


def _listing(folder: Path) -> _Listing:
    with os.scandir(folder) as entries:
        # Links are not followed: asking what each of thousands leads to takes as long as asking for each file.
        names = frozenset(entry.name for entry in entries if not entry.is_dir(follow_symlinks=False))
    folded: dict[str, list[str]] = {}
    for name in sorted(names):
        folded.setdefault(_folded(name), []).append(name)
    return _Listing(names, folded)


def _folded(name: str) -> str:
    return unicodedata.normalize("NFC", name).casefold()
