"""A multimodal model is read through its text decoder, which is loaded alone."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from theodolite.core.errors import UserError
from theodolite.models.load import load
from theodolite.models.model import Model
from theodolite.toys.tiny_models import byte_tokenizer, tiny_multimodal


def multimodal(folder: Path) -> Path:
    tiny_multimodal().save_pretrained(folder)
    byte_tokenizer().save_pretrained(folder)
    return folder


def test_the_text_decoder_of_a_multimodal_model_is_loaded_alone(tmp_path: Path) -> None:
    whole, model = tiny_multimodal(), Model.from_pretrained(multimodal(tmp_path))
    assert model.network.module.config.model_type == "gemma3_text"
    assert not [name for name, _ in model.network.module.named_parameters() if "vision" in name]
    tokens = model.tokens(["the old mill"])
    assert torch.equal(model.run(tokens).logits, whole(input_ids=tokens.ids).logits)
    assert model.site("model.language_model.layers.1.output") == model.site("blocks.1.resid_post")
    with pytest.raises(UserError, match="give its folder or its Hugging Face id"):
        Model.from_pretrained(whole, tokenizer=byte_tokenizer())


def test_other_tensors_of_a_multimodal_model_are_still_refused(tmp_path: Path) -> None:
    file = multimodal(tmp_path) / "model.safetensors"
    tensors = load_file(file)
    save_file(tensors | {"audio_tower.weight": torch.ones(3)}, file, {"format": "pt"})
    with pytest.raises(UserError, match=r"hold 1 tensor \(audio_tower.weight\)"):
        load(tmp_path)
    tensors.pop("language_model.model.layers.1.mlp.up_proj.weight")
    save_file(tensors, file, {"format": "pt"})
    with pytest.raises(UserError, match="lack 1 tensor"):
        load(tmp_path)
