"""Everything that a user can get wrong, as one small hierarchy.

A command turns any `XmflowError` into exit code 2 and its one-line message on standard error. The message says what
was wrong, with the value, and what would be right.
"""


class XmflowError(Exception):
    """Base of every error that is the input's fault rather than the program's.

    Attributes:
        exit_code: of a command that it ends.
    """

    exit_code = 2

    def __str__(self) -> str:
        # A path or a text of the user's, quoted as it came, may hold line ends.
        return " ".join(super().__str__().splitlines())


class OptionError(XmflowError):
    """A command-line option or function argument has a value that cannot be used."""


class CheckpointError(XmflowError):
    """A checkpoint's files, keys, shapes or configuration are missing or not fully understood."""


class DataError(XmflowError):
    """A question file or image folder cannot be used at all."""


class RunFolderError(XmflowError):
    """The output folder cannot be used for this run."""


class SelfCheckError(XmflowError):
    """The engines do not agree with each other, or do not block what they are told to, on this model and machine."""


class ProcessLost(XmflowError):
    """Another process of a distributed run ended before its share was done: nobody's input is at fault."""

    exit_code = 1


class QuestionSetAside(XmflowError):
    """One question cannot be used; the run goes on without it and records the reason."""
