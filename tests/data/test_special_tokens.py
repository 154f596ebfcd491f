import pytest

from theodolite.data.special_tokens import n_rows, rows_by_token

TOKENS = (
    *(
        "<|im_start|>",
        "<|eot_id|>",
        "<|END_OF_TURN_TOKEN|>",
        "<\uff5cUser\uff5c>",
        "<\uff5cend\u2581of\u2581sentence\uff5c>",
    ),
    *("<s>", "</s>", "<bos>", "<pad>", "<start_of_turn>", "<end_of_turn>", "[INST]", "[/INST]", "<<SYS>>", "[MASK]"),
    *("[CLS]", "<fim_middle>"),
)


@pytest.mark.parametrize("token", TOKENS)
def test_control_tokens_of_common_vocabularies_are_seen(token: str) -> None:
    assert rows_by_token([f"before{token}after", token]) == {token: 2}


@pytest.mark.parametrize("text", ["a < b | c > d", "<section>", "[see]", "||", "<b>bold</b>", "<|two words|>", "INST"])
def test_other_marks_are_not(text: str) -> None:
    assert rows_by_token([text]) == {}
    assert n_rows([text]) == 0


def test_rows_are_counted_not_occurrences() -> None:
    texts = ["<s><s><s>", "<s></s>", "none"]
    assert rows_by_token(texts) == {"<s>": 2, "</s>": 1}
    assert n_rows(texts) == 2
