"""`requirements-slim.txt` is enough: a study runs where no other package is installed, and says what it lacks."""

import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from tests.commands.killed_run import ROOT, write_study

NOT_IN_IT = {"orbax-checkpoint", "tensorstore", "optax", "tensorflow-datasets", "array-record", "importlib-resources"}

# Hides every package that is not in the list, from a process of its own, as if it had never been installed.
HIDE_THE_OTHERS = """
import importlib.util, sys
from importlib.metadata import packages_distributions
listed = set(sys.argv.pop(1).split(","))
known = packages_distributions()
plain = lambda name: name.lower().replace("_", "-")
gone = {top for top, dists in known.items() if not listed & set(map(plain, dists))} - {"xmflow_jax", "tests"}
assert gone >= {"optax", "orbax", "tensorflow_datasets", "array_record", "torch"}, gone
real = importlib.util.find_spec
importlib.util.find_spec = lambda name, package=None: None if name.split(".")[0] in gone else real(name, package)
class Missing:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in gone:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
sys.meta_path.insert(0, Missing())
"""


def plain(name: str) -> str:
    return name.lower().replace("_", "-")


def listed() -> set[str]:
    lines = (ROOT / "requirements-slim.txt").read_text(encoding="utf-8").splitlines()
    return {plain(line.partition("==")[0]) for line in lines if line and not line.startswith("#")}


def hidden(code: str, *arguments: str, environment: dict[str, str] | None = None) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [sys.executable, "-c", HIDE_THE_OTHERS + code, ",".join(sorted(listed())), *arguments],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )


def test_the_list_has_what_the_package_asks_for_but_for_converted_checkpoints() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    asked = {plain(re.split(r"[><=\[ ]", one)[0]) for one in project["dependencies"]}
    assert asked - listed() == {"orbax-checkpoint"}
    assert not listed() & NOT_IN_IT


def test_every_module_but_those_of_benchmarks_is_imported_without_the_others(tmp_path: Path) -> None:
    code = """
from importlib import import_module
from pathlib import Path
for path in sorted(Path("xmflow_jax").rglob("*.py")):
    name = ".".join(path.with_suffix("").parts)
    if "tfds" not in path.parts:
        import_module(name)
try:
    import optax
except ModuleNotFoundError:
    print("what stood in for optax is gone")
from xmflow_jax.convert import main
print(main(["checkpoints/shapes-llava", sys.argv[1]]))
"""
    done = hidden(code, str(tmp_path / "converted"))
    assert done.stdout == "what stood in for optax is gone\n2\n", done.stderr
    assert done.stderr.splitlines()[-1].startswith("error: converted checkpoints need orbax-checkpoint, not installed")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_a_study_runs_and_reports_without_the_others(tmp_path: Path) -> None:
    study = write_study(tmp_path / "study", ["QueryAttr"], per_task=3, batch_size=1)
    code = "from xmflow_jax.sweep import main\nsys.exit(main(sys.argv[1:]))"
    words = [*study.arguments, "--out", str(tmp_path / "out")]
    done = hidden(code, *words, environment=study.environment)
    assert done.returncode == 0, done.stderr
    assert "2 questions in the results" in done.stdout
    assert (tmp_path / "out" / "report.html").exists()
