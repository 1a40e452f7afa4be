"""A folder for what is made on the spot and used by one process alone: drawn images, models with random weights."""

import errno
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

from xmflow_jax.errors import OptionError


@contextmanager
def scratch_folder() -> Iterator[Path]:
    """A folder that is there within this.

    Raises:
        OptionError: there is no place for temporary files.
    """
    try:
        folder = TemporaryDirectory(prefix="xmflow-", ignore_cleanup_errors=True)
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise
        raise OptionError(f"no folder for temporary files: {error.strerror}; TMPDIR may name one") from None
    with folder as path:
        yield Path(path)
