"""Finds image files in a folder or in the subfolders that a benchmark's archives unpack to."""

from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path
from typing import Final

from xmflow_jax.errors import DataError

# Of images that are named without one, in the order in which they are looked for.
IMAGE_SUFFIXES: Final = (".jpg", ".jpeg", ".png")


def image_names(image_id: str) -> tuple[str, ...]:
    """The names that an image's file may have: the id itself if it names an image file, else the id and a suffix."""
    if image_id.lower().endswith(IMAGE_SUFFIXES):
        return (image_id,)
    return tuple(f"{image_id}{suffix}" for suffix in IMAGE_SUFFIXES)


def image_finder(images: Path, subfolders: Sequence[str]) -> Callable[[tuple[str, ...]], Path]:
    """A function that tells where an image lies that may have any of the names given to it.

    Folders are listed once, since asking for tens of thousands of files one by one takes minutes on a network drive.
    The first name wins, and the folder itself wins over its subfolders. An image that lies nowhere is said to lie in
    the folder itself under its first name, so that the later complaint names what was looked for.

    Raises:
        DataError: there is no such folder, or it cannot be read.
    """
    if not images.is_dir():
        raise DataError(f"{images}: no such image folder")
    folders = [folder for folder in (images, *(images / name for name in subfolders)) if folder.is_dir()]
    try:
        listed = [(folder, frozenset(file.name for file in folder.iterdir())) for folder in folders]
    except OSError as error:
        raise DataError(f"{error.filename}: the image folder cannot be read: {error.strerror or error}") from error

    @cache  # several questions are about one image
    def find(names: tuple[str, ...]) -> Path:
        for name in names:
            for folder, files in listed:
                if name in files:
                    return folder / name
        return images / names[0]

    return find
