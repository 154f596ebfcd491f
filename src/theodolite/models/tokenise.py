"""Token ids of texts: control tokens come from the tokenizer and its chat template, never from a user's text."""

import json
import re
import secrets
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from functools import cache, lru_cache
from typing import Any

import numpy as np
from tokenizers import AddedToken, Tokenizer

from theodolite.core.errors import UserError

Chat = Sequence[Mapping[str, str]]
# What a broken or refusing template raises besides jinja2's own errors
_TEMPLATE_ERRORS = (TypeError, ValueError, LookupError, AttributeError, ArithmeticError)

_CLOCK = "_theodolite_clock"  # attribute of a tokenizer
_PRESENT = re.compile(r"""\bstrftime_now\s*\(\s*(["'])([^"'\\{}]*)\1\s*\)""")
_NAMED = re.compile(r"\bstrftime_now\b(?!\s+is\s)")  # wherever a template takes the function, not where it looks for it
_BYTE = re.compile(r"<0x[0-9A-Fa-f]{2}>")


def check_texts(texts: Sequence[Any], kind: str = "text") -> None:
    """Refuse what is no text, by its number: another type, or half a character (a lone surrogate)."""
    for i, text in enumerate(texts):
        if not isinstance(text, str):
            raise UserError(f"{kind} {i} is {type(text).__name__}, not str")
        try:
            text.encode()
        except UnicodeEncodeError as error:
            half = ascii(text[error.start])
            raise UserError(
                f"{kind} {i} holds half a character ({half}, a lone surrogate) at place {error.start}, which no "
                "tokenizer can read: replace it, for example by U+FFFD"
            ) from None


def control_tokens(tokenizer: Any) -> dict[str, int]:
    """The strings that a tokenizer reads as one control token each, with their ids.

    Those that it calls special, and markers such as `<think>` that only its chat template tells from other added
    tokens (of which Gemma has line breaks and HTML tags, which are text). Not the bytes `<0x0A>` that stand for
    characters outside a vocabulary: they are how text is read.
    """
    template = json.dumps(getattr(tokenizer, "chat_template", None) or "", ensure_ascii=False)
    found = dict(zip(tokenizer.all_special_tokens, tokenizer.all_special_ids, strict=True))
    for i, token in tokenizer.added_tokens_decoder.items():
        text = token.content
        marker = text[:1] in ("<", "[") and text[-1:] in (">", "]") and text in template
        if token.special or marker:
            found[text] = i
    return {text: i for text, i in found.items() if text and not _BYTE.fullmatch(text)}


def control_tokens_in(tokenizer: Any, texts: Sequence[str]) -> list[tuple[str, ...]]:
    """The strings of control tokens that each text holds, each once; they are read as the characters they are."""
    pattern = _pattern(tuple(control_tokens(tokenizer)))
    return [tuple(dict.fromkeys(pattern.findall(text))) for text in texts]


def encode_texts(tokenizer: Any, texts: Sequence[str], *, add_special_tokens: bool = True) -> list[list[int]]:
    """Token ids of texts; a control token's string in a text is read as text."""
    ids = tokenizer(list(texts), add_special_tokens=add_special_tokens, verbose=False)["input_ids"]
    for i in _careful(tokenizer, texts):
        ids[i] = _disguised(tokenizer).encode(texts[i], add_special_tokens=add_special_tokens).ids
    return ids


def ends_of_tokens(tokenizer: Any, texts: Sequence[str]) -> list[list[int]]:
    """End of each token of a text, in characters; tokens as `encode_texts` makes them, no special ones added."""
    found = tokenizer(list(texts), add_special_tokens=False, return_offsets_mapping=True, verbose=False)
    spans = found["offset_mapping"]
    for i in _careful(tokenizer, texts):
        spans[i] = _disguised(tokenizer).encode(texts[i], add_special_tokens=False).offsets
    return [[end for _, end in row] for row in spans]


def encode_chats(tokenizer: Any, chats: Sequence[Chat]) -> list[list[int]]:
    """Token ids of chats up to where the assistant answers; control tokens are those of the template alone.

    A rendering is tokenised as a whole, so that tokens that merge across the template's edge stay as the model would
    see them. Where a message holds the string of a control token, it is hidden while the template is rendered; the
    template's own control tokens are then given other names, which no text can hold.
    """
    careful = set(_careful(tokenizer, [" ".join(message["content"] for message in chat) for chat in chats]))
    ids: list[list[int]] = [[] for _ in chats]
    if plain := [i for i in range(len(chats)) if i not in careful]:
        rendered = render(tokenizer, [chats[i] for i in plain])
        rows = tokenizer(rendered, add_special_tokens=False, verbose=False)["input_ids"]
        for i, row in zip(plain, rows, strict=True):
            ids[i] = row
    for i in careful:
        ids[i] = _disguised(tokenizer).encode(_rendered_carefully(tokenizer, chats[i]), add_special_tokens=False).ids
    return ids


