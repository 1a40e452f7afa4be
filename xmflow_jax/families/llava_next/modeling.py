"""LLaVA-NeXT (transformers `LlavaNextForConditionalGeneration`; release notes of January 2024): every tile of an image
goes through CLIP and a projector by itself; the prompt holds the features of the small whole, then those of the large
picture row by row, with a learned vector at the end of each row."""

from dataclasses import dataclass
from typing import Final, Protocol, runtime_checkable

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
from xmflow_jax.nn.pictures import one_by_one, rearranged, side_by_side

# Beside the colours of a prompt's tiles: the number of the patch that each position reads.
READS: Final = "reads"


@dataclass(frozen=True)
class LlavaNextConfig:
    """A LLaVA-NeXT of any size.

    Attributes:
        canvases: (height, width) in pixels of the large pictures that an image is fitted to; multiples of a tile.
        feature_layer: which of the tower's layers + 1 hidden states the projector reads (-2: before the last block).
        image_token: the id that marks an image position in a prompt.
        projector_activation, projector_bias: of the two-layer projector.
    """

    vision: ClipVisionConfig
    text: LlamaConfig
    image_token: int
    canvases: tuple[Canvas, ...]
    feature_layer: int = -2
    projector_activation: str = "gelu"
    projector_bias: bool = True


@runtime_checkable
class TiledConfig(Protocol):
    """A configuration of a model whose images are cut into tiles: fields of `LlavaNextConfig`."""

    @property
    def vision(self) -> ClipVisionConfig: ...

    @property
    def text(self) -> LlamaConfig: ...

    @property
    def image_token(self) -> int: ...

    @property
    def canvases(self) -> tuple[Canvas, ...]: ...

    @property
    def feature_layer(self) -> int: ...

    @property
    def projector_activation(self) -> str: ...

    @property
    def projector_bias(self) -> bool: ...


class TiledLlava(ImageInPrompt):
    """Tower, projector, a learned newline and a decoder; each family's own is what its positions read."""

    def __init__(self, config: TiledConfig, *, dtype: DType = jnp.float32, rngs: nnx.Rngs) -> None:
        widths = config.vision.width, config.text.width
        self.vision_tower = ClipVision(config.vision, dtype=dtype, rngs=rngs)
        self.multi_modal_projector = LlavaProjector(
            widths, config.projector_activation, config.projector_bias, dtype=dtype, rngs=rngs
        )
        self.image_newline = nnx.Param(nnx.initializers.normal(0.02)(rngs.params(), (widths[1],), dtype))
        self.language_model = LlamaDecoder(config.text, dtype=dtype, rngs=rngs)
        self.image_token = config.image_token
        self.config = config

    def tile_features(self, tiles: Float[Array, "batch tile height width 3"]) -> Float[Array, "batch features model"]:
        """Projected patches of each prompt's tiles, one tile after the other; a class token is left out."""
        hidden = self.vision_tower.hidden_state(one_by_one(tiles), self.config.feature_layer)
        hidden = hidden[:, int(self.config.vision.class_token) :]
        return side_by_side(self.multi_modal_projector(hidden), len(tiles))


class LlavaNext(TiledLlava):
    """Image positions of the prompt take the projected patches of all tiles; everything after is the decoder's."""

    def visual(self, pixels: dict[str, Array]) -> Float[Array, "batch visual model"]:
        """Projected patches in the order of the image positions, the learned vector where a row ends.

        Args:
            pixels: `COLOURS` [batch, tile, height, width, 3], all tiles of a prompt, and `READS` [batch, visual], the
                number of the patch that each position reads (`data.anyres.read_features`).
        """
        return rearranged(self.tile_features(pixels[COLOURS]), pixels[READS], self.image_newline[...])
