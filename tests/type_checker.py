"""What checks the package's annotations under test: beartype, to which an int is a float, as to any type checker."""

from typing import Any

from beartype import BeartypeConf, beartype


def checked(function: Any) -> Any:
    """The function with its arguments and results checked."""
    return beartype(conf=BeartypeConf(is_pep484_tower=True))(function)
