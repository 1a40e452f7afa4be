"""Settings for every test: no network, full precision, several CPU devices, and shapes checked at run time.

Left as they are: JAX's strict dtype promotion, under which `jnp.promote_types` itself raises, and its strict rank
promotion, which a bias added to a batch would trip over.
"""

import io
import os
import signal
import threading
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path

# Before anything imports the libraries that read them.
os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["TRANSFORMERS_NO_ADVISORY_WARNINGS"] = "1"

# Of a process that was begun in the background a shell may have Ctrl-C ignored, and its children would inherit that;
# tests send it to theirs.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN and threading.current_thread() is threading.main_thread():
    signal.signal(signal.SIGINT, signal.default_int_handler)

import jax
import pytest
from jaxtyping import install_import_hook

from tests.type_checker import checked

jax.config.update("jax_platforms", "cpu")
jax.config.update("jax_num_cpu_devices", 8)
jax.config.update("jax_default_matmul_precision", "highest")

# Checks the shapes and types that signatures state, under test alone; not where scenes are drawn by the ten thousand,
# which takes several times as long with every call checked.
PACKAGE = Path(__file__).parents[1] / "xmflow_jax"
UNCHECKED = PACKAGE / "data" / "sources" / "shapes"
install_import_hook(
    [
        ".".join(path.relative_to(PACKAGE.parent).with_suffix("").parts)
        for path in PACKAGE.rglob("*.py")
        if path.stem != "__init__" and UNCHECKED not in path.parents
    ],
    f"{checked.__module__}.{checked.__name__}",
)

# Where files of figures are the subject.
REPORT = Path(__file__).parent / "report"
DRAWN = (*(REPORT / "figures").glob("test_*.py"), REPORT / "test_comparison.py")

# Where simulated runs are the subject.
POWER = tuple((Path(__file__).parent / "analysis").glob("test_power*.py"))

# Every compiled program takes some of a process's memory mappings, of which Linux allows 65,530; XLA aborts the process
# that has no more, and a worker that runs a thousand tests gets there.
MOST_MAPPINGS = 25_000
MAPPINGS = Path("/proc/self/maps")


@pytest.fixture(name="quickly_compiled", scope="module")
def fixture_quickly_compiled() -> Iterator[None]:
    """For modules that compile whole studies and compare no rounding: a quarter less time."""
    before = jax.config.read("jax_disable_most_optimizations")
    jax.config.update("jax_disable_most_optimizations", True)
    yield
    jax.config.update("jax_disable_most_optimizations", before)


@lru_cache
def blank_figure(kind: str) -> bytes:
    """What a file of this kind holds that shows nothing."""
    from matplotlib.figure import Figure

    data = io.BytesIO()
    Figure(figsize=(0.1, 0.1)).savefig(data, format=kind)
    return data.getvalue()


@pytest.fixture(autouse=True, scope="module")
def _quick_figures(request: pytest.FixtureRequest) -> Iterator[None]:
    """Figures are made, but their files are blank where files are not the subject: a fifth of the commands' tests.

    There they are drawn, with whole fonts, which takes less time than the letters in use.
    """
    from xmflow_jax.report.figures import files

    with pytest.MonkeyPatch.context() as patch:
        if request.path not in DRAWN:
            patch.setattr(files, "_file_content", lambda _, kind: blank_figure(kind))
        elif request.path.name != "test_curves.py":
            patch.setitem(files._STYLE, "pdf.fonttype", 3)
        yield


@pytest.fixture(autouse=True, scope="module")
def _few_like_runs(request: pytest.FixtureRequest) -> Iterator[None]:
    """What a run could have seen is told from few runs like it where that is not the subject: a tenth of the time that
    every report takes."""
    from xmflow_jax.analysis import simulated_runs

    with pytest.MonkeyPatch.context() as patch:
        if request.path not in POWER:
            patch.setattr(simulated_runs, "_RUNS", (50, 100))
        yield


@pytest.fixture(autouse=True, scope="module")
def _few_programs_at_once() -> Iterator[None]:
    """Compiled programs are dropped where they have become many."""
    yield
    if MAPPINGS.exists() and MAPPINGS.read_bytes().count(b"\n") > MOST_MAPPINGS:
        jax.clear_caches()
