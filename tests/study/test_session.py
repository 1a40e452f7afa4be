"""What a session records of its machine."""

from importlib.metadata import PackageNotFoundError
from importlib.metadata import version as installed

import jax
import pytest

from xmflow_jax.study import session


@pytest.mark.parametrize("missing", [{"xmflow-jax"}, {"xmflow-jax", "numpy"}, set()], ids=len)
def test_a_checkout_on_pythons_path_is_no_installed_package(missing: set[str], monkeypatch: pytest.MonkeyPatch) -> None:
    def version(package: str) -> str:
        if package in missing:
            raise PackageNotFoundError(package)
        return installed(package)

    monkeypatch.setattr(session, "version", version)
    versions = session.machine(1)["versions"]
    assert {name for name, told in versions.items() if told == "not installed as a package"} == missing
    assert versions["jax"] == jax.__version__
