"""A model whose activation at every site is known: attention and MLP add constants to binary-coded embeddings."""

import torch
from torch import Tensor
from transformers import LlamaConfig, LlamaForCausalLM

from theodolite.core.site import PARTS, Site

VOCABULARY = 260
D_MODEL = 16
_BITS = 9
_ATTENTION, _MLP = 10, 12  # coordinates that only attention and only MLPs write


def planted_model(n_blocks: int = 4) -> LlamaForCausalLM:
    """A Llama in which block i's attention adds i + 1 to coordinate 10 and its MLP adds 100 (i + 1) to coordinate 12.

    Coordinates 0 to 8 of a token's embedding are the bits of its id. All sums are exact in float32, so that a site
    which is off by one block or one part differs by a whole number.
    """
    config = LlamaConfig(
        hidden_size=D_MODEL,
        intermediate_size=8,
        num_hidden_layers=n_blocks,
        num_attention_heads=2,
        vocab_size=VOCABULARY,
        max_position_embeddings=512,
        attention_bias=True,
        mlp_bias=True,
        pad_token_id=0,
        bos_token_id=None,
        eos_token_id=2,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = LlamaForCausalLM(config)
    model.model.embed_tokens.weight.data = planted_activation("embed", torch.arange(VOCABULARY))
    for i, block in enumerate(model.model.layers):
        block.self_attn.o_proj.weight.data.zero_()
        block.mlp.down_proj.weight.data.zero_()
        block.self_attn.o_proj.bias.data = _constant(_ATTENTION, i + 1)
        block.mlp.down_proj.bias.data = _constant(_MLP, 100 * (i + 1))
    return model.eval()


def planted_activation(site: Site | str, ids: Tensor, n_blocks: int = 4) -> Tensor:
    """Return the states of `planted_model` at a site for these token ids; ids (...) give states (..., 16).

    >>> planted_activation("blocks.1.resid_mid", torch.tensor(5)).int().tolist()
    [1, 0, 1, 0, 0, 0, 0, 0, 0, 0, 3, 0, 100, 0, 0, 0]
    """
    site = Site.parse(site)
    bits = torch.stack([(ids >> b) & 1 for b in range(_BITS)], dim=-1).float()
    state = torch.nn.functional.pad(bits, (0, D_MODEL - _BITS))
    if site.part == "embed":
        return state
    if site.part == "final_norm":
        state = planted_activation(Site(n_blocks - 1, "resid_post"), ids, n_blocks)
        return state * torch.rsqrt(state.square().mean(-1, keepdim=True) + 1e-6)
    i = site.block or 0
    if site.part in ("attn_out", "mlp_out"):
        one = _constant(_ATTENTION, i + 1) if site.part == "attn_out" else _constant(_MLP, 100 * (i + 1))
        return one.expand_as(state)
    after_attention = i + (PARTS.index(site.part) >= PARTS.index("resid_mid"))
    after_mlp = i + (site.part == "resid_post")
    attention, mlp = (n * (n + 1) / 2 for n in (after_attention, after_mlp))
    return state + _constant(_ATTENTION, attention) + _constant(_MLP, 100 * mlp)


def _constant(coordinate: int, value: float) -> Tensor:
    return torch.nn.functional.one_hot(torch.tensor(coordinate), D_MODEL).float() * value
