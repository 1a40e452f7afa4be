"""The files of a benchmark as people have them on disk: in one folder, or each in the folder its archive unpacks to."""

import zipfile
from collections.abc import Iterable, Sequence
from pathlib import Path

from xmflow_jax.data.sources.hidden_files import is_hidden
from xmflow_jax.data.sources.image_folders import image_names
from xmflow_jax.data.sources.json_documents import counted
from xmflow_jax.errors import DataError


def find_file(folder: Path, name: str) -> Path | None:
    """A file of this name in the folder or in one of its subfolders."""
    found = (folder / name, *sorted(folder.glob(f"*/{name}")))
    return next((path for path in found if path.is_file() and not is_hidden(path)), None)


def need_file(folder: Path, name: str, why: str) -> Path:
    """As `find_file`.

    Args:
        why: for the message, what the file is for.

    Raises:
        DataError: there is no such file.
    """
    path = find_file(folder, name)
    if path is None:
        raise DataError(f"{folder}: no {name} there or in a subfolder; it holds {why}")
    return path


class ImageFiles:
    """The bytes of images in folders, and of those in the archives that lie unopened in a folder or its subfolders.

    Raises (when made):
        DataError: an image lies nowhere, two different images share their name, or an archive cannot be read.
    """

    def __init__(self, folder: Path, paths: Sequence[Path]) -> None:
        """Args: `paths`, where the images lie if they lie in a folder."""
        by_name: dict[str, Path] = {}
        for path in paths:
            if by_name.setdefault(path.name, path) != path:
                raise DataError(f"{path}: another image of this name is {by_name[path.name]}; names must be unique")
        missing = [path for path in by_name.values() if not path.is_file()]
        self._members = _archived(folder, [path.name for path in missing]) if missing else {}
        self._open: dict[Path, zipfile.ZipFile] = {}
        missing = [path for path in missing if path.name not in self._members]
        if missing:
            raise DataError(
                f"{folder}: {counted(len(missing), len(by_name), 'images')} are missing, the first being "
                f"{missing[0].name}; expected them there, unpacked or as *.zip"
            )

    def bytes_of(self, paths: Iterable[Path]) -> int:
        """The sizes of these images together, each counted as often as it is named."""
        sizes: dict[Path, int] = {}
        total = 0
        for path in paths:
            if path not in sizes:
                sizes[path] = self._members[path.name][2] if path.name in self._members else path.stat().st_size
            total += sizes[path]
        return total

    def read(self, path: Path) -> bytes:
        """The image file's bytes.

        Raises:
            DataError: it cannot be read.
        """
        archive, member, _ = self._members.get(path.name, (path, "", 0))
        try:
            if not member:
                return path.read_bytes()
            if archive not in self._open:
                self._open[archive] = zipfile.ZipFile(archive)
            return self._open[archive].read(member)
        except (OSError, zipfile.BadZipFile, RuntimeError) as error:
            raise DataError(f"{archive}: {member or 'the image'} cannot be read: {error}") from error

    def __enter__(self) -> "ImageFiles":
        return self

    def __exit__(self, *error: object) -> None:
        """Closes the archives; they are opened again if need be."""
        while self._open:
            self._open.popitem()[1].close()


def _archived(folder: Path, names: Sequence[str]) -> dict[str, tuple[Path, str, int]]:
    """(archive, member, bytes) of those images that archives hold, under their names or ones that mean the same."""
    found: dict[str, tuple[Path, str, int]] = {}
    meant: dict[str, str] = {}
    for name in names:
        meant |= {other: name for other in image_names(name) if other not in meant}
    meant |= {name: name for name in names}
    for path in sorted([*folder.glob("*.zip"), *folder.glob("*/*.zip")]):
        if is_hidden(path):
            continue
        try:
            with zipfile.ZipFile(path) as archive:
                members = archive.infolist()
        except (OSError, zipfile.BadZipFile) as error:
            raise DataError(f"{path}: not a whole zip archive: {error}; was its download cut off?") from error
        for member in members:
            name = member.filename.rpartition("/")[2]
            if name in meant:
                found.setdefault(meant[name], (path, member.filename, member.file_size))
    return found
