"""The roles: named sets of token positions of one prompt, in the first study's spelling.

Source: Cross-modal Information Flow in Multimodal LLMs (arXiv 2411.18620), released code, `block_description`.
"""

from typing import Final

from xmflow_jax.errors import OptionError

IMAGE: Final = "Image"
IMAGE_CENTRAL_OBJECT: Final = "Image Central Object"
IMAGE_WITHOUT_CENTRAL_OBJECT: Final = "Image Without Central Object"
IMAGE_PAD: Final = "Image Pad"
# Of an image that is read in several views: the whole of it in a small one, the tiles of a large one, and the positions
# that end the rows of its patches.
IMAGE_BASE: Final = "Image Base"
IMAGE_TILES: Final = "Image Tiles"
IMAGE_NEWLINE: Final = "Image Newline"
QUESTION: Final = "Question"
QUESTION_WITHOUT_OPTIONS: Final = "Question without Options"
TRUE_OPTION: Final = "True Option"
FALSE_OPTION: Final = "False Option"
CENTRAL_OBJECT: Final = "Central Object"
LAST: Final = "Last"
SYSTEM: Final = "System"
ALL: Final = "All"

ROLES: Final = (
    IMAGE,
    IMAGE_CENTRAL_OBJECT,
    IMAGE_WITHOUT_CENTRAL_OBJECT,
    IMAGE_PAD,
    IMAGE_BASE,
    IMAGE_TILES,
    IMAGE_NEWLINE,
    QUESTION,
    QUESTION_WITHOUT_OPTIONS,
    TRUE_OPTION,
    FALSE_OPTION,
    CENTRAL_OBJECT,
    LAST,
    SYSTEM,
    ALL,
)

# The roles that an image layout tells (`ImageLayout.views`).
VIEW_ROLES: Final = (IMAGE_BASE, IMAGE_TILES, IMAGE_NEWLINE)
# Those of families that end no row of patches.
SPLIT_VIEWS: Final = (IMAGE_BASE, IMAGE_TILES)

# The roles of image positions; where the image is read by cross-attention, these are the encoder's.
IMAGE_ROLES: Final = (IMAGE, IMAGE_CENTRAL_OBJECT, IMAGE_WITHOUT_CENTRAL_OBJECT, IMAGE_PAD, *VIEW_ROLES)

_BY_FOLDED_NAME: Final = {role.lower(): role for role in ROLES}


def parse_role(text: str) -> str:
    """The role that `text` names, in its canonical spelling; case and surrounding space do not matter.

    Raises:
        OptionError: no role has this name.
    """
    name = " ".join(text.split()).lower()
    if name not in _BY_FOLDED_NAME:
        raise OptionError(f"unknown role {text.strip()!r}; the roles are: {', '.join(ROLES)}")
    return _BY_FOLDED_NAME[name]
