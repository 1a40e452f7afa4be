"""What tests of the commands share that call them within this process."""

from collections.abc import Iterator

import pytest


@pytest.fixture(name="unprepared_process", scope="module")
def fixture_unprepared_process() -> Iterator[None]:
    """Commands leave this process's environment as it is: its cache of compiled programs would be the user's own."""
    with pytest.MonkeyPatch.context() as patch:
        for command in ("sweep", "evaluate"):
            patch.setattr(f"xmflow_jax.{command}.prepare_process", lambda: None)
        yield
