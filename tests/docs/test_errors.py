"""The tables of `docs/errors/` against the messages of the package: each message has a row, each row a message.

Messages are read off the code: the constant parts of what is handed to an error's class, with `...` for values.
To document a new message, add a row to the page of its class; a failure prints the row's first cell.
"""

import ast
import re
from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from tests.docs.pages import DOCS, ROOT, quoted, table_rows
from xmflow_jax import errors

PAGES = {
    "OptionError": "option-error.md",
    "CheckpointError": "checkpoint-error.md",
    "DataError": "data-error.md",
    "RunFolderError": "run-folder-error.md",
    "SelfCheckError": "self-check-error.md",
    "ProcessLost": "process-lost.md",
    "QuestionSetAside": "question-set-aside.md",
}
VALUE = "..."
# A row with fewer letters would cover anything, and one with a smaller share of a message's would not find it.
LEAST_LETTERS = 5
LEAST_SHARE = 0.25
# argparse wraps what a type refuses, and the command's parser makes an `OptionError` of it.
# `KeysNotUnderstood` is a `CheckpointError` that says which keys.
ALIASES = {"ArgumentTypeError": "OptionError", "KeysNotUnderstood": "CheckpointError"}
# Messages that another message is all of: argparse's own, and an `OptionError` about a checkpoint's prompt.
CARRIED = {("OptionError", "message"), ("CheckpointError", "f'{path}: {error}'")}


@dataclass(frozen=True)
class Message:
    """A message as the code has it, with `...` for values."""

    error: str
    text: str
    where: str


def constant_parts(node: ast.expr) -> str:
    """The text of a string expression, `...` for whatever is known at run time alone."""
    if isinstance(node, ast.Constant):
        return str(node.value)
    if isinstance(node, ast.JoinedStr):
        return "".join(constant_parts(part) for part in node.values)
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Add):
        return constant_parts(node.left) + constant_parts(node.right)
    return VALUE


def messages_of(tree: ast.Module, where: str) -> Iterator[Message]:
    """Every message of a module, in the order of its lines."""
    functions = {node.name: node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)}
    for node in ast.walk(tree):
        if not isinstance(node, ast.Call) or not node.args:
            continue
        name = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
        error, message = ALIASES.get(name, name), node.args[0]
        if name == "skipped_row" and getattr(node.args[1], "id", "") == "SET_ASIDE":
            error, message = "QuestionSetAside", node.args[2]
        if error not in PAGES or (error, ast.unparse(message)) in CARRIED:
            continue
        told = [message]
        if isinstance(message, ast.Call) and isinstance(message.func, ast.Name) and message.func.id in functions:
            body = ast.walk(functions[message.func.id])
            told = [one.value for one in body if isinstance(one, ast.Return) and one.value is not None]
        for one in told:
            text = constant_parts(one)
            if error != "QuestionSetAside" or text != VALUE:  # a reason that was caught and is passed on
                yield Message(error, text, f"{where}:{node.lineno}")


def package_modules() -> Iterator[tuple[str, ast.Module]]:
    for path in sorted((ROOT / "xmflow_jax").rglob("*.py")):
        yield str(path.relative_to(ROOT)), ast.parse(path.read_text(encoding="utf-8"))


def strings_of(tree: ast.Module) -> Iterator[str]:
    """Every string of a module but its docstrings; messages may be gathered before they are raised."""
    docstrings = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
    for node in ast.walk(tree):
        if isinstance(node, ast.JoinedStr | ast.Constant) and id(node) not in docstrings:
            yield constant_parts(node)


def covers(pattern: str, message: str) -> bool:
    """Whether the pattern's constant parts are in the message, in this order.

    `"... is not one of: ..."` covers `"--... ... is not one of: ..."`.
    """
    place = 0
    for part in filter(None, pattern.split(VALUE)):
        found = message.find(part, place)
        if found < 0:
            return False
        place = found + len(part)
    return True


def letters(text: str) -> int:
    return sum(letter.isalpha() for letter in text)


def documents(pattern: str, message: str) -> bool:
    """Whether a row is about a message: it covers it, and has a fair share of its letters."""
    return covers(pattern, message) and letters(pattern) >= LEAST_SHARE * letters(message)


