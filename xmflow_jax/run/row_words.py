"""Words that stand in result rows, for those who write rows and for those who read them."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

# What a row's knockout does: it blocks the edges of a pathway, all edges but a pathway's, or an output of a sublayer.
EDGES: Final = "edges"
KEEP_ONLY: Final = "keep-only"
OUTPUT: Final = "output"
KINDS: Final = (EDGES, KEEP_ONLY, OUTPUT)

# In which way it usually does so. Labels tell the mode of a row where it is another one.
USUAL_MODES: Final[Mapping[str, str]] = MappingProxyType({EDGES: "mask", KEEP_ONLY: "mask", OUTPUT: "zero"})

# The window style of the study's own figures; labels tell any other.
USUAL_STYLE: Final = "centred"

# What a row says in place of the one head that is blocked, where all that the study asks for are blocked at once.
TOGETHER: Final = -1
