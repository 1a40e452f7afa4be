"""A Python in which some packages are not installed."""


def without(*packages: str) -> str:
    """A program's first lines, after which these cannot be imported, nor found by whoever asks first."""
    return f"""
import importlib.util, sys
gone = {packages!r}
real = importlib.util.find_spec
importlib.util.find_spec = lambda name, package=None: None if name in gone else real(name, package)
class Missing:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in gone:
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)
sys.meta_path.insert(0, Missing())
"""
