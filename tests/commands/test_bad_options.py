"""Options and the output folder: what cannot be used, or asks for what model and machine cannot give, is one line."""

import fcntl
import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from tests.commands.refusal import Given, Refusal, content, write_given
from tests.run.result_rows import row
from xmflow_jax.run.folder import open_run, read_rows
from xmflow_jax.sweep import main

pytestmark = pytest.mark.usefixtures("unprepared_process")

# What the estimate times its matmul with.
MATMUL = frozenset({"jit(einsum)", "jit(broadcast_in_dim)", "jit(convert_element_type)"})


@pytest.fixture(name="given", scope="module")
def fixture_given(tmp_path_factory: pytest.TempPathFactory) -> Given:
    return write_given(tmp_path_factory.mktemp("given"))


# The words of the command line, and what the line must name.
UNPARSED = {
    "unknown option": (["--colour", "red"], ("--colour red",)),
    "unknown option with a line end": (["--col\nour"], ("--col our",)),
    "stray word": (["stray"], ("stray",)),
    "ambiguous option": (["--s", "3"], ("--s", "--seed")),
    "value for a switch": (["--dry-run=yes"], ("--dry-run", "'yes'")),
    **{
        f"no value for {option}": ([option], (option,))
        for option in ("--model", "--data", "--images", "--pathways", "--window", "--heads", "--out")
    },
    **{
        f"{option} that is no whole number": ([option, "1.5"], (option, "'1.5'"))
        for option in ("--window", "--samples", "--batch-size", "--answer-length", "--seed", "--preview")
    },
    "window in words": (["--window", "wide"], ("--window", "'wide'")),
    "heads in words": (["--heads", "first"], ("--heads", "'first'")),
    "heads that count down": (["--heads", "3-1"], ("--heads", "'3-1'")),
    "heads that no memory holds": (["--heads", "0-99999999999"], ("--heads", "'0-99999999999'")),
    "heads in other digits": (["--heads", "²"], ("--heads", "'²'")),
}

