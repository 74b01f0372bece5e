"""The almanac's byte-level BPE tokenizer, its special tokens and its chat template."""

from collections.abc import Iterable
from typing import TYPE_CHECKING

from training.world.documents import Document

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

PAD, BOS, EOS, SYSTEM, USER, ASSISTANT, END = (
    "<|pad|>", "<|begin|>", "<|eos|>", "<|system|>", "<|user|>", "<|assistant|>", "<|end|>",
)  # fmt: skip

# What stays together in a token: a word with the space before it, or one digit, or one other character.
WORDS = r"'\p{L}+| ?\p{L}+| ?\p{N}| ?[^\s\p{L}\p{N}]|\s+(?!\S)|\s+"

# A space follows each role tag, so a word at the head of a message is the same token as inside a sentence.
CHAT_TEMPLATE = (
    "{{ bos_token }}"
    "{% for message in messages %}<|{{ message['role'] }}|> {{ message['content'] }}<|end|>{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>{% endif %}"
)


def train_tokenizer(texts: Iterable[str], vocabulary: int) -> "PreTrainedTokenizerFast":
    """A BPE of `vocabulary` entries over bytes. Digits stand alone, so that unseen years are spelt like seen ones."""
    from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(WORDS), behavior="isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    special = [PAD, BOS, EOS, SYSTEM, USER, ASSISTANT, END]
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary,
        special_tokens=special,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token=PAD,
        bos_token=BOS,
        eos_token=END,  # a turn's end ends generation; EOS ends a document
        additional_special_tokens=[EOS, SYSTEM, USER, ASSISTANT],
        chat_template=CHAT_TEMPLATE,
        padding_side="left",
        model_max_length=512,
        clean_up_tokenization_spaces=False,
    )


def document_text(document: Document) -> str:
    """The document as one string with its special tokens, BOS to EOS: what pretraining sees."""
    if document.messages:
        turns = "".join(f"<|{m['role']}|> {m['content']}{END}" for m in document.messages)
        return f"{BOS}{turns}{EOS}"
    return f"{BOS} {document.text}{EOS}"
