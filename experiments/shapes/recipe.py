"""What the two shipped models are, and how each is trained. The only place where their numbers stand."""

from dataclasses import dataclass
from typing import Final

from xmflow_jax.data.sources.shapes.scenes import IMAGE_SIZE
from xmflow_jax.data.sources.shapes.tokenizer import vocabulary
from xmflow_jax.families.family import Family
from xmflow_jax.families.llava.modeling import LlavaConfig
from xmflow_jax.families.registry import LLAVA, VISION_ENCODER_DECODER
from xmflow_jax.families.vision_encoder_decoder.modeling import CrossAttentionConfig
from xmflow_jax.nn.clip import ClipVisionConfig
from xmflow_jax.nn.gpt2 import Gpt2Config
from xmflow_jax.nn.llama import LlamaConfig

PATCH_SIZE: Final = 16
LAYERS: Final = 12
WIDTH: Final = 96
HEADS: Final = 4

VISION: Final = ClipVisionConfig(
    IMAGE_SIZE, PATCH_SIZE, width=80, mlp_width=320, layers=4, heads=4, activation="quick_gelu"
)


@dataclass(frozen=True)
class VisionStage:
    """The tower learns to name, at every patch, the object there.

    Attributes:
        muon_rate, adam_rate: peak learning rates of block matrices and of everything else.
        centre_in_image: the object's middle is learnt in the picture's own coordinates, else from the patch's middle. A
            tower trained the second way forgets where in the picture a patch lies: a decoder that has the patches in
            its prompt knows from their order, one that reads them by cross-attention does not.
    """

    centre_in_image: bool
    steps: int = 1500
    scenes: int = 48
    muon_rate: float = 5e-3
    adam_rate: float = 2e-3


@dataclass(frozen=True)
class DecoderStage:
    """The decoder learns to answer; the tower is frozen.

    Attributes:
        scenes: of one step.
        questions: of each scene, by task.
        decay_from: share of the steps after which the learning rates fall linearly to nothing.
        alignment: weight of the loss that makes visual tokens name their object in the decoder's own words.
        sides: whether visual tokens also name the side of the picture that they lie on.
    """

    steps: int
    muon_rate: float
    questions: dict[str, int]
    decay_from: float
    sides: bool
    adam_rate: float = 2e-3
    scenes: int = 16
    warm_up: int = 100
    alignment: float = 0.3


@dataclass(frozen=True)
class Recipe:
    """One model and its training."""

    name: str
    family: Family
    config: LlavaConfig | CrossAttentionConfig
    vision: VisionStage
    decoder: DecoderStage
    seed: int = 0


RECIPES: Final = {
    recipe.name: recipe
    for recipe in (
        Recipe(
            "shapes-llava",
            LLAVA,
            LlavaConfig(
                VISION,
                LlamaConfig(
                    len(vocabulary()),
                    WIDTH,
                    mlp_width=2 * WIDTH,
                    layers=LAYERS,
                    heads=HEADS,
                    kv_heads=HEADS,
                    head_width=WIDTH // HEADS,
                    tied=True,
                ),
                image_token=len(vocabulary()) - 1,
                feature_layer=-1,
            ),
            VisionStage(centre_in_image=False),
            DecoderStage(
                steps=4200,
                muon_rate=3e-3,
                questions={
                    "ChooseAttr": 1,
                    "ChooseCat": 1,
                    "QueryAttr": 2,
                    "LogicalObj": 3,
                    "ChooseRel": 4,
                    "CompareAttr": 1,
                },
                decay_from=0.5,
                sides=True,
            ),
        ),
        Recipe(
            "shapes-crossattn",
            VISION_ENCODER_DECODER,
            CrossAttentionConfig(
                VISION,
                Gpt2Config(
                    len(vocabulary()),
                    WIDTH,
                    mlp_width=256,
                    layers=LAYERS,
                    heads=HEADS,
                    positions=64,
                    cross_scale="model_width",
                ),
                keep_class_token=False,
            ),
            VisionStage(centre_in_image=True),
            DecoderStage(
                steps=2000,
                muon_rate=6e-3,
                questions={
                    "ChooseAttr": 2,
                    "ChooseCat": 2,
                    "QueryAttr": 2,
                    "LogicalObj": 2,
                    "ChooseRel": 2,
                    "CompareAttr": 2,
                },
                decay_from=0.7,
                sides=True,
            ),
        ),
    )
}