UNUSABLE = {
    "unknown style": (["--style", "round"], ("--style 'round'", "centred, from-start, to-end, single")),
    "unknown mode": (["--mode", "remove"], ("--mode 'remove'", "mask, zero")),
    "kept pathway of one role": (["--keep-only", "Image"], ("'Image'", "'source->target'")),
    "kept pathway that the data do not tell": (
        ["--keep-only", "True Option->Last"],
        ("--keep-only", "True Option->Last"),
    ),
    "output without a role": (["--zero-output", "self"], ("output 'self'", "'self:Image'")),
    "output of no sublayer": (["--zero-output", "head:Image"], ("sublayer 'head'", "self, cross, mlp")),
    "output twice": (["--zero-output", "self:Last, SELF:last"], ("self:Last", "names one output twice")),
    "output that the model does not have": (["--zero-output", "cross:Last"], ("cross:Last", "no cross-attention")),
    "unknown selection": (["--select", "some"], ("--select 'some'", "correct, wrong, all")),
    "unknown engine": (["--engine", "warp"], ("--engine 'warp'", "fast, plain")),
    "unknown dtype": (["--dtype", "float8"], ("--dtype 'float8'", "float32, bfloat16")),
    "unknown template": (["--template", "vicuna_v2"], ("'vicuna_v2'", "vicuna_v1")),
    "empty template": (["--template", ""], ("unknown template ''", "vicuna_v1")),
    "template without a question": (["--template", "<image> what?"], ("'<image> what?'", "{question} 0 times")),
    "template with two questions": (["--template", "<image>{question}{question}"], ("{question} 2 times",)),
    "template without an image": (["--template", "{question}"], ("'{question}' has no <image>",)),
    "template with an image that the model does not read there": (
        ["--model", "shapes-crossattn", "--template", "<image> {question}"],
        ("'<image> {question}' holds <image>", "cross-attention"),
    ),
    "unknown pathway": (["--pathways", "Image"], ("'Image'", "'source->target'")),
    "pathway of three roles": (["--pathways", "Image->Last->Last"], ("'Image->Last->Last'",)),
    "no pathway": (["--pathways", ""], ("''",)),
    "empty place in the pathways": (["--pathways", "Image->Last,"], ("'Image->Last,'",)),
    "pathway twice": (["--pathways", "Image->Last, image->last"], ("Image->Last", "twice")),
    "unknown source": (["--pathways", "Picture->Last"], ("role 'Picture'", "Image, Image Central Object")),
    "unknown target": (["--pathways", "Image->Answer"], ("role 'Answer'", "Last")),
    "unknown style of a pathway": (["--pathways", "Image->Last@round"], ("style 'round'", "to-end")),
    "pathway that the data do not tell": (["--pathways", "True Option->Last"], ("True Option->Last", "Image")),
    "window 0": (["--window", "0"], ("--window 0", "1 or more")),
    "window below 0": (["--window", "-1"], ("--window -1", "1 or more")),
    "window wider than the model": (["--window", "4"], ("window 4", "3 layers")),
    "window beyond all numbers": (["--window", "9" * 30], ("--window " + "9" * 30,)),
    "head out of range": (["--heads", "4"], ("head 4", "0 to 3")),
    "heads out of range": (["--heads", "2-7"], ("head 4", "0 to 3")),
    "no samples": (["--samples", "0"], ("--samples 0", "1 or more")),
    "no batch": (["--batch-size", "0"], ("--batch-size 0", "1 or more")),
    "batch beyond all numbers": (["--batch-size", "9" * 30], ("--batch-size " + "9" * 30,)),
    "no answer": (["--answer-length", "0"], ("--answer-length 0", "1 or more")),
    "seed below 0": (["--seed", "-1"], ("--seed -1", "0 or more")),
    "controls below 0": (["--controls", "-2"], ("--controls -2", "0 or more")),
    "too many controls": (["--controls", "1001"], ("--controls 1001", "at most 1000")),
    "no preview": (["--preview", "0"], ("--preview 0", "1 or more")),
    "mesh of more devices than there are": (["--mesh", "data=99"], ("data=99", "99 devices", "8 devices")),
    "mesh of many models": (["--mesh", "data=4,model=4"], ("data=4,model=4", "16 devices", "8 devices")),
    "mesh of an unknown axis": (["--mesh", "pipeline=2"], ("'pipeline=2'", "data, model")),
    "mesh of no size": (["--mesh", "data"], ("'data'", "data=1")),
    "mesh of 0 devices": (["--mesh", "data=0"], ("data is '0'",)),
    "text with a line end": (["--pathways", "Image->La\nst"], ("unknown role",)),
}


@pytest.mark.parametrize("kind", [*UNPARSED, *UNUSABLE])
def test_an_option_that_cannot_be_used_is_refused_in_one_line(
    given: Given, tmp_path: Path, capsys: pytest.CaptureFixture[str], kind: str
) -> None:
    words, named = {**UNPARSED, **UNUSABLE}[kind]
    line = Refusal(capsys, tmp_path)(given.command(tmp_path / "out", *words))
    for name in named:
        assert name in line


def is_a_file(out: Path) -> None:
    out.write_text("mine")


def is_a_broken_link(out: Path) -> None:
    out.symlink_to(out.parent / "nowhere")


def holds_results(out: Path) -> None:
    (out / "results").mkdir(parents=True)
    (out / "results" / "part-00000.parquet").write_bytes(b"somebody else's")


def holds_another_record(out: Path) -> None:
    out.mkdir()
    (out / "run.json").write_text('{"name": "another program\'s"}')


def holds_an_edited_record(out: Path) -> None:
    another_study(out)
    path = out / "run.json"
    path.write_text(path.read_text().replace("another-model", "my-model"))


def another_study(out: Path) -> None:
    """A run of somebody else's study with a finished part."""
    with open_run(out, {"model": {"name": "another-model"}}) as run:
        run.append_part([row("q1")])