def encode_with_offsets(tokenizer: Any, text: str, *, chat: bool) -> tuple[list[int], np.ndarray]:
    """Token ids as `encode_texts` or, in a chat of one turn, `encode_chats` makes them, and where each token lies.

    Offsets (t, 2) are start and stop in characters of `text`; of a token outside of it they lie outside too.
    """
    careful, turn = bool(_careful(tokenizer, [text])), [{"role": "user", "content": text}]
    disguise = _renaming(tuple(control_tokens(tokenizer)), "c") if careful else str
    whole, begin = text, 0
    if chat:
        before, behind = (disguise(part) for part in template_around(tokenizer))
        whole = _rendered_carefully(tokenizer, turn) if careful else render(tokenizer, [turn])[0]
        inner = whole[len(before) : len(whole) - len(behind)]
        # a template may drop the spaces at the ends of a text
        begin = len(before) + len(inner) - len(inner.lstrip()) - (len(text) - len(text.lstrip()))
    if careful:
        found = _disguised(tokenizer).encode(whole, add_special_tokens=not chat)
        ids, offsets = found.ids, found.offsets
    else:
        row = tokenizer(whole, add_special_tokens=not chat, return_offsets_mapping=True, verbose=False)
        ids, offsets = row["input_ids"], row["offset_mapping"]
    return ids, np.array(offsets).reshape(-1, 2) - begin


def _rendered_carefully(tokenizer: Any, chat: Chat) -> str:
    """A chat as the disguised tokenizer reads it: control tokens of the template have names that no text can hold."""
    names = tuple(control_tokens(tokenizer))
    hide, disguise = _renaming(names, "h"), _renaming(names, "c")
    text = disguise(render(tokenizer, [[{**m, "content": hide(m["content"])} for m in chat]])[0])
    for number, name in enumerate(names):
        text = text.replace(_alias(number, "h"), name)
    return text


def set_clock(tokenizer: Any, moment: datetime) -> None:
    """Let the chat template of this tokenizer print this moment wherever it prints the date or the time."""
    setattr(tokenizer, _CLOCK, moment)


def clock(tokenizer: Any) -> datetime | None:
    """The moment that `set_clock` gave; None where a template prints the present."""
    found: datetime | None = getattr(tokenizer, _CLOCK, None)
    return found


def render(tokenizer: Any, chats: Sequence[Chat]) -> list[str]:
    """Chats as the text that the model reads, up to where the assistant answers."""
    from jinja2 import TemplateError

    template = getattr(tokenizer, "chat_template", None)
    if not template:
        raise UserError("this model's tokenizer has no chat template: use format='raw'")
    try:
        template = tokenizer.get_chat_template()  # of several, that which is named `default`
        return tokenizer.apply_chat_template(
            [list(c) for c in chats],
            chat_template=_at(template, clock(tokenizer)),
            tokenize=False,
            add_generation_prompt=True,
        )
    except (TemplateError, *_TEMPLATE_ERRORS) as error:
        begins = str(template)[:60]
        raise UserError(
            f"the chat template of this model's tokenizer ({begins!r}...) cannot render a user's turn: "
            f"{type(error).__name__}: {error}; mend the template, or use format='raw'"
        ) from error


def _at(template: str, moment: datetime | None) -> str:
    """The template with a macro in place of the function that prints the present, where it is asked in plain words.

    transformers hands no function of ours to a template, so what each format asks for is written into the macro.
    """
    asked = [form for _, form in _PRESENT.findall(template)]
    if moment is None or not asked or len(asked) < len(_NAMED.findall(template)):
        return template  # a format that is computed, or the function under another name: it prints the present
    answers = "".join(
        f"{{%- if f == {form!r} -%}}{{{{- {moment.strftime(form)!r} -}}}}{{%- endif -%}}" for form in sorted(set(asked))
    )
    # transformers drops the line break behind a block, so the template begins at the start of a line, as by itself
    return f"{{%- macro strftime_now(f) -%}}{answers}{{%- endmacro %}}\n{template}"


