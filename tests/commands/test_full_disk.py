"""A disk that is full in mid-run, by the kernel's own ENOSPC: what was finished is intact, and with room it goes on.

Two mechanisms. One works everywhere: the parts' temporary names lead to `/dev/full`, the device on which every write
fails. The other is a file system of a few megabytes, mounted in a namespace of its own where the machine permits that.
"""

import io
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.commands.killed_run import (
    ROOT,
    TEMPORARY,
    Study,
    assert_same_run,
    assert_some_rows,
    parts,
    start,
    wait_until,
    whole_rows,
    write_study,
)
from xmflow_jax.run.parts import part_paths, read_part

NAMESPACE = ["unshare", "--map-root-user", "--mount"]
PAGE = 4096


@pytest.fixture(name="study", scope="module")
def fixture_study(tmp_path_factory: pytest.TempPathFactory) -> Study:
    """Nine questions with rows, each a part, and one set aside; `undisturbed` is its run without any trouble."""
    study = write_study(tmp_path_factory.mktemp("study"), ["QueryAttr"], per_task=10, batch_size=1)
    study.finish(study.folder / "undisturbed")
    return study


def ended(process: "subprocess.Popen[str]") -> str:
    """The one line of a run that ended for want of space; a bar may stand before it."""
    _, error = process.communicate(timeout=240)
    assert process.returncode == 2, error
    assert "Traceback" not in error
    *_, last = error.splitlines()
    assert last.startswith("error: ")
    assert error.count("error: ") == 1
    return last


def assert_intact(out: Path, undisturbed: Path) -> None:
    """Every part can be read, nothing that is half of one is there, and the rows are the undisturbed run's."""
    assert not list(out.rglob(TEMPORARY))
    for path in part_paths(out, "part"):
        assert read_part(path, "part") is not None
    assert_some_rows(out, whole_rows(undisturbed))


@pytest.mark.slow
def test_a_part_that_finds_no_room_ends_the_run(study: Study, tmp_path: Path) -> None:
    out, undisturbed = tmp_path / "out", study.folder / "undisturbed"
    process = study.start(out)
    wait_until(lambda: len(parts(out)) >= 2, process)
    process.send_signal(signal.SIGSTOP)
    landed = len(parts(out))
    for number in range(landed, 30):
        name = out / f".part-{number:05d}.parquet.xmflow-partial"
        if not name.exists():
            name.symlink_to("/dev/full")
    process.send_signal(signal.SIGCONT)
    line = ended(process)
    assert line.endswith(".parquet: No space left on device"), line
    assert f"cannot write {out}/results/part-" in line
    assert landed <= len(parts(out)) < 9
    for name in out.glob(TEMPORARY):  # of the later parts
        assert name.is_symlink()
        name.unlink()
    assert_intact(out, undisturbed)
    study.finish(out)
    assert_same_run(out, undisturbed)


def permitted() -> bool:
    mount = ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", "/tmp"]
    return subprocess.run([*NAMESPACE, *mount], capture_output=True, check=False).returncode == 0


def append_zeros(file: io.FileIO, size: int) -> None:
    """Until that fails."""
    while file.write(b"\0" * size):
        pass


class SmallDisk:
    """A tmpfs of 8 MB at a path that is another folder outside the namespace.

    Attributes:
        path: where processes started in the namespace see it.
        seen: the same place for this process.
    """

    def __init__(self, path: Path, keeper: int) -> None:
        self.path = path
        self.seen = Path(f"/proc/{keeper}/root{path}")
        self._enter = ["nsenter", f"--target={keeper}", "--user", "--mount", "--preserve-credentials"]
        self._enter.append(f"--wdns={ROOT}")

    def start(self, study: Study, log: str | None = None) -> "subprocess.Popen[str]":
        command = [*self._enter, *study.command(self.path / "out")]
        if log is not None:
            command = [
                *self._enter,
                "sh",
                "-c",
                f'exec "$@" > {self.path / log} 2>&1',
                "sh",
                *command[len(self._enter) :],
            ]
        return start(command, study)

    def fill(self, spare_pages: int = 0) -> None:
        """All but so many pages."""
        with (self.seen / "ballast").open("ab", buffering=0) as file:
            for size in (256 * PAGE, PAGE):
                with pytest.raises(OSError, match="No space left on device"):
                    append_zeros(file, size)
            file.truncate(file.tell() - file.tell() % PAGE - spare_pages * PAGE)

    def make_room(self) -> None:
        (self.seen / "ballast").unlink()


@contextmanager
def small_disk(path: Path) -> Iterator[SmallDisk]:
    path.mkdir()
    script = f"mount -t tmpfs -o size=8m tmpfs '{path}' && echo mounted && exec sleep 1200"
    keeper = subprocess.Popen([*NAMESPACE, "sh", "-c", script], stdout=subprocess.PIPE, text=True)
    try:
        assert keeper.stdout is not None
        assert keeper.stdout.readline() == "mounted\n"
        yield SmallDisk(path, keeper.pid)
    finally:
        keeper.kill()
        keeper.communicate()


# Where namespaces are not permitted, the test above is the one that there is.
MOUNTS = ["tmpfs"] if permitted() else []


@pytest.mark.slow
@pytest.mark.timeout(1200)
@pytest.mark.parametrize("disk", MOUNTS)
def test_a_full_file_system_in_mid_run_in_its_report_and_at_its_start(study: Study, tmp_path: Path, disk: str) -> None:
    undisturbed = study.folder / "undisturbed"
    with small_disk(tmp_path / "disk") as small:
        out = small.seen / "out"
        # In mid-run; a part needs more than the page that is left. What it says goes to the same disk.
        process = small.start(study, log="log")
        wait_until(lambda: len(parts(out)) >= 3, process)
        process.send_signal(signal.SIGSTOP)
        small.fill(spare_pages=1)
        process.send_signal(signal.SIGCONT)
        process.communicate(timeout=240)
        assert process.returncode == 2
        assert 3 <= len(parts(out)) < 9
        assert_intact(out, undisturbed)
        # At the start.
        before = {path: path.read_bytes() for path in out.rglob("*") if path.is_file()}
        line = ended(small.start(study))
        assert line.startswith(f"error: the disk of {small.path}/out has "), line
        assert {path: path.read_bytes() for path in out.rglob("*") if path.is_file()} == before
        # In the report.
        small.make_room()
        process = small.start(study)
        wait_until(lambda: len(parts(out)) == 9, process)
        process.send_signal(signal.SIGSTOP)
        small.fill()
        process.send_signal(signal.SIGCONT)
        assert ended(process).endswith(": No space left on device")
        assert_intact(out, undisturbed)
        small.make_room()
        process = small.start(study)
        _, error = process.communicate(timeout=240)
        assert process.returncode == 0, error
        assert_same_run(out, undisturbed)
