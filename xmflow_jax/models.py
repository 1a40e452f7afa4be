"""`python -m xmflow_jax.models`: the families that are known here; with `--check DIR`, what of a checkpoint would run.

A configuration alone is enough for a first answer; what further files are there is examined too.
"""

if __name__ == "__main__":
    from xmflow_jax.cli.early import end_quietly

    end_quietly()

import sys
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Final

from xmflow_jax.cli.frame import prepare_process, run_command, say
from xmflow_jax.cli.sweep_arguments import Parser

if TYPE_CHECKING:
    from xmflow_jax.families.checkpoint import Checkpoint
    from xmflow_jax.families.family import Family
    from xmflow_jax.nn.anatomy import Anatomy

# (width, height) of the photo that positions are told for.
PHOTO: Final = (640, 480)
# Memories of single devices, in GB.
DEVICES: Final = (16, 24, 80)
# As many devices as a mesh is looked for.
MOST_DEVICES: Final = 8


def family_lines() -> list[str]:
    """A line for each family: its `model_type`, the sites of its stacks, and the roles of its images' views."""
    from xmflow_jax.families.registry import all_families

    return [f"{family.model_type}: {_sites(family.anatomy(family.tiny))}" for family in all_families()]


def _sites(anatomy: "Anatomy") -> str:
    """The sites that attend, by stack, and what else roles tell."""
    from xmflow_jax.nn.anatomy import NOTHING

    stacks = []
    for stack in anatomy.stacks:
        names = [_site_name(site.name, site.reads) for site in anatomy.sites(stack) if site.reads != NOTHING]
        stacks.append(f"{stack.name} ({', '.join(names)})")
    place = "image in the prompt" if anatomy.image_in_prompt else "image read from outside the prompt"
    views = f"; views {', '.join(anatomy.views)}" if anatomy.views else ""
    return f"{', '.join(stacks)}; {place}{views}"


def _site_name(name: str, reads: str) -> str:
    from xmflow_jax.nn.anatomy import OWN

    return name if reads == OWN else f"{name} reads {reads}"


def check_lines(source: str, vouch: Sequence[str] = ()) -> list[str]:
    """What of a checkpoint would run, as far as its files are there: configuration alone is enough to begin with.

    Args:
        source: a directory, or a hub id.
        vouch: as of `read_checkpoint`.

    Raises:
        XmflowError: what would stop a study, the first of it.
    """
    from xmflow_jax.families.checkpoint import read_checkpoint

    checkpoint = read_checkpoint(source, vouch)
    main = checkpoint.anatomy.main
    lines = [
        f"{checkpoint.directory}: {checkpoint.family.model_type}, {main.layers} layers, {main.heads} heads; "
        f"{_sites(checkpoint.anatomy)}"
    ]
    layout = checkpoint.family.image_layout(checkpoint.config, PHOTO)
    lines.append(f"a photo of {PHOTO[0]}x{PHOTO[1]} takes {layout.positions} image positions, by published limits")
    lines += [f"passed over: {key} ({why})" for key, why in checkpoint.passed_over.items()]
    lines += _memory_lines(checkpoint)
    files = {path.name for path in checkpoint.directory.iterdir()}
    if files & {"preprocessor_config.json", "processor_config.json"}:
        processing = checkpoint.processing()
        lines.append(checkpoint.prompt(processing).line())
    else:
        lines.append("no image processor among the files: prompts are not checked")
    if any(name.endswith(".safetensors") for name in files):
        lines.append(f"weights: stored as {checkpoint.identify().dtype}, every tensor understood")
    else:
        lines.append("no weights in safetensors format among the files: tensors are not checked")
    return lines


def _memory_lines(checkpoint: "Checkpoint") -> list[str]:
    """The weights' bytes in bfloat16, and over how many devices of each size they fit."""
    from functools import partial

    from xmflow_jax.machine.mesh import WEIGHTS_SHARE, automatic_mesh, mesh_text
    from xmflow_jax.machine.partitioning import split_bytes
    from xmflow_jax.weights.load import abstract_model, shapes

    family: Family = checkpoint.family
    leaves = shapes(abstract_model(family, checkpoint.config, "bfloat16")[1])
    needed: Callable[[int], int] = partial(split_bytes, family.partitioning(checkpoint.config), leaves)
    lines = [f"weights in bfloat16: {needed(1) / 1e9:.1f} GB"]
    for memory in DEVICES:
        mesh = automatic_mesh(MOST_DEVICES, needed, memory * 10**9)
        fits = needed(mesh["model"]) <= memory * 10**9 * WEIGHTS_SHARE
        told = "one device holds them" if mesh["model"] == 1 else f"--mesh {mesh_text({**mesh, 'data': 1})}"
        lines.append(f"  devices of {memory} GB: {told if fits else f'{MOST_DEVICES} devices do not hold them'}")
    return lines


def main(arguments: Sequence[str] | None = None) -> int:
    """The command. Exit codes: 0 done, 2 what would stop a study (one line on standard error), 130 interrupted."""
    given = sys.argv[1:] if arguments is None else arguments

    def work() -> None:
        parser = Parser(
            prog="python -m xmflow_jax.models", description=(__doc__ or "").split("\n\n")[0].partition(": ")[2]
        )
        parser.add_argument(
            "--check", metavar="DIR", help="a checkpoint's directory, or a hub id; its weights may be missing"
        )
        parser.add_argument(
            "--vouch",
            action="append",
            metavar="KEY",
            help="a key of config.json that is not understood, for which you take responsibility; once for each key",
        )
        options = parser.parse_args(given)
        prepare_process()
        for line in family_lines() if options.check is None else check_lines(options.check, options.vouch or ()):
            say(line)

    return run_command("models", given, work, after_interrupt="nothing was written")


if __name__ == "__main__":
    sys.exit(main())
