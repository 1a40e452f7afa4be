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
