"""The built wheel holds what an installed package needs: the shipped models ride along."""

import zipfile
from pathlib import Path

from hatchling.builders.wheel import WheelBuilder

ROOT = Path(__file__).parents[2]


def test_the_wheel_holds_the_package_and_the_shipped_models(tmp_path: Path) -> None:
    (wheel,) = WheelBuilder(str(ROOT)).build(directory=str(tmp_path), versions=["standard"])
    names = set(zipfile.ZipFile(wheel).namelist())
    shipped = [path for path in (ROOT / "checkpoints").rglob("*") if path.is_file()]
    assert {"shapes-llava", "shapes-crossattn"} <= {path.relative_to(ROOT / "checkpoints").parts[0] for path in shipped}
    for path in shipped:
        assert f"xmflow_jax/{path.relative_to(ROOT).as_posix()}" in names
    modules = {path.relative_to(ROOT).as_posix() for path in (ROOT / "xmflow_jax").rglob("*.py")}
    page = {path.relative_to(ROOT).as_posix() for path in (ROOT / "xmflow_jax/report/page/assets").iterdir()}
    assert {path.rpartition(".")[2] for path in page} == {"html", "css", "js"}
    assert modules | page | {"xmflow_jax/py.typed"} <= names
    assert not any(name.startswith(("tests/", "experiments/")) for name in names)
    assert Path(wheel).stat().st_size < 20_000_000
