"""The proof's model once more, in plain PyTorch: float64, one prompt, dense masks, one head after the other.

Written from the description of the model and the names of its tensors, without the program's code.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file

Masks = Mapping[str, np.ndarray]
NO_MASKS: Masks = {}


def visible(length: int, blocks: np.ndarray, span: int | None) -> torch.Tensor:
    """[target, source]: not behind the target, within the window, or of the same image."""
    seen = np.zeros((length, length), bool)
    for target in range(length):
        for source in range(length):
            near = span is None or target - source < span
            seen[target, source] = (source <= target and near) or 0 < blocks[target] == blocks[source]
    return torch.tensor(seen)


def rms(x: torch.Tensor, scale: torch.Tensor, eps: float) -> torch.Tensor:
    return x / torch.sqrt((x**2).mean(-1, keepdim=True) + eps) * scale


def head(
    logits: torch.Tensor, seen: torch.Tensor, value: torch.Tensor, edges: Mapping[str, torch.Tensor]
) -> torch.Tensor:
    """One head's weighted sums [target, width]; what becomes of an edge goes by its mode."""
    there = seen & ~edges["mask"]
    # A softmax of nothing is NaN.
    weights = torch.softmax(logits.masked_fill(~there, -torch.inf), -1).nan_to_num(0.0)
    out = weights.masked_fill(edges["zero"] | edges["mean"], 0.0) @ value
    for target in np.flatnonzero((edges["mean"] & there).any(-1).numpy()):
        averaged = edges["mean"][target] & there[target]
        out[target] += weights[target, averaged].sum() * value[averaged].mean(0)
    return out


