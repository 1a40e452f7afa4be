"""Models whose one stack is a decoder, and whose prompt holds the image's features among the words."""

from typing import Protocol

import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float, Int

from xmflow_jax.nn.interfaces import Stack
from xmflow_jax.nn.pictures import features_in_order


class Decoder(Stack, Protocol):
    """A stack that words enter, and that next words are read off."""

    def norm(self, x: Float[Array, "*batch width"]) -> Float[Array, "*batch width"]: ...

    def unembed(self, x: Float[Array, "*batch width"]) -> Float[Array, "*batch vocabulary"]: ...


class ImageInPrompt(nnx.Module):
    """What such models share behind their images' features (`nn.interfaces.Model.visual`, which each has of its own).

    Attributes:
        language_model: the decoder.
        image_token: the id that marks an image position in a prompt.
    """

    language_model: Decoder
    image_token: int

    @property
    def stacks(self) -> tuple[Decoder, ...]:
        """The decoder alone."""
        return (self.language_model,)

    def enter(
        self,
        stack: int,
        tokens: Int[Array, "batch position"],
        ids: Int[Array, "batch axis position"],
        features: Float[Array, "batch visual model"],
        before: Float[Array, "batch source model"] | None = None,
    ) -> Float[Array, "batch position model"]:
        """Word embeddings, with the features (all images of a prompt, in order) at its image positions."""
        is_image = tokens == self.image_token
        words = self.language_model.embed(jnp.where(is_image, 0, tokens), ids)
        return features_in_order(words, is_image, features)

    def added(
        self, stack: int, tokens: Int[Array, "batch position"], features: Float[Array, "batch visual model"]
    ) -> Float[Array, "batch position added"] | None:
        """Nothing: the features enter the first block alone."""
        return None

    def norm(self, x: Float[Array, "*batch width"]) -> Float[Array, "*batch width"]:
        """The norm before the head."""
        return self.language_model.norm(x)

    def unembed(self, x: Float[Array, "*batch width"]) -> Float[Array, "*batch vocabulary"]:
        """The head alone, in float32 or wider."""
        return self.language_model.unembed(x)
