"""LLaVA-OneVision (transformers `LlavaOnevisionForConditionalGeneration`; arXiv 2408.03326), single images: tiles of up
to six by six go through SigLIP and a projector; where their patches are too many, the grid is resampled."""

from dataclasses import dataclass
from typing import Final

import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float

from xmflow_jax.data.anyres import Canvas
from xmflow_jax.data.images import COLOURS
from xmflow_jax.families.llava.modeling import LlavaProjector
from xmflow_jax.nn.clip import ClipVision, ClipVisionConfig
from xmflow_jax.nn.image_in_prompt import ImageInPrompt
from xmflow_jax.nn.layers import DType
from xmflow_jax.nn.llama import LlamaConfig, LlamaDecoder
from xmflow_jax.nn.pictures import blended, one_by_one, side_by_side

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


class LlavaOnevision(ImageInPrompt):
    """Image positions of the prompt take the projected, resampled patches; everything after is the decoder's."""

    def __init__(self, config: LlavaOnevisionConfig, *, dtype: DType = jnp.float32, rngs: nnx.Rngs) -> None:
        widths = config.vision.width, config.text.width
        self.vision_tower = ClipVision(config.vision, dtype=dtype, rngs=rngs)
        self.multi_modal_projector = LlavaProjector(
            widths, config.projector_activation, config.projector_bias, dtype=dtype, rngs=rngs
        )
        self.image_newline = nnx.Param(nnx.initializers.normal(0.02)(rngs.params(), (widths[1],), dtype))
        self.language_model = LlamaDecoder(config.text, dtype=dtype, rngs=rngs)
        self.image_token = config.image_token
        self.config = config

    def visual(self, pixels: dict[str, Array]) -> Float[Array, "batch visual model"]:
        """Projected patches in the order of the image positions, the learned vector where a row ends.

        Args:
            pixels: `COLOURS` [batch, tile, height, width, 3], all tiles of a prompt; `READS` and `SHARES`
                [batch, visual, 4], what each position is made of (`data.anyres.blend_features`).
        """
        tiles = pixels[COLOURS]
        hidden = self.vision_tower.hidden_state(one_by_one(tiles), self.config.feature_layer)
        features = side_by_side(self.multi_modal_projector(hidden), len(tiles))
        return blended(features, pixels[READS], pixels[SHARES], self.image_newline[...])
