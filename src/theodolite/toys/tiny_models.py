"""Random transformers models, one per family and small enough for a test, and a tokenizer that needs no file."""

from typing import Any

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    Gemma3Config,
    Gemma3ForConditionalGeneration,
    PreTrainedTokenizerFast,
)

from theodolite.core.errors import unknown

SPECIAL = ("<|pad|>", "<|im_start|>", "<|im_end|>")
_CHATML = (
    "{% for message in messages %}<|im_start|>{{ message['role'] }}\n{{ message['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
_SIZE = {
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 8,
    "vocab_size": 260,
    "max_position_embeddings": 512,
    "pad_token_id": 0,
    "bos_token_id": None,
    "eos_token_id": 2,
}
# both kinds of block: by default the first five of a Gemma 3 see a window only
_GEMMA = {
    "sliding_window": 8,
    "query_pre_attn_scalar": 8,
    "layer_types": ["sliding_attention", "full_attention", "sliding_attention"],
}
_SETTINGS: dict[str, dict[str, Any]] = {
    "llama": {},
    "mistral": {"sliding_window": None},
    "smollm3": {},
    "qwen2": {},
    "qwen3": {},
    "gemma": {},
    # soft caps low enough to bend these small numbers, and a window shorter than most texts
    "gemma2": _GEMMA | {"attn_logit_softcapping": 1.0, "final_logit_softcapping": 2.0},
    "gemma3_text": _GEMMA,
    "gpt2": {"n_embd": 32, "n_inner": 48, "n_layer": 3, "n_head": 4, "n_positions": 512},
    "gpt_neox": {"use_parallel_residual": True},
    "gpt_neox_sequential": {"use_parallel_residual": False},
}
FAMILIES = tuple(_SETTINGS)


def tiny_model(family: str = "llama", seed: int = 0) -> Any:
    """A random model of three blocks in float32; the same seed gives the same weights.

    >>> tiny_model("gpt2").config.n_layer
    3
    """
    if family not in _SETTINGS:
        raise unknown("family", family, _SETTINGS)
    config = AutoConfig.for_model(family.removesuffix("_sequential"), **_SIZE | _SETTINGS[family])
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = AutoModelForCausalLM.from_config(config, dtype=torch.float32)
        for parameter in model.parameters():
            # library defaults leave biases and norms without effect and states near zero: nothing would be tested
            parameter.data.add_(torch.randn_like(parameter), alpha=0.15)
    return model.eval()


def tiny_multimodal(seed: int = 0) -> Any:
    """A random Gemma 3 that reads images beside text, its text decoder that of `tiny_model("gemma3_text", seed)`.

    >>> type(tiny_multimodal()).__name__
    'Gemma3ForConditionalGeneration'
    """
    eye = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
    text = tiny_model("gemma3_text", seed)
    config = Gemma3Config(
        text_config=text.config.to_dict(),
        vision_config=eye | {"image_size": 28, "patch_size": 14},
        mm_tokens_per_image=4,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = Gemma3ForConditionalGeneration(config)
    model.model.language_model.load_state_dict(text.model.state_dict())
    return model.eval()


def byte_tokenizer() -> PreTrainedTokenizerFast:
    """One token per byte, three special tokens, a ChatML template, no BOS.

    >>> byte_tokenizer()("hi")["input_ids"]
    [74, 75]
    """
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = {token: i for i, token in enumerate([*SPECIAL, *alphabet])}
    core = Tokenizer(models.BPE(vocabulary, []))
    core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    core.decoder = decoders.ByteLevel()
    pad, start, end = SPECIAL
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=core, pad_token=pad, bos_token=start, eos_token=end, clean_up_tokenization_spaces=False
    )
    tokenizer.chat_template = _CHATML
    return tokenizer
