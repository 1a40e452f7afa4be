"""The command that asks for given options, for the record of how a run was made."""

import shlex
from dataclasses import fields

from xmflow_jax.study.options import SweepOptions

# Options whose flag says that something is left out.
_NEGATED = {"whole_answers": "--first-token-only", "self_check": "--no-self-check"}


def command_line(options: SweepOptions) -> str | None:
    """The shortest command with these options; None where the questions are the caller's own records."""
    if options.questions is not None:
        return None
    words = ["python", "-m", "xmflow_jax.sweep"]
    for field in fields(options):
        value = getattr(options, field.name)
        if value == field.default:
            continue
        flag = f"--{field.name.replace('_', '-')}"
        if isinstance(value, bool):
            words.append(_NEGATED.get(field.name, flag))
        elif field.name == "heads":
            words += [flag, ",".join(map(str, value))]
        elif field.name == "vouch":
            words += [word for key in value for word in (flag, key)]
        elif isinstance(value, tuple):
            # A file's name may begin as an option does.
            words += [flag, *(f"./{one}" if str(one).startswith("-") else str(one) for one in value)]
        else:
            words += [f"{flag}={value}"] if str(value).startswith("-") else [flag, str(value)]
    return shlex.join(words)
