"""The house: which room may import which, no circle of modules, few modules at the top, nothing oversized."""

import ast
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest

import xmflow_jax

PACKAGE = "xmflow_jax"
FOLDER = Path(xmflow_jax.__file__).parent

# The modules at the top that commands or callers name; each may import everything.
DOORS: Final = {"__init__", "__main__", "sweep", "evaluate", "convert", "prepare", "models"}
MOST_AT_THE_TOP: Final = 9
# Of a function.
MOST_LINES: Final = 60
MOST_PARAMETERS: Final = 8

# What each room may import beside itself. Data flows one way, from question files to the report: no room imports a
# later one, and families and engines know nothing of each other.
FOUNDATIONS: Final = {"errors", "json_files"}
ALLOWED: Final[dict[str, set[str]]] = {
    "errors": set(),
    "json_files": {"errors"},
    "machine": FOUNDATIONS,
    # What a measure writes is described where the measure is, and makes the schema of the rows.
    "measures": FOUNDATIONS,
    "run": FOUNDATIONS | {"machine", "measures"},
    "nn": FOUNDATIONS | {"machine"},
    "weights": FOUNDATIONS | {"machine", "nn"},
    "data": FOUNDATIONS | {"machine", "nn"},
    "families": FOUNDATIONS | {"machine", "nn", "weights", "data"},
    "knockout": FOUNDATIONS | {"machine", "run", "nn", "data"},
    "scoring": FOUNDATIONS | {"data"},
    "analysis": FOUNDATIONS | {"run", "measures"},
    "study": FOUNDATIONS
    | {"machine", "run", "nn", "weights", "data", "families", "knockout", "scoring", "measures", "analysis"},
    "report": FOUNDATIONS | {"run", "measures", "analysis", "study"},
    "cli": FOUNDATIONS | {"machine", "data", "knockout", "scoring", "study"},
}

# (room, room): imports that still go the wrong way.
REMAINING: Final[set[tuple[str, str]]] = set()


def module_files() -> dict[str, Path]:
    """Every module by its dotted name; a package is named without `.__init__`."""
    files = {}
    for path in sorted(FOLDER.rglob("*.py")):
        parts = [PACKAGE, *path.relative_to(FOLDER).with_suffix("").parts]
        files[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return files


def imported(source: str, modules: set[str]) -> Iterator[str]:
    """The modules that a source text imports, at its top or within functions.

    `from a.b import c` is an import of `a.b.c` where that is a module, else of `a.b`.
    """
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from (name.name for name in node.names if name.name in modules)
        elif isinstance(node, ast.ImportFrom) and node.module is not None:
            assert node.level == 0, "imports are absolute"
            for name in node.names:
                inner = f"{node.module}.{name.name}"
                if inner in modules or node.module in modules:
                    yield inner if inner in modules else node.module


def room_of(module: str) -> str:
    """`xmflow_jax.study.answer` is in the room `study`, `xmflow_jax.errors` in one of its own."""
    parts = module.split(".")
    return parts[1] if len(parts) > 1 else "__init__"


FILES = module_files()
IMPORTS = {
    name: sorted(set(imported(path.read_text(encoding="utf-8"), set(FILES))) - {name}) for name, path in FILES.items()
}


def circles(imports: dict[str, list[str]]) -> list[list[str]]:
    """Paths of imports that end where they begin, one for each import that closes such a path."""
    found: list[list[str]] = []
    done: set[str] = set()

    def follow(module: str, path: list[str]) -> None:
        if module in path:
            found.append([*path[path.index(module) :], module])
        elif module not in done:
            for other in imports[module]:
                follow(other, [*path, module])
            done.add(module)

    for module in imports:
        follow(module, [])
    return found


def test_no_circle_of_modules() -> None:
    assert circles({"a": ["b"], "b": ["c"], "c": ["b"]}) == [["b", "c", "b"]]
    assert circles(IMPORTS) == []


def test_rooms_import_none_that_comes_after_them() -> None:
    assert list(imported("from xmflow_jax.study import rows\nimport xmflow_jax.errors", set(FILES))) == [
        "xmflow_jax.study.rows",
        "xmflow_jax.errors",
    ]
    wrong = [
        f"{module} imports {other}"
        for module, others in IMPORTS.items()
        for other in others
        if (room := room_of(module)) not in DOORS
        and not module.endswith(".__main__")  # a room's own command
        and (there := room_of(other)) != room
        and there not in ALLOWED[room]
        and (room, there) not in REMAINING
    ]
    assert wrong == []


def test_the_rooms_have_no_circle_either() -> None:
    assert circles({room: sorted(others) for room, others in ALLOWED.items()}) == []


@pytest.mark.parametrize("room", sorted({room_of(module) for module in FILES} - DOORS))
def test_every_room_has_its_place(room: str) -> None:
    assert room in ALLOWED


def test_few_modules_at_the_top() -> None:
    assert len(list(FOLDER.glob("*.py"))) <= MOST_AT_THE_TOP


Function = ast.FunctionDef | ast.AsyncFunctionDef


def oversized(source: str) -> Iterator[str]:
    """The functions of a source text, methods and inner ones too, that are too long or take too much."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, Function):
            given = node.args
            names = [one.arg for one in (*given.posonlyargs, *given.args, *given.kwonlyargs)]
            count = len([name for name in names if name not in ("self", "cls")])
            count += (given.vararg is not None) + (given.kwarg is not None)
            lines = (node.end_lineno or node.lineno) - node.lineno + 1
            if lines > MOST_LINES or count > MOST_PARAMETERS:
                yield f"{node.name}: {lines} lines, {count} parameters"


def test_no_function_is_too_long_or_takes_too_much() -> None:
    """Of the package and of the experiments beside it."""
    given = ", ".join(f"p{number}" for number in range(MOST_PARAMETERS))
    body = "\n".join(["    def inner(self): pass"] * (MOST_LINES - 1))
    assert list(oversized(f"def most({given}):\n{body}")) == []
    assert list(oversized(f"class A:\n  def over(self, {given}, **more): pass")) == ["over: 1 lines, 9 parameters"]
    assert list(oversized(f"def over():\n{body}\n    pass")) == ["over: 61 lines, 0 parameters"]
    paths = [*FILES.values(), *(FOLDER.parent / "experiments").rglob("*.py")]
    assert len(paths) > len(FILES)
    found = [(path.name, one) for path in paths for one in oversized(path.read_text(encoding="utf-8"))]
    assert found == []


def only_children(sources: Iterator[str]) -> list[str]:
    """Classes with a body of their own that one other class alone is made from.

    Protocols say a shape, and are none; nor are errors, which are caught by what they have in common.
    """
    bases: dict[str, list[str]] = {}
    for source in sources:
        for node in ast.walk(ast.parse(source)):
            if isinstance(node, ast.ClassDef):
                # `Generic[T]` is `Generic`, `nnx.Module` is `Module`.
                bases[node.name] = [ast.unparse(base).split("[")[0].split(".")[-1] for base in node.bases]
    children = Counter(base for own in bases.values() for base in own if base in bases)
    return sorted(
        name
        for name, count in children.items()
        if count == 1 and "Protocol" not in bases[name] and not name.endswith("Error")
    )


def test_no_class_has_one_child() -> None:
    assert only_children(iter(["class A: ...\nclass B(A): ...", "class C(Protocol): ...\nclass D(C): ..."])) == ["A"]
    assert only_children(path.read_text(encoding="utf-8") for path in FILES.values()) == []
