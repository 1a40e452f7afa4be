"""LLaVA-OneVision (transformers `LlavaOnevisionForConditionalGeneration`; arXiv 2408.03326), single images: tiles of up
to six by six go through SigLIP and a projector; where their patches are too many, the grid is resampled."""

from dataclasses import dataclass
from typing import Final

from jaxtyping import Array, Float

from xmflow_jax.data.anyres import Canvas
from xmflow_jax.data.images import COLOURS
from xmflow_jax.families.llava_next.modeling import TiledLlava
from xmflow_jax.nn.clip import ClipVisionConfig
from xmflow_jax.nn.llama import LlamaConfig
from xmflow_jax.nn.pictures import blended

# Beside the colours of a prompt's tiles: the numbers of the patches that each position reads, and their shares.
READS: Final = "reads"
SHARES: Final = "shares"


@dataclass(frozen=True)
class LlavaOnevisionConfig:
    """A LLaVA-OneVision of any size.

    Attributes:
        canvases: (height, width) in pixels of the large pictures that an image is fitted to; multiples of a tile.
        most_tiles: the large picture's patches are resampled to at most about as many as these tiles hold.
        feature_layer: which of the tower's layers + 1 hidden states the projector reads (-1: behind the last block).
        image_token: the id that marks an image position in a prompt.
        projector_activation, projector_bias: of the two-layer projector.
    """

    vision: ClipVisionConfig
    text: LlamaConfig
    image_token: int
    canvases: tuple[Canvas, ...]
    most_tiles: int = 9
    feature_layer: int = -1
    projector_activation: str = "gelu"
    projector_bias: bool = True


class LlavaOnevision(TiledLlava):
    """Image positions of the prompt take the projected, resampled patches; everything after is the decoder's."""

    def visual(self, pixels: dict[str, Array]) -> Float[Array, "batch visual model"]:
        """Projected patches in the order of the image positions, the learned vector where a row ends.

        Args:
            pixels: `COLOURS` [batch, tile, height, width, 3], all tiles of a prompt; `READS` and `SHARES`
                [batch, visual, 4], what each position is made of (`data.anyres.blend_features`).
        """
        features = self.tile_features(pixels[COLOURS])
        return blended(features, pixels[READS], pixels[SHARES], self.image_newline[...])