def template_around(tokenizer: Any) -> tuple[str, str]:
    """The text that a chat template puts before and behind the user's text, as it is rendered right now."""
    probe = "zeta7placeholder7zeta"  # letters and digits, which a template leaves as they are
    (rendered,) = render(tokenizer, [[{"role": "user", "content": probe}]])
    before, found, behind = rendered.partition(probe)
    whose = "the chat template of this model's tokenizer"
    if not found:
        does = "changes letters of the user's text" if probe in rendered.casefold() else "leaves out the user's text"
        raise UserError(f"{whose} {does}: mend the template, or use format='raw'")
    if probe in behind:
        raise UserError(f"{whose} shows the user's text more than once: mend the template, or use format='raw'")
    return before, behind


def changed_by_template(tokenizer: Any, texts: Sequence[str]) -> np.ndarray:
    """Return which texts a chat template renders otherwise than any text: (n) bool.

    True where the rendering is not what stands around every text with the text, or the text without the spaces at its
    ends, between: a template may drop, add or change words by what a text holds.
    """
    before, behind = template_around(tokenizer)
    rendered = render(tokenizer, [[{"role": "user", "content": text}] for text in texts])
    unchanged = [
        whole.startswith(before)
        and whole.endswith(behind)
        and whole[len(before) : len(whole) - len(behind)].strip() == text.strip()
        for whole, text in zip(rendered, texts, strict=True)
    ]
    return ~np.array(unchanged, dtype=bool)


def _careful(tokenizer: Any, texts: Sequence[str]) -> list[int]:
    """Texts that the tokenizer itself might read as control tokens: those with such a string; all, if it folds case."""
    if any(token.special and token.normalized for token in tokenizer.added_tokens_decoder.values()):
        return list(range(len(texts)))
    return [i for i, found in enumerate(control_tokens_in(tokenizer, texts)) if found]


def _disguised(tokenizer: Any) -> Tokenizer:
    """Copy of the tokenizer in which control tokens have names that no text holds."""
    backend = getattr(tokenizer, "backend_tokenizer", None)
    if backend is None:
        raise UserError(
            "a text holds the string of a control token, which this tokenizer, written in Python, cannot read as text: "
            "use the fast tokenizer (tokenizer.json), or take such texts out"
        )
    return _build_disguised(backend.to_str(), tuple(control_tokens(tokenizer).items()))


@lru_cache(maxsize=2)
def _build_disguised(serialised: str, control: tuple[tuple[str, int], ...]) -> Tokenizer:
    """Rename in the serialised form: among the added tokens, in the vocabulary (from which a model could take the whole
    string as a piece of text), and where the model names its token for unknown characters. Ids stay what they are.
    """
    alias = {name: _alias(number, "c") for number, (name, _) in enumerate(control)}
    form = json.loads(serialised) | {"padding": None, "truncation": None}
    model = form["model"]
    for token in form["added_tokens"]:
        token["content"] = alias.get(token["content"], token["content"])
    if isinstance(model["vocab"], dict):
        model["vocab"] = {alias.get(text, text): i for text, i in model["vocab"].items()}
    else:  # Unigram: pieces with their scores
        model["vocab"] = [[alias.get(text, text), score] for text, score in model["vocab"]]
    if isinstance(model.get("unk_token"), str):
        model["unk_token"] = alias.get(model["unk_token"], model["unk_token"])
    if "merges" in model:
        pairs = [pair.split(" ") if isinstance(pair, str) else pair for pair in model["merges"]]
        model["merges"] = [[a, b] for a, b in pairs if not {a, b, a + b} & alias.keys()]
    disguised = Tokenizer.from_str(json.dumps(form))
    # special by `all_special_tokens` alone: also these are split off before anything else reads the text
    disguised.add_special_tokens(
        [AddedToken(alias[name], normalized=False) for name, _ in control if disguised.token_to_id(alias[name]) is None]
    )
    for name, i in control:
        assert disguised.token_to_id(alias[name]) == i, f"{name!r} has another id in the disguised tokenizer"
    return disguised


@cache
def _nonce() -> str:
    """Random for each process, so that no text can be written to hold it; lower case, which no normaliser changes."""
    return secrets.token_hex(16)


def _alias(number: int, kind: str) -> str:
    return f"z{kind}{_nonce()}{number:05d}{kind}z"


def _renaming(names: tuple[str, ...], kind: str) -> Callable[[str], str]:
    """The function that replaces every control token's string in a text by its alias."""
    number = {name: i for i, name in enumerate(names)}
    return lambda text: _pattern(names).sub(lambda found: _alias(number[found[0]], kind), text)


@lru_cache(maxsize=8)
def _pattern(names: tuple[str, ...]) -> re.Pattern[str]:
    """Any of the names, the longest first; nothing where there are none."""
    return re.compile("|".join(map(re.escape, sorted(names, key=len, reverse=True))) or r"(?!)")
