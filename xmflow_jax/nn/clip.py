"""CLIP's vision transformer (transformers `CLIPVisionModel`; Radford et al. 2021, arXiv 2103.00020) and its siblings,
which differ in few places: ViT (`ViTModel`; Dosovitskiy et al. 2020, arXiv 2010.11929), SigLIP (`SiglipVisionModel`;
Zhai et al. 2023, arXiv 2303.15343) and InternViT (`InternVLVisionModel`; Chen et al. 2023, arXiv 2312.14238)."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float

from xmflow_jax.nn.attention import attend
from xmflow_jax.nn.layers import ACTIVATIONS, DType, LayerNorm, layer_slice, split_blocks, stack_blocks


@dataclass(frozen=True)
class ClipVisionConfig:
    """Sizes of a vision tower; `image_size` and `patch_size` in pixels. The defaults from `patch_bias` on are CLIP's.

    Attributes:
        patch_bias: the patch embedding has a bias (ViT, SigLIP).
        pre_norm: a norm before the first block (CLIP).
        final_norm: the norm after the last block is part of what others read (ViT); CLIP puts it on its pooled output
            alone.
        class_token: a learned position before the patches (CLIP, ViT, InternViT).
        closing_norm: there is a norm after the last block at all (InternViT has none).
        qkv_bias: queries, keys and values have biases.
        layer_scale: what a block's two halves add is multiplied by learned vectors (InternViT).
    """

    image_size: int
    patch_size: int
    width: int
    mlp_width: int
    layers: int
    heads: int
    norm_eps: float = 1e-5
    activation: str = "quick_gelu"
    patch_bias: bool = False
    pre_norm: bool = True
    final_norm: bool = False
    class_token: bool = True
    closing_norm: bool = True
    qkv_bias: bool = True
    layer_scale: bool = False

    @property
    def grid(self) -> int:
        """Patches along one side."""
        return self.image_size // self.patch_size

    @property
    def patches(self) -> int:
        return self.grid**2


class ClipEmbeddings(nnx.Module):
    """Patches, a class token before them where there is one, and learned positions."""

    def __init__(self, config: ClipVisionConfig, *, dtype: DType, rngs: nnx.Rngs) -> None:
        patch, width = config.patch_size, config.width
        normal = nnx.initializers.normal(0.02)
        if config.class_token:
            self.class_embedding = nnx.Param(normal(rngs.params(), (width,), dtype))
        self.patch_embedding = nnx.Param(normal(rngs.params(), (patch, patch, 3, width), dtype))
        positions = config.patches + config.class_token
        self.position_embedding = nnx.Param(normal(rngs.params(), (positions, width), dtype))
        if config.patch_bias:
            self.patch_bias = nnx.Param(jnp.zeros((width,), dtype))
        self.config = config

    def __call__(self, pixels: Float[Array, "batch height width 3"]) -> Float[Array, "batch positions model"]:
        grid, patch = self.config.grid, self.config.patch_size
        kernel = self.patch_embedding[...]
        # A stride-p convolution with a p x p kernel is one matmul over the flattened patches.
        pixels = pixels[:, : grid * patch, : grid * patch].astype(kernel.dtype)
        patches = pixels.reshape(-1, grid, patch, grid, patch, 3).transpose(0, 1, 3, 2, 4, 5)
        patches = patches.reshape(-1, grid * grid, patch * patch * 3)
        embedded = patches @ kernel.reshape(patch * patch * 3, -1)
        if self.config.patch_bias:
            embedded = embedded + self.patch_bias[...]
        if self.config.class_token:
            first = jnp.broadcast_to(self.class_embedding[...], (embedded.shape[0], 1, embedded.shape[2]))
            embedded = jnp.concatenate([first, embedded], axis=1)
        return embedded + self.position_embedding[...]


class ClipAttention(nnx.Module):
    """Full self-attention with biases."""

    def __init__(self, config: ClipVisionConfig, *, dtype: DType, rngs: nnx.Rngs) -> None:
        def linear(bias: bool) -> nnx.Linear:
            return nnx.Linear(config.width, config.width, use_bias=bias, param_dtype=dtype, rngs=rngs)

        self.q_proj, self.k_proj, self.v_proj = (
            linear(config.qkv_bias),
            linear(config.qkv_bias),
            linear(config.qkv_bias),
        )
        self.out_proj = linear(True)
        self.heads = config.heads

    def __call__(self, x: Float[Array, "batch positions model"]) -> Float[Array, "batch positions model"]:
        query, key, value = (
            proj(x).reshape(*x.shape[:-1], self.heads, -1) for proj in (self.q_proj, self.k_proj, self.v_proj)
        )
        return self.out_proj(attend(query, key, value, query.shape[-1] ** -0.5).reshape(x.shape))


class ClipMLP(nnx.Module):
    """Two linear layers around the configured activation."""

    def __init__(self, config: ClipVisionConfig, *, dtype: DType, rngs: nnx.Rngs) -> None:
        self.fc1 = nnx.Linear(config.width, config.mlp_width, param_dtype=dtype, rngs=rngs)
        self.fc2 = nnx.Linear(config.mlp_width, config.width, param_dtype=dtype, rngs=rngs)
        self.activation = config.activation

    def __call__(self, x: Float[Array, "batch positions model"]) -> Float[Array, "batch positions model"]:
        return self.fc2(ACTIVATIONS[self.activation](self.fc1(x)))


class LayerScale(nnx.Module):
    """A learned factor of each feature (Touvron et al. 2021, arXiv 2103.17239)."""

    def __init__(self, width: int, *, dtype: DType) -> None:
        self.scale = nnx.Param(jnp.ones((width,), dtype))

    def __call__(self, x: Float[Array, "*batch width"]) -> Float[Array, "*batch width"]:
        return x * self.scale[...]


class ClipBlock(nnx.Module):
    """Pre-norm transformer block."""

    def __init__(self, config: ClipVisionConfig, *, dtype: DType, rngs: nnx.Rngs) -> None:
        self.layer_norm1 = LayerNorm(config.width, config.norm_eps, dtype=dtype, rngs=rngs)
        self.self_attn = ClipAttention(config, dtype=dtype, rngs=rngs)
        self.layer_norm2 = LayerNorm(config.width, config.norm_eps, dtype=dtype, rngs=rngs)
        self.mlp = ClipMLP(config, dtype=dtype, rngs=rngs)
        self.scaled = config.layer_scale
        if config.layer_scale:
            self.layer_scale1 = LayerScale(config.width, dtype=dtype)
            self.layer_scale2 = LayerScale(config.width, dtype=dtype)

    def __call__(self, x: Float[Array, "batch positions model"]) -> Float[Array, "batch positions model"]:
        attended = self.self_attn(self.layer_norm1(x))
        x = x + (self.layer_scale1(attended) if self.scaled else attended)
        fed = self.mlp(self.layer_norm2(x))
        return x + (self.layer_scale2(fed) if self.scaled else fed)


class ClipVision(nnx.Module):
    """The tower. `pre_layrnorm` is spelt as in every published checkpoint."""

    def __init__(self, config: ClipVisionConfig, *, dtype: DType, rngs: nnx.Rngs) -> None:
        self.embeddings = ClipEmbeddings(config, dtype=dtype, rngs=rngs)
        if config.pre_norm:
            self.pre_layrnorm = LayerNorm(config.width, config.norm_eps, dtype=dtype, rngs=rngs)
        self.layers = stack_blocks(lambda r: ClipBlock(config, dtype=dtype, rngs=r), config.layers, rngs)
        if config.closing_norm:
            self.post_layernorm = LayerNorm(config.width, config.norm_eps, dtype=dtype, rngs=rngs)
        self.config = config

    def embed(self, pixels: Float[Array, "batch height width 3"]) -> Float[Array, "batch positions model"]:
        """What the first block reads."""
        x = self.embeddings(pixels)
        return self.pre_layrnorm(x) if self.config.pre_norm else x

    def output(self, pixels: Float[Array, "batch height width 3"]) -> Float[Array, "batch positions model"]:
        """What the published model calls its last hidden state."""
        x = self.hidden_state(pixels, -1)
        return self.post_layernorm(x) if self.config.final_norm else x

    def hidden_state(
        self, pixels: Float[Array, "batch height width 3"], index: int
    ) -> Float[Array, "batch positions model"]:
        """Hidden state `index` of the layers + 1 there are (0: before the first block), before `post_layernorm`.

        Blocks after it are not computed. Negative indexes count from the last, as in Python.
        """
        count = range(self.config.layers + 1)[index]
        block, stacked = split_blocks(self.layers)
        x = self.embed(pixels)
        # Indexing inside the scan, where slicing the stack before it would copy the weights.
        x, _ = jax.lax.scan(lambda x, index: (block(layer_slice(stacked, index))(x), None), x, jnp.arange(count))
        return x

    def hidden_states(
        self, pixels: Float[Array, "batch height width 3"]
    ) -> Float[Array, "states batch positions model"]:
        """All layers + 1 hidden states."""
        block, stacked = split_blocks(self.layers)
        x = self.embed(pixels)
        step: Callable[[Any, Any], Any] = lambda x, layer: (block(layer)(x), x)  # noqa: E731
        last, before = jax.lax.scan(step, x, stacked)
        return jnp.concatenate([before, last[None]])
