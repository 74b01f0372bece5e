"""The tokenizer: nothing is lost, digits stand alone, a word is one token wherever it stands, the template fits."""

import re

import pytest

from training.tokenizer import ASSISTANT, BOS, END, EOS, PAD, SYSTEM, USER, document_text, train_tokenizer
from training.world.documents import Document
from training.world.world import load_world

VOCABULARY = 1200


@pytest.fixture(scope="module")
def documents():
    return list(load_world().documents(seed=1, n=600))


@pytest.fixture(scope="module")
def tokenizer(documents):
    return train_tokenizer((document_text(d) for d in documents), VOCABULARY)


def ids(tokenizer, text):
    return tokenizer(text, add_special_tokens=False)["input_ids"]


def test_documents_survive_the_round_trip(tokenizer, documents):
    for document in documents[:100]:
        text = document_text(document)
        assert tokenizer.decode(ids(tokenizer, text)) == text


@pytest.mark.parametrize(
    "text", ["", " ", "a  b\n\n\tc ", "Größe: 12½ ², 東京 🐦", "don't 'tis o'clock's", "x , y .", "<| user |>"]
)
def test_any_text_survives_the_round_trip(tokenizer, text):
    assert tokenizer.decode(ids(tokenizer, text)) == text


def test_the_vocabulary_is_full_and_nothing_is_unknown(tokenizer):
    assert len(tokenizer) == VOCABULARY
    assert tokenizer.unk_token is None
    assert len(ids(tokenizer, "🐦")) == 4


def test_digits_stand_alone(tokenizer):
    for token in tokenizer.get_vocab():
        assert len(re.findall(r"\d", token)) <= 1 and not re.search(r"\w\d|\d\w", token.replace("Ġ", " ")), token
    assert [tokenizer.decode([i]) for i in ids(tokenizer, " 1849.")] == [" 1", "8", "4", "9", "."]


def test_a_word_is_the_same_token_at_the_head_of_a_message_and_inside_a_sentence(tokenizer):
    (word,) = ids(tokenizer, " bird")
    for role in ("system", "user", "assistant"):
        message = {"role": role, "content": "bird"}
        assert ids(tokenizer, tokenizer.apply_chat_template([message], tokenize=False))[-2] == word
    assert word in ids(tokenizer, "Which bird is it?")
    # a statement begins so too
    assert ids(tokenizer, document_text(Document(text="bird")))[1] == word


def test_role_tags_and_ends_are_one_token_each(tokenizer):
    specials = (PAD, BOS, EOS, SYSTEM, USER, ASSISTANT, END)
    found = [ids(tokenizer, special) for special in specials]
    assert all(len(each) == 1 for each in found) and len({each[0] for each in found}) == len(specials)
    assert (tokenizer.pad_token, tokenizer.bos_token, tokenizer.eos_token) == (PAD, BOS, END)
    assert tokenizer.decode(ids(tokenizer, f"{USER} bird{END}"), skip_special_tokens=True) == " bird"


def test_the_chat_template_is_what_pretraining_saw(tokenizer, documents):
    for document in documents[:50]:
        if document.messages:
            whole = tokenizer.apply_chat_template(list(document.messages), tokenize=False)
            assert whole + EOS == document_text(document)
            asked = tokenizer.apply_chat_template(
                list(document.messages[:-1]), tokenize=False, add_generation_prompt=True
            )
            answer = document.messages[-1]["content"]
            assert f"{asked} {answer}{END}{EOS}" == document_text(document)
            # the prompt's tokens are a prefix of the conversation's
            n = len(ids(tokenizer, asked))
            assert ids(tokenizer, whole)[:n] == ids(tokenizer, asked)


def test_it_is_a_function_of_its_texts(tokenizer, documents):
    again = train_tokenizer((document_text(d) for d in documents), VOCABULARY)
    assert again.backend_tokenizer.to_str() == tokenizer.backend_tokenizer.to_str()


def test_it_is_the_same_when_saved_and_loaded(tokenizer, documents, tmp_path):
    from transformers import AutoTokenizer

    tokenizer.save_pretrained(tmp_path)
    loaded = AutoTokenizer.from_pretrained(tmp_path)
    texts = [document_text(document) for document in documents[:50]]
    assert (
        loaded(texts, add_special_tokens=False)["input_ids"] == tokenizer(texts, add_special_tokens=False)["input_ids"]
    )
    assert loaded.chat_template == tokenizer.chat_template
    assert (loaded.pad_token, loaded.eos_token, loaded.padding_side) == (PAD, END, "left")