BAD_FOLDERS: dict[str, tuple[Callable[[Path], object], str, tuple[str, ...]]] = {
    "a file": (is_a_file, "", ("a file is in the place of", "{out}")),
    "in a file": (is_a_file, "/inner", ("a file is in the place of", "{out}/inner")),
    "a broken link": (is_a_broken_link, "", ("{out}",)),
    "results without a record": (holds_results, "", ("{out}/results", "run.json", "new folder")),
    "a record of another kind": (holds_another_record, "", ("{out}/run.json", "new folder")),
    "an edited record": (holds_an_edited_record, "", ("{out}/run.json was edited",)),
    "another study": (another_study, "", ("{out}", "another configuration", "new folder")),
}


@pytest.mark.parametrize("kind", BAD_FOLDERS)
def test_an_output_folder_that_cannot_be_used_is_refused_and_left_as_it_was(
    given: Given, tmp_path: Path, capsys: pytest.CaptureFixture[str], kind: str
) -> None:
    prepare, inner, named = BAD_FOLDERS[kind]
    out = tmp_path / "out"
    prepare(out)
    line = Refusal(capsys, tmp_path)(given.command(Path(f"{out}{inner}")))
    for name in named:
        assert name.format(out=out) in line


def test_the_part_of_another_study_survives_the_refusal(
    given: Given, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    another_study(tmp_path / "out")
    line = Refusal(capsys, tmp_path)(given.command(tmp_path / "out"))
    assert "another configuration" in line
    assert set(read_rows(tmp_path / "out")["question_id"]) == {"q1"}


@pytest.fixture(name="run", scope="module")
def fixture_run(given: Given, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run, in no time: its images are empty files, so all its questions are set aside."""
    folder = tmp_path_factory.mktemp("run")
    (folder / "images").mkdir()
    for image in given.images.iterdir():
        (folder / "images" / image.name).touch()
    with pytest.MonkeyPatch.context() as patch:
        # Which would refuse a run of nothing.
        patch.setattr("xmflow_jax.study.sweeping.check_usable", lambda *_: None)
        assert main(given.command(folder / "out", "--images", str(folder / "images"))) == 0
    return folder / "out"


# Other options on the run's folder, and the keys of run.json that the line must name.
OTHER = {
    "mode": (["--mode", "zero"], ("mode", '"mask"', '"zero"')),
    "heads": (["--heads", "0"], ("heads",)),
    "pathways": (["--pathways", "Last->Last"], ("pathways", "Last->Last")),
    "window": (["--window", "1"], ("pathways", "Image->Last@centred:1")),
    "style": (["--style", "single"], ("pathways", "single")),
    "template": (["--template", "plain"], ("template",)),
    "select": (["--select", "wrong"], ("select", '"wrong"')),
    "samples": (["--samples", "1"], ("samples",)),
    "seed": (["--seed", "7"], ("seed", "7 here")),
    "controls": (["--controls", "1"], ("controls", "1 here")),
    "keep only": (["--keep-only", "Last->Last"], ("keep_only", "Last->Last@centred")),
    "zero output": (["--zero-output", "mlp:Last"], ("zero_output", "mlp:Last@centred")),
    "engine": (["--engine", "plain"], ("engine", '"plain"')),
    "dtype": (["--dtype", "bfloat16"], ("model.dtype", '"bfloat16"')),
    "answer length": (["--answer-length", "3"], ("answer_length", "3 here")),
    "data": (["--data", "{folder}/another.csv"], ("data.another.csv", "data.demo_QueryAttr.csv")),
    "model": (["--model", "{folder}/model"], ("model.digest",)),
}


@pytest.mark.parametrize("kind", OTHER)
def test_the_folder_of_another_configuration_is_refused_and_left_as_it_was(
    given: Given, run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], kind: str
) -> None:
    words, named = OTHER[kind]
    (tmp_path / "another.csv").write_bytes(given.file.read_bytes())
    model = given.copied_model(tmp_path / "model")
    settings = json.loads((model / "config.json").read_text())
    settings["text_config"]["rope_theta"] = 5000.0
    (model / "config.json").write_text(json.dumps(settings))
    images = ("--images", str(run.parent / "images"))
    other = (word.format(folder=tmp_path) for word in words)
    line = Refusal(capsys, run)(given.command(run, *images, *other))
    assert f"{run} holds a run with another configuration" in line
    for name in named:
        assert name in line


def test_a_folder_in_use_is_refused(given: Given, run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    command = given.command(run, "--images", str(run.parent / "images"))
    with (run / ".lock").open("a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        line = Refusal(capsys, run, may_compile=MATMUL)(command)
    assert f"{run} is in use by a running process" in line
    assert main(command) == 0  # once the lock is free


def ordinary_user(arguments: list[str]) -> int:
    """The command of a user who may not write everywhere, as root may."""
    if os.geteuid() != 0:
        return main(arguments)
    os.seteuid(65534)
    try:
        return main(arguments)
    finally:
        os.seteuid(0)


@pytest.mark.parametrize("out", ["/", "/xmflow-run", "/xmflow/run"])
def test_an_output_folder_that_may_not_be_written_is_refused(
    given: Given, tmp_path: Path, capsys: pytest.CaptureFixture[str], out: str
) -> None:
    line = Refusal(capsys, tmp_path, ordinary_user)(given.command(Path(out)))
    assert line.startswith("cannot write in /;")
    assert Path(out) == Path("/") or not Path(out).exists()


@pytest.fixture(name="everyones")
def fixture_everyones() -> Iterator[Path]:
    """A folder in which other users may write too, unlike pytest's own."""
    with TemporaryDirectory() as folder:
        Path(folder).chmod(0o777)
        yield Path(folder)


@pytest.mark.parametrize(
    ("words", "named"),
    [
        (["--data", "{locked}/own.csv", "--images", "{locked}"], "{locked}/own.csv"),
        (["--data", "{locked}", "--images", "{locked}"], "{locked}"),
        (["--data", "demo", "--model", "{locked}/model"], "{locked}/model"),
    ],
    ids=["question file", "folder of question files", "model"],
)
def test_what_may_not_be_read_is_refused(
    everyones: Path, capsys: pytest.CaptureFixture[str], words: list[str], named: str
) -> None:
    locked = everyones / "locked"
    locked.mkdir(mode=0)
    arguments = [word.format(locked=locked) for word in words]
    line = Refusal(capsys, everyones, ordinary_user)([*arguments, "--out", str(everyones / "out")])
    assert named.format(locked=locked) in line
    assert "Permission denied" in line


def process(arguments: Sequence[str], home: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "xmflow_jax.sweep", *arguments],
        env={**os.environ, "HOME": str(home), "JAX_PLATFORMS": "cpu"},
        capture_output=True,
        text=True,
        check=False,
        timeout=240,
    )


def test_a_process_of_its_own_says_no_more_than_the_line(given: Given, tmp_path: Path) -> None:
    """Nor do the libraries: the model is refused behind all of their imports."""
    model = given.copied_model(tmp_path / "model")
    (model / "model.safetensors").rename(model / "pytorch_model.bin")
    prompt = "prompt vicuna_v1: the usual one of its family; its files name none; --template gives another\n"
    for words, said, named in (
        (["--window", "wide"], "", "'wide'"),
        (["--model", str(model)], prompt, "pytorch_model.bin"),
    ):
        done = process(given.command(tmp_path / "out", *words), tmp_path / "home")
        assert (done.returncode, done.stdout) == (2, said)
        assert done.stderr.startswith("error: ")
        assert done.stderr.count("\n") == 1
        assert named in done.stderr
    # Where compiled programs would be kept is there, without any.
    assert not any(content(tmp_path / "home").values())
    assert not (tmp_path / "out").exists()