def patterns(error: str) -> list[str]:
    page = (DOCS / "errors" / PAGES[error]).read_text(encoding="utf-8")
    return [pattern for cells in table_rows(page, "message") for pattern in quoted(cells[0])]


MODULES = dict(package_modules())
MESSAGES = [message for where, tree in MODULES.items() for message in messages_of(tree, where)]


def test_every_error_class_has_a_page() -> None:
    classes = {one.__name__ for one in vars(errors).values() if isinstance(one, type)} - {"XmflowError"}
    assert classes == set(PAGES), "a class of errors has a page in docs/errors, and a line in PAGES of this test"
    for page in PAGES.values():
        title = (DOCS / "errors" / page).read_text(encoding="utf-8").splitlines()[0]
        assert PAGES[title.removeprefix("# ")] == page


@pytest.mark.parametrize("error", PAGES)
def test_every_message_has_a_row(error: str) -> None:
    told = patterns(error)
    lacking = [one for one in MESSAGES if one.error == error and not any(documents(row, one.text) for row in told)]
    lines = "\n".join(f"  {one.where}: `{one.text}`" for one in lacking)
    assert not lacking, f"docs/errors/{PAGES[error]} lacks a row (message, what it means, what to do) for\n{lines}"


@pytest.mark.parametrize("error", PAGES)
def test_every_row_belongs_to_a_message(error: str) -> None:
    own = {message.where.partition(":")[0] for message in MESSAGES if message.error == error}
    texts = [message.text for message in MESSAGES if message.error == error]
    gathered = [text for where in own for text in strings_of(MODULES[where])]
    stale = [row for row in patterns(error) if not any(covers(row, text) for text in (*texts, *gathered))]
    assert not stale, f"docs/errors/{PAGES[error]}: the code has no such message: {stale}"


@pytest.mark.parametrize("error", PAGES)
def test_rows_say_enough_to_be_found_by(error: str) -> None:
    for row in patterns(error):
        assert letters(row) >= LEAST_LETTERS, f"{row!r} would cover almost anything"


@pytest.mark.parametrize("error", PAGES)
def test_rows_have_a_cause_and_a_cure(error: str) -> None:
    page = (DOCS / "errors" / PAGES[error]).read_text(encoding="utf-8")
    for cells in table_rows(page, "message"):
        assert len(cells) == 3, f"{PAGES[error]}: {cells}"
        assert all(cells), f"{PAGES[error]}: {cells}"
        assert quoted(cells[0]), f"{PAGES[error]}: a message stands between backticks: {cells[0]}"


def test_messages_are_read_off_code() -> None:
    code = """
def why(folder):
    return f"{folder} holds nothing"

def check(path, count):
    raise DataError(f"{path}: {count} rows" " too many")
    raise errors.DataError("no rows in " + path)
    raise DataError(why(path))
    raise argparse.ArgumentTypeError(f"{count} is odd")
    skipped_row(path, SET_ASIDE, "its text is empty", "")
    raise ValueError("not the user's fault")
"""
    found = [(one.error, one.text) for one in messages_of(ast.parse(code), "module.py")]
    assert sorted(found) == [
        ("DataError", "... holds nothing"),
        ("DataError", "...: ... rows too many"),
        ("DataError", "no rows in ..."),
        ("OptionError", "... is odd"),
        ("QuestionSetAside", "its text is empty"),
    ]
    assert covers("... rows too many", "...: ... rows too many")
    assert not covers("... rows too many", "...: ... rows too few")
    assert not covers("too many rows", "...: ... rows too many")
    assert not documents("... is ...", "... is ...; expected a whole number of pixels")


@pytest.mark.parametrize("page", ["index.md", *PAGES.values()])
def test_examples_are_messages(page: str) -> None:
    """Lines of consoles, with values in them."""
    lines = (DOCS / "errors" / page).read_text(encoding="utf-8").splitlines()
    for line in (line.removeprefix("error: ") for line in lines if line.startswith("error: ")):
        forms = [re.escape(one.text).replace(re.escape(VALUE), ".+") for one in MESSAGES if one.text != VALUE]
        assert any(re.fullmatch(form, line) for form in forms), f"{page}: no message reads {line!r}"
