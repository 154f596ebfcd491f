"""Texts that hold a control token of a common vocabulary as written characters, such as `<|im_start|>` or `[INST]`."""

import re
from collections import Counter
from collections.abc import Iterable

# The families of the tokens that chat templates and encoders are made of: <|name|> (ChatML, Llama 3, Phi, Qwen), also
# with DeepSeek's full-width bars; <s>, <bos>, <pad> (SentencePiece); turns of Gemma; [INST] (Llama 2, Mistral); [CLS].
_SPECIAL = re.compile(
    r"<\|/?[A-Za-z0-9_]{1,40}\|>|<\uff5c[A-Za-z_\u2581]{1,40}\uff5c>"
    r"|</?s>|<(?:bos|eos|pad|unk|mask|cls|sep)>|<(?:start|end)_of_(?:turn|image)>|<fim_(?:prefix|middle|suffix|pad)>"
    r"|\[/?(?:INST|SYSTEM_PROMPT|AVAILABLE_TOOLS|TOOL_CALLS|TOOL_RESULTS)\]|<</?SYS>>"
    r"|\[(?:CLS|SEP|MASK|PAD|UNK|BOS|EOS)\]"
)


def rows_by_token(texts: Iterable[str]) -> dict[str, int]:
    """Number of texts that hold each such string, the most frequent first.

    >>> rows_by_token(["<|im_end|> and <|im_end|>", "if a <|im_end|> b", "[INST] hi", "a < b | c > d"])
    {'<|im_end|>': 2, '[INST]': 1}
    """
    found = Counter(token for text in texts for token in set(_SPECIAL.findall(text)))
    return dict(sorted(found.items(), key=lambda pair: (-pair[1], pair[0])))


def n_rows(texts: Iterable[str]) -> int:
    """Number of texts that hold at least one of them."""
    return sum(_SPECIAL.search(text) is not None for text in texts)
