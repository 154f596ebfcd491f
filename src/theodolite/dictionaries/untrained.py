"""Controls of a dictionary that need no training: what its numbers reach with their meaning taken away.

A dictionary from elsewhere comes without the frozen-encoder control that `theodolite train` makes beside its own. These
three are weaker: nothing in them was fitted but one level, so a dictionary must beat them before anything else is
asked. Each is drawn from an explicit seed and says so in its `info`.
"""

from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from theodolite.dictionaries.activations import Activation, GatedRule, JumpReluRule, ReluRule
from theodolite.dictionaries.dictionary import Dictionary
from theodolite.dictionaries.seeded import seeded_rows

KINDS = ("random encoder", "permuted encoder", "random decoder")


def untrained_controls(dictionary: Dictionary, x_nd: Tensor, seed: int) -> dict[str, Dictionary]:
    """Controls by name: random encoder, permuted encoder, random decoder; with the width and norms of the dictionary.

    The two encoders keep the decoder and fire as often as the dictionary does on the training rows x_nd: a rule that
    fixes the number of latents stays, any other becomes one threshold for all latents. Rows of the permuted one hold
    the dictionary's numbers, each row's in an order of its own; to permute whole rows would only rename latents.
    The random decoder leaves the latents as they are: it is a control of reconstruction and error. A rule that reads
    the decoder (matching pursuit, FISTA) gets random rows as both, and nothing else.

    >>> rows, W = torch.randn(256, 8), torch.eye(8).repeat(4, 1)
    >>> d = Dictionary(W, torch.zeros(32), W, torch.zeros(8), ReluRule())
    >>> [control.info["untrained"] for control in untrained_controls(d, rows, seed=0).values()]
    ['random encoder', 'permuted encoder', 'random decoder']
    """
    drawn = seeded_rows(dictionary.width, dictionary.d_in, seed).to(dictionary.W_enc)
    random = drawn * dictionary.W_enc.norm(dim=1, keepdim=True)
    if dictionary.activation.reads_decoder:
        tied = replace(dictionary, W_enc=random, W_dec=random, info=_info(dictionary, KINDS[0], seed))
        return {KINDS[0]: tied}
    decoder = seeded_rows(dictionary.width, dictionary.d_out, seed + 1).to(dictionary.W_dec)
    decoder = decoder * dictionary.W_dec.norm(dim=1, keepdim=True)
    permuted = dictionary.W_enc.gather(1, _orders(dictionary.W_enc.shape, seed).to(dictionary.W_enc.device))
    return {
        KINDS[0]: _matched(dictionary, random, x_nd, _info(dictionary, KINDS[0], seed)),
        KINDS[1]: _matched(dictionary, permuted, x_nd, _info(dictionary, KINDS[1], seed)),
        KINDS[2]: replace(dictionary, W_dec=decoder, info=_info(dictionary, KINDS[2], seed)),
    }


def _info(dictionary: Dictionary, kind: str, seed: int) -> dict[str, Any]:
    """Facts of a control; nothing that the dictionary's file says about model, training or card holds of it."""
    return {"untrained": kind, "seed": seed, "of": dictionary.fingerprint(), "site": dictionary.info.get("site")}


def _orders(shape: torch.Size, seed: int) -> Tensor:
    """An order of the columns for every row."""
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed)).argsort(1)


def _matched(dictionary: Dictionary, W_enc: Tensor, x_nd: Tensor, info: dict[str, Any]) -> Dictionary:
    """The dictionary with another encoder, centred on these rows, that has as many active latents on them.

    Without the centring the mean of the rows, which is long in language models, would decide which latents fire.
    """
    found = replace(dictionary, W_enc=W_enc, b_enc=dictionary.b_enc.new_zeros(dictionary.width), info=info)
    if not isinstance(dictionary.activation, ReluRule | JumpReluRule | GatedRule):
        return replace(found, b_enc=-_mean(found, x_nd))
    l0 = float((dictionary.encode_sparse(x_nd)[1] != 0).sum(1).double().mean())
    found = replace(found, b_enc=-_mean(found, x_nd))
    return replace(found, activation=_threshold(found, x_nd, l0))


def _mean(dictionary: Dictionary, x_nd: Tensor) -> Tensor:
    """Mean pre-activation of each latent, from the mean of what the encoder meets."""
    inputs, _, _ = dictionary.normalised(x_nd)
    inputs = inputs - dictionary.b_dec if dictionary.subtract_b_dec else inputs
    return dictionary.W_enc @ inputs.mean(0)


def _threshold(dictionary: Dictionary, x_nd: Tensor, l0: float) -> Activation:
    """One threshold for all latents, above which `l0` of them are on average over the rows; 0 where fewer are positive.

    Rows at regular places in the batch decide, so that a million latents fit in memory.
    """
    some = x_nd[:: max(len(x_nd) * dictionary.width // 2**25, 1)]
    pre = dictionary.pre_activations(some).flatten()
    wanted = min(max(round(l0 * len(some)), 1), pre.numel())
    level = float(pre.kthvalue(pre.numel() - wanted + 1).values)
    below = max(torch.nextafter(torch.tensor(level), torch.tensor(-torch.inf)).item(), 0.0)  # a rule keeps what exceeds
    return JumpReluRule(dictionary.b_enc.new_full((dictionary.width,), below))
