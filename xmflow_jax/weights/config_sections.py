"""Every key that a checkpoint's `config.json` may hold, and what becomes of it.

A key is read, must have one of a few values, or is known not to change what the study computes. A key that stands in
none of these tables is refused: it may switch on a computation that the models here do not perform.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

# Written into every part of a configuration by one version of transformers or another.
BOOKKEEPING = "names, provenance and storage; no part of the computation"
GENERATION = "settings of text generation; the study decodes greedily from the logits"
TRAINING = "initialisation and dropout; inference has neither"
LABELS = "labels of classification models"
EXECUTION = "how it is computed and what is returned, not what"

COMMON_HARMLESS: Mapping[str, str] = MappingProxyType(
    {
        **dict.fromkeys(
            ("_name_or_path", "architectures", "dtype", "torch_dtype", "transformers_version", "_commit_hash"),
            BOOKKEEPING,
        ),
        **dict.fromkeys(("tokenizer_class", "processor_class", "prefix"), BOOKKEEPING),
        **dict.fromkeys(
            (
                "bad_words_ids", "begin_suppress_tokens", "bos_token_id", "decoder_start_token_id", "diversity_penalty",
                "do_sample", "early_stopping", "encoder_no_repeat_ngram_size", "eos_token_id",
                "exponential_decay_length_penalty", "forced_bos_token_id", "forced_eos_token_id", "length_penalty",
                "max_length", "min_length", "no_repeat_ngram_size", "num_beam_groups", "num_beams",
                "num_return_sequences", "pad_token_id", "remove_invalid_values", "repetition_penalty", "sep_token_id",
                "suppress_tokens", "task_specific_params", "temperature", "top_k", "top_p", "typical_p",
            ),
            GENERATION,
        ),
        **dict.fromkeys(
            ("_num_labels", "finetuning_task", "id2label", "label2id", "num_labels", "problem_type"), LABELS
        ),
        **dict.fromkeys(("attention_dropout", "dropout", "initializer_factor", "initializer_range"), TRAINING),
        **dict.fromkeys(
            (
                "_attn_implementation_autoset", "attn_implementation", "chunk_size_feed_forward",
                "output_attentions", "output_hidden_states", "output_scores", "return_dict", "return_dict_in_generate",
                "tf_legacy_loss", "torchscript", "use_bfloat16", "use_cache",
            ),
            EXECUTION,
        ),
    }
)  # fmt: skip

COMMON_FIXED: Mapping[str, tuple[Any, ...]] = MappingProxyType(
    {
        "add_cross_attention": (False,),
        "cross_attention_hidden_size": (None,),
        "is_decoder": (False,),
        "is_encoder_decoder": (False,),
        "pruned_heads": ({}, None),
        "quantization_config": (None,),
        "tie_encoder_decoder": (False,),
    }
)


@dataclass(frozen=True)
class Section:
    """One part of the file.

    Attributes:
        name: its key in the file; empty for the outermost part.
        read: keys whose values reach the model's configuration.
        fixed: keys that must have one of these values.
        harmless: keys that do not matter, and why.
    """

    name: str
    read: frozenset[str]
    fixed: Mapping[str, tuple[Any, ...]]
    harmless: Mapping[str, str]


LLAVA = Section(
    name="",
    read=frozenset(
        {
            "image_token_id",
            "image_token_index",
            "model_type",
            "multimodal_projector_bias",
            "projector_hidden_act",
            "text_config",
            "tie_word_embeddings",
            "vision_config",
            "vision_feature_layer",
            "vision_feature_select_strategy",
        }
    ),
    # The original authors' checkpoints share the model type, not the layout.
    fixed={**COMMON_FIXED, "architectures": (["LlavaForConditionalGeneration"], None)},
    harmless={
        **COMMON_HARMLESS,
        "ignore_index": "the label that training leaves out",
        "image_seq_length": "the processor's; image positions follow from the tower's sizes",
        "vocab_size": "a copy of text_config.vocab_size, which the embedding's shape is checked against",
    },
)

TEXT = Section(
    name="text_config",
    read=frozenset(
        {
            "head_dim",
            "hidden_act",
            "hidden_size",
            "intermediate_size",
            "model_type",
            "num_attention_heads",
            "num_hidden_layers",
            "num_key_value_heads",
            "partial_rotary_factor",
            "rms_norm_eps",
            "rope_parameters",
            "rope_scaling",
            "rope_theta",
            "tie_word_embeddings",
            "vocab_size",
        }
    ),
    fixed={
        **COMMON_FIXED,
        "attention_bias": (False,),
        "mlp_bias": (False,),
        "sliding_window": (None,),
    },
    harmless={
        **COMMON_HARMLESS,
        "max_position_embeddings": "a limit; rotary angles are computed for the positions there are",
        "pretraining_tp": "how pretraining split the matrices; the products are the same",
    },
)

VISION = Section(
    name="vision_config",
    read=frozenset(
        {
            "hidden_act",
            "hidden_size",
            "image_size",
            "intermediate_size",
            "layer_norm_eps",
            "model_type",
            "num_attention_heads",
            "num_hidden_layers",
            "patch_size",
        }
    ),
    fixed={**COMMON_FIXED, "num_channels": (3,)},
    harmless={
        **COMMON_HARMLESS,
        "projection_dim": "of CLIP's contrastive head, which no decoder reads",
        "vocab_size": "of CLIP's text tower, which no decoder reads",
        "tie_word_embeddings": "the tower has no words",
    },
)

ENCODER_DECODER = Section(
    name="",
    read=frozenset({"cross_attention_scale", "decoder", "encoder", "keep_class_token", "model_type"}),
    fixed={
        **{key: values for key, values in COMMON_FIXED.items() if key != "is_encoder_decoder"},
        "architectures": (["VisionEncoderDecoderModel"], None),
        "is_encoder_decoder": (True,),
    },
    harmless={
        **COMMON_HARMLESS,
        # The decoder's own flag says what its head is; this one is about encoder and decoder, which share nothing.
        "tie_word_embeddings": "of the two parts, which have nothing to tie",
        "vocab_size": "a copy of decoder.vocab_size, which the embedding's shape is checked against",
    },
)

GPT2 = Section(
    name="decoder",
    read=frozenset(
        {
            "activation_function",
            "layer_norm_epsilon",
            "model_type",
            "n_embd",
            "n_head",
            "n_inner",
            "n_layer",
            "n_positions",
            "tie_word_embeddings",
            "vocab_size",
        }
    ),
    fixed={
        **COMMON_FIXED,
        "add_cross_attention": (True,),
        "is_decoder": (True,),
        "reorder_and_upcast_attn": (False,),
        "scale_attn_by_inverse_layer_idx": (False,),
        "scale_attn_weights": (True,),
        "n_special": (0,),
    },
    harmless={
        **COMMON_HARMLESS,
        **dict.fromkeys(("attn_pdrop", "embd_pdrop", "resid_pdrop", "gradient_checkpointing"), TRAINING),
        **dict.fromkeys(
            (
                "summary_activation", "summary_first_dropout", "summary_proj_to_labels", "summary_type",
                "summary_use_proj",
            ),
            "of a classification head, which a language model does not have",
        ),
        "n_ctx": "an older name of n_positions",
        "output_past": EXECUTION,
        "predict_special_tokens": "of the training of OpenAI's first GPT",
    },
)  # fmt: skip

CLIP_ENCODER = Section("encoder", VISION.read, VISION.fixed, VISION.harmless)

VIT_ENCODER = Section(
    name="encoder",
    read=VISION.read,
    fixed={**VISION.fixed, "qkv_bias": (True,)},
    harmless={
        **COMMON_HARMLESS,
        **dict.fromkeys(("attention_probs_dropout_prob", "hidden_dropout_prob"), TRAINING),
        **dict.fromkeys(("pooler_act", "pooler_output_size"), "of ViT's pooled output, which no decoder reads"),
        "encoder_stride": "of masked-image pretraining",
        "tie_word_embeddings": VISION.harmless["tie_word_embeddings"],
    },
)
