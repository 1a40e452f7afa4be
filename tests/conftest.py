"""Settings for every test: no network, full precision, several CPU devices, and shapes checked at run time.

Left as they are: JAX's strict dtype promotion, under which `jnp.promote_types` itself raises, and its strict rank
promotion, which a bias added to a batch would trip over.
"""

import os
from collections.abc import Iterator
from pathlib import Path

# Before anything imports the libraries that read them.
os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["TRANSFORMERS_NO_ADVISORY_WARNINGS"] = "1"

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


@pytest.fixture(autouse=True, scope="module")
def _quick_fonts(request: pytest.FixtureRequest) -> Iterator[None]:
    """Whole fonts take less time than the letters in use: half of a report's. Not where the files are the subject."""
    from xmflow_jax.report.figures import files

    with pytest.MonkeyPatch.context() as patch:
        if not request.node.name.endswith("test_curves.py"):
            patch.setitem(files._STYLE, "pdf.fonttype", 3)
        yield


@pytest.fixture(autouse=True, scope="module")
def _few_programs_at_once() -> Iterator[None]:
    """Compiled programs are dropped where they have become many."""
    yield
    if MAPPINGS.exists() and MAPPINGS.read_bytes().count(b"\n") > MOST_MAPPINGS:
        jax.clear_caches()