class Reference:
    """A checkpoint in the layout "hub", and its plain pass."""

    def __init__(self, folder: Path) -> None:
        self.tensors = {name: one.double() for name, one in load_file(folder / "model.safetensors").items()}
        self.config = json.loads((folder / "config.json").read_text())
        self.text: dict[str, Any] = self.config["text_config"]
        self.vision: dict[str, Any] = self.config["vision_config"]

    def linear(self, name: str, x: torch.Tensor) -> torch.Tensor:
        return torch.nn.functional.linear(x, self.tensors[f"{name}.weight"], self.tensors.get(f"{name}.bias"))

    def norm(self, name: str, x: torch.Tensor) -> torch.Tensor:
        return rms(x, self.tensors[f"{name}.weight"], self.text["rms_norm_eps"])

    def image_features(self, picture: torch.Tensor) -> torch.Tensor:
        """Of one picture [height, width, 3]: CLIP's last hidden state without the class token, projected."""
        tower, vision = "vision_tower.vision_model", self.vision

        def at(name: str) -> torch.Tensor:
            return self.tensors[f"{tower}.{name}"]

        def norm(name: str, x: torch.Tensor) -> torch.Tensor:
            own = at(f"{name}.weight"), at(f"{name}.bias")
            return torch.nn.functional.layer_norm(x, x.shape[-1:], *own, vision["layer_norm_eps"])

        kernel = at("embeddings.patch_embedding.weight")
        patches = torch.nn.functional.conv2d(picture.permute(2, 0, 1)[None], kernel, stride=vision["patch_size"])
        x = torch.cat([at("embeddings.class_embedding")[None], patches[0].flatten(1).T])
        x = norm("pre_layrnorm", x + at("embeddings.position_embedding.weight"))
        heads = vision["num_attention_heads"]
        for layer in range(vision["num_hidden_layers"]):
            block = f"encoder.layers.{layer}"
            normed = norm(f"{block}.layer_norm1", x)
            query, key, value = (
                self.linear(f"{tower}.{block}.self_attn.{name}_proj", normed).view(len(x), heads, -1).transpose(0, 1)
                for name in "qkv"
            )
            weights = torch.softmax(query @ key.transpose(1, 2) * query.shape[-1] ** -0.5, -1)
            mixed = (weights @ value).transpose(0, 1).reshape(len(x), -1)
            x = x + self.linear(f"{tower}.{block}.self_attn.out_proj", mixed)
            inner = self.linear(f"{tower}.{block}.mlp.fc1", norm(f"{block}.layer_norm2", x))
            x = x + self.linear(f"{tower}.{block}.mlp.fc2", inner * torch.sigmoid(1.702 * inner))
        return self.linear("projector", x[1:])

    def rotated(self, x: torch.Tensor, ids: np.ndarray) -> torch.Tensor:
        """Queries or keys [position, head, width]: pair i turns by the id of the axis whose section holds i."""
        width, sections = self.text["head_dim"], self.text["mrope_section"]
        axes = [axis for axis, count in enumerate(sections) for _ in range(count)]
        out = torch.empty_like(x)
        for pair, axis in enumerate(axes):
            angle = torch.tensor(ids[axis], dtype=torch.float64) * self.text["rope_theta"] ** (-2 * pair / width)
            cos, sin = angle.cos()[:, None], angle.sin()[:, None]
            first, second = x[..., pair], x[..., pair + width // 2]
            out[..., pair], out[..., pair + width // 2] = first * cos - second * sin, second * cos + first * sin
        return out

    def attention(self, layer: int, x: torch.Tensor, ids: np.ndarray, blocks: np.ndarray, edges: Masks) -> torch.Tensor:
        block, text, length = f"language_model.model.layers.{layer}.self_attn", self.text, len(x)
        query, key, value = (
            self.linear(f"{block}.{name}_proj", x).view(length, -1, text["head_dim"]) for name in "qkv"
        )
        query, key = self.rotated(query, ids), self.rotated(key, ids)
        seen = visible(length, blocks, text["sliding_window"] if layer % 2 else None)
        heads, each = text["num_attention_heads"], text["num_attention_heads"] // text["num_key_value_heads"]
        none, cap = np.zeros((heads, length, length), bool), text["attn_logit_softcapping"]
        parts = []
        for number in range(heads):
            own = number // each
            logits = query[:, number] @ key[:, own].T * text["head_dim"] ** -0.5
            mine = {
                mode: torch.tensor(edges[mode][layer, number] if mode in edges else none[number])
                for mode in ("mask", "zero", "mean")
            }
            parts.append(head(cap * torch.tanh(logits / cap), seen, value[:, own], mine))
        return self.linear(f"{block}.o_proj", torch.cat(parts, -1))

    @torch.no_grad()
    def logits(
        self,
        tokens: np.ndarray,
        pixels: np.ndarray,
        ids: np.ndarray,
        blocks: np.ndarray,
        edges: Masks = NO_MASKS,
        silenced: Mapping[str, np.ndarray] | None = None,
        words: int = 0,
    ) -> np.ndarray:
        """Logits [position, word] of one prompt.

        Args:
            pixels: of its images [image, height, width, 3].
            edges: by mode, the edges that a knockout is about [layer, head, target, source].
            silenced: by sublayer, "self" or "mlp", where nothing is added [layer, position].
            words: so many tokens at the end are words, whatever their ids.
        """
        silenced, length = silenced or {}, len(tokens)
        image = np.flatnonzero((tokens == self.config["image_token"]) & (np.arange(length) < length - words))
        x = self.tensors["language_model.model.embed_tokens.weight"][torch.tensor(tokens.astype(np.int64))].clone()
        x[image] = torch.cat([self.image_features(torch.tensor(picture).double()) for picture in pixels])
        for layer in range(self.text["num_hidden_layers"]):
            block = f"language_model.model.layers.{layer}"
            keep = {
                name: torch.tensor(~silenced[name][layer] if name in silenced else np.ones(length, bool))[:, None]
                for name in ("self", "mlp")
            }
            attended = self.attention(layer, self.norm(f"{block}.input_layernorm", x), ids, blocks, edges)
            x = x + keep["self"] * self.norm(f"{block}.post_attention_layernorm", attended)
            normed = self.norm(f"{block}.pre_feedforward_layernorm", x)
            gate = torch.nn.functional.silu(self.linear(f"{block}.mlp.gate_proj", normed))
            inner = self.linear(f"{block}.mlp.down_proj", gate * self.linear(f"{block}.mlp.up_proj", normed))
            x = x + keep["mlp"] * self.norm(f"{block}.post_feedforward_layernorm", inner)
        out: np.ndarray = self.linear("language_model.lm_head", self.norm("language_model.model.norm", x)).numpy()
        return out
