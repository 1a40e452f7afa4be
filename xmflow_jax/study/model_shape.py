"""What a report must know of the model, read off its sites and the shapes of its parameters, whatever its family."""

from xmflow_jax.analysis.model_shape import ModelShape
from xmflow_jax.data.prompt import PreparedQuestion
from xmflow_jax.data.roles import IMAGE
from xmflow_jax.machine.partitioning import COLUMNS, HEADS
from xmflow_jax.nn.anatomy import NOTHING, OWN
from xmflow_jax.weights.load import ModelIdentity, abstract_model, shapes


def model_shape(identity: ModelIdentity, prompt: PreparedQuestion | None) -> ModelShape | None:
    """The model's language stack and a typical prompt in plain numbers; None where no question can be used."""
    if prompt is None:
        return None
    anatomy, keys = identity.anatomy, identity.family.keys(identity.config)
    partitioning = identity.family.partitioning(identity.config)
    leaves = shapes(abstract_model(identity.family, identity.config, identity.dtype)[1])
    (embedding,) = (rule.path for rule in keys.rules if rule.published == keys.embedding)
    tower, width = embedding[0], leaves[embedding].shape[-1]
    # Sizes of the language model's matrices along the axes that a mesh could split.
    split = {HEADS: [0], COLUMNS: [0]}
    for path, leaf in leaves.items():
        if path[0] == tower and path[-1] == "kernel":
            for axis, size in zip(partitioning.logical_axes(path, len(leaf.shape)), leaf.shape, strict=True):
                if axis in split:
                    split[axis].append(size)
    heads, kv_heads = anatomy.main.heads, partitioning.towers[tower].kv_heads
    mlp_width = max(split[COLUMNS])
    reads = [[site.reads for site in layer] for layer in anatomy.main.sites]
    crossing = tuple(layer for layer, own in enumerate(reads) if any(one not in (OWN, NOTHING) for one in own))
    image = int(prompt.roles[IMAGE].sum())
    return ModelShape(
        layers=anatomy.main.layers,
        width=width,
        heads=heads,
        kv_heads=kv_heads,
        head_width=max(split[HEADS]) // heads,
        mlp_width=mlp_width,
        image_positions=image,
        text_positions=len(prompt.token_ids) - (image if anatomy.image_in_prompt else 0),
        mlp_matrices=split[COLUMNS].count(mlp_width),
        number_bytes=2 if identity.dtype == "bfloat16" else 4,
        cross_attention_layers=crossing,
        both_attentions=any(OWN in reads[layer] for layer in crossing),
    )
