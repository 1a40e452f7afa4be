"""`python -m xmflow_jax.convert SOURCE TARGET`: a published checkpoint as one that loads faster.

The target holds the parameters as an Orbax checkpoint, transposed and cast once and for all, beside the source's
configuration, tokenizer and processor files. Wherever a model is named, it may stand for the source.
"""

if __name__ == "__main__":
    from xmflow_jax.cli.early import end_quietly

    end_quietly()

import os
import shutil
import sys
import tempfile
from collections.abc import Iterable, Sequence
from pathlib import Path

from xmflow_jax.cli.frame import run_command, say
from xmflow_jax.cli.sweep_arguments import Parser
from xmflow_jax.errors import CheckpointError
from xmflow_jax.machine.home import expanded

# Configuration, tokenizer and processor files by their endings.
COPIED = frozenset({".json", ".model", ".txt", ".jinja"})


def convert(source: str | Path, target: str | Path, dtype: str | None = None, vouch: str | Iterable[str] = ()) -> Path:
    """Write a converted checkpoint; the target appears whole or not at all.

    Args:
        source: a directory in Hugging Face format, a converted one, or a hub id.
        target: a path that does not exist.
        dtype: "float32" or "bfloat16"; None: bfloat16 if the source mostly is, else float32.
        vouch: keys of the source's config.json that are not understood and that the caller takes responsibility for,
            as `--vouch`; the target holds them too, and whoever loads it vouches for them again.

    Returns:
        The target's path.

    Raises:
        CheckpointError: the source cannot be read, or the target exists or cannot be written.
        OptionError: another dtype, or a key that nobody needs to vouch for.
    """
    from xmflow_jax.machine.backend import check_devices, check_settings

    check_settings()
    check_devices()
    # Imported here because these take seconds to import.
    from xmflow_jax.families.checkpoint import read_checkpoint
    from xmflow_jax.weights import orbax
    from xmflow_jax.weights.safetensors_files import INDEX

    orbax.check_installed()
    target = expanded(target)
    if os.path.lexists(target):
        raise CheckpointError(f"{target} exists; name a folder that does not")
    checkpoint = read_checkpoint(source, (vouch,) if isinstance(vouch, str) else vouch)
    model = checkpoint.load(dtype)
    from flax import nnx

    arrays = {tuple(map(str, path)): variable.get_value() for path, variable in nnx.to_flat_state(model.state)}
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        # On the target's own file system, so that renaming is atomic.
        with tempfile.TemporaryDirectory(dir=target.parent, prefix=".converted.") as temporary:
            # A plain name: Orbax cannot write where a path is no UTF-8.
            partial = Path(temporary) / "checkpoint"
            partial.mkdir()
            orbax.save(partial, arrays, model.dtype, model.digest, model.family.model_type)
            for file in sorted(checkpoint.directory.iterdir()):
                if file.is_file() and file.suffix in COPIED and file.name not in (INDEX, orbax.MARKER):
                    shutil.copyfile(file, partial / file.name)
            partial.rename(target)
    except OSError as error:
        raise CheckpointError(f"{target} cannot be written: {error}") from None
    return target


def main(argv: Sequence[str] | None = None) -> int:
    """The command. Exit codes: 0 done, 2 bad input or a full disk (one line on standard error), 130 interrupted."""
    given = sys.argv[1:] if argv is None else argv

    def work() -> None:
        parser = Parser(prog="python -m xmflow_jax.convert", description=(__doc__ or "").split("\n\n")[1])
        parser.add_argument("source", help="a directory in Hugging Face format, or a hub id")
        parser.add_argument("target", help="the folder to write; it must not exist")
        parser.add_argument(
            "--dtype", help="float32 or bfloat16 (default: bfloat16 if the source mostly is, else float32)"
        )
        parser.add_argument(
            "--vouch",
            action="append",
            metavar="KEY",
            help="a key of config.json that is not understood, for which you take responsibility; once for each key",
        )
        arguments = parser.parse_args(given)
        target = convert(arguments.source, arguments.target, arguments.dtype, arguments.vouch or ())
        say(f"wrote {target}")

    return run_command("convert", given, work, after_interrupt="nothing was written")


if __name__ == "__main__":
    sys.exit(main())
