"""Platforms that are asked for and are not here, and settings that JAX refuses."""

import os
import subprocess
import sys

import pytest

ASK = """
import os, sys
import jax
from xmflow_jax.errors import OptionError
from xmflow_jax.machine.backend import check_devices
for asked in sys.argv[1:]:
    os.environ["JAX_PLATFORMS"] = asked if asked != "rocm" else "of another process"
    jax.config.update("jax_platforms", asked)
    for _ in range(2):
        try:
            check_devices()
            print(asked, "is here:", jax.devices()[0].platform)
        except OptionError as error:
            print(error)
    jax.extend.backend.clear_backends()
"""


def test_a_platform_that_is_not_here_is_named_with_those_that_are() -> None:
    platforms = ("nowhere", "cpu", "no such,cpu", "NONSENSE", "rocm")
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("JAX_", "CUDA"))}
    done = subprocess.run(
        [sys.executable, "-c", "import jax.extend.backend\n" + ASK, *platforms],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=240,
    )
    assert done.returncode == 0, done.stderr
    here = done.stdout.splitlines()[0].rpartition("here are: ")[2]
    assert "cpu" in here.split(", ")
    assert done.stdout.splitlines() == [
        *[f"JAX_PLATFORMS asks for nowhere; here are: {here}"] * 2,  # asking leaves nothing of what is here in use
        *["cpu is here: cpu"] * 2,
        *[f"JAX_PLATFORMS asks for no such,cpu; here are: {here}"] * 2,
        *[f"JAX_PLATFORMS asks for NONSENSE; here are: {here}"] * 2,
        *[f"jax_platforms asks for rocm; here are: {here}"] * 2,
    ]


@pytest.mark.parametrize("name", ["JAX_ENABLE_X64", "JAX_DEFAULT_MATMUL_PRECISION", "JAX_COMPILATION_CACHE_MAX_SIZE"])
def test_a_setting_that_jax_refuses_is_named(name: str) -> None:
    code = "from xmflow_jax.machine.backend import check_settings; check_settings()"
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, name: "perhaps"},
        capture_output=True,
        text=True,
        check=False,
        timeout=240,
    )
    line = done.stderr.splitlines()[-1]
    assert line.startswith("xmflow_jax.errors.OptionError: JAX refuses a setting of the environment: ")
    assert name.lower() in line.lower()
    assert "perhaps" in line
