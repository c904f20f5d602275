"""The tokenizer: byte-level BPE (or characters) trained on a deterministic sample, or a given `tokenizer.json`.

All documents are kept, unchanged. A document is in the sample by a hash of its partition and position alone, against a rate
that follows from the corpus's size, so the sample is the same for any number of workers.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from pydantic import Field, model_validator
from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers

from tokenmill.model.data.permutation import keys_for
from tokenmill.stages.report import StageRun, StageSummary
from tokenmill.stages.stage import Corpus, CorpusStage, Phase, TaskContext, reads_every

END_OF_TEXT = "<|endoftext|>"
TOKENIZER_FILE = "tokenizer.json"

GPT4_SPLIT = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}"
    r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
"""How GPT-4 (cl100k_base, published in OpenAI's tiktoken) cuts text before merging: numbers by three digits, words with at
most one leading character that is neither letter nor digit."""

SAMPLE_SCHEMA = pa.schema({"text": pa.string()})


class TrainedTokenizer(CorpusStage):
    """Publishes `tokenizer.json`, in the format of the `tokenizers` library."""

    version: ClassVar[int] = 1
    keeps_all: ClassVar[bool] = True

    path: Path | None = Field(None, description="A given tokenizer.json; nothing is trained.")
    kind: Literal["bpe", "character"] = Field("bpe", description="Byte-level BPE, or a token for each character.")
    vocab_size: int = Field(32768, ge=257, description="Tokens, special ones and the 256 bytes included.")
    split: Literal["gpt4", "gpt2"] = Field(
        "gpt4", description="How text is cut before merging: as GPT-4 or as GPT-2 do."
    )
    special_tokens: list[str] = Field([], description=f"Further special tokens; {END_OF_TEXT} is always the first.")
    min_frequency: int = Field(2, ge=1, description="Pairs seen less often are not merged.")
    sample_bytes: int = Field(
        134_217_728, ge=1, description="Text to train on in bytes (UTF-8): about so much, chosen by document hash."
    )

    @model_validator(mode="after")
    def _is_readable(self) -> TrainedTokenizer:
        if self.path is not None and not self.path.is_file():
            raise ValueError(f"there is no tokenizer file {str(self.path)!r}")
        return self

    def model_files(self) -> tuple[Path, ...]:
        """See `Stage`."""
        return (self.path,) if self.path else ()

    def phases(self) -> Sequence[Phase]:
        """See `CorpusStage`."""
        if self.path:
            return (Phase("given", self._publish_given, keys=_one_task, publishes=True),)
        return (
            Phase("sample", self._sample, reads_documents=True, uses_corpus=True),
            Phase(
                "train",
                self._train,
                keys=_one_task,
                reads=reads_every("sample"),
                publishes=True,
                whole_machine=True,
            ),
        )

    def _publish_given(self, context: TaskContext) -> None:
        assert self.path is not None
        tokenizer = load_tokenizer(self.path.read_bytes(), str(self.path))
        with context.create(TOKENIZER_FILE) as file:
            file.write(self.path.read_bytes())
        context.add_metrics(vocabulary=vocabulary_size(tokenizer))

    def _sample(self, context: TaskContext) -> None:
        part = context.corpus.parts[int(context.task)]
        total = sum(part.text_bytes for part in context.corpus.parts)
        rate = min(self.sample_bytes / total, 1.0) if total else 1.0
        taken = 0

        def chosen() -> Iterator[pa.RecordBatch]:
            nonlocal taken
            for documents in context.documents(["position", "text"]):
                hashes = document_hashes(part.name, documents.column("position").to_numpy(), "tokenizer sample")
                texts = documents.column("text").filter(pa.array(hashes < rate))
                taken += len(texts)
                yield pa.record_batch([texts], schema=SAMPLE_SCHEMA)

        context.write(chosen(), SAMPLE_SCHEMA)
        context.add_metrics(documents=taken)

    def _train(self, context: TaskContext) -> None:
        tables = (context.table(phase, task) for phase, task in context.corpus.every("sample"))
        texts = (text for table in tables for batch in table.to_batches() for text in batch.column("text").to_pylist())
        special = list(dict.fromkeys([END_OF_TEXT, *self.special_tokens]))
        make = train_byte_level_bpe if self.kind == "bpe" else train_characters
        tokenizer = make(texts, self, special)
        with context.create(TOKENIZER_FILE) as file:
            file.write(tokenizer.to_str(pretty=True).encode())
        context.add_metrics(vocabulary=vocabulary_size(tokenizer), vocabulary_asked=self.vocab_size)

    def left_unknown(self, name: str) -> str | None:
        """See `Stage`."""
        if self.path is not None:
            return None
        return f"How many tokens there would be: {name} would be trained on other documents."

    def summary(self, run: StageRun) -> StageSummary:
        """See `Stage`."""
        return StageSummary(
            notices=[
                f"{run.name}: has {metrics['vocabulary']:,} tokens, not {metrics['vocabulary_asked']:,}: there is too little "
                "text for more"
                for metrics in run.metrics.get("train", {}).values()
                if metrics["vocabulary"] < metrics["vocabulary_asked"]
            ]
        )


def _one_task(corpus: Corpus) -> Sequence[str]:
    return ("tokenizer",)


def document_hashes(partition: str, positions: npt.NDArray[Any], purpose: str) -> npt.NDArray[np.float64]:
    """A number in [0, 1) for each document, by its identity alone (SplitMix64 of Steele et al. 2014, keyed by a digest of
    the partition's name and the purpose, so that different purposes choose independently)."""
    key = hashlib.blake2b(f"{purpose}\0{partition}".encode(), digest_size=8).digest()
    hashes = keys_for(int.from_bytes(key, "little"), positions)
    return (hashes >> np.uint64(11)).astype(np.float64) / 2**53  # as many bits as a float64 holds


def train_byte_level_bpe(texts: Iterable[str], config: TrainedTokenizer, special: list[str]) -> Tokenizer:
    """Byte-level BPE (Sennrich et al. 2016; bytes as in Radford et al. 2019), trained by `tokenizers`."""
    tokenizer = Tokenizer(models.BPE())
    to_bytes = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=config.split == "gpt2")
    if config.split == "gpt4":
        tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
            [pre_tokenizers.Split(Regex(GPT4_SPLIT), "isolated"), to_bytes]
        )
    else:
        tokenizer.pre_tokenizer = to_bytes
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=config.vocab_size,
        min_frequency=config.min_frequency,
        special_tokens=special,
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    return tokenizer


def train_characters(texts: Iterable[str], config: TrainedTokenizer, special: list[str]) -> Tokenizer:
    """A token for each of the most frequent characters; the others become `<|unknown|>`."""
    counts = np.zeros(0x110000, np.int64)
    for text in texts:
        codes = np.frombuffer(text.encode("utf-32-le", "replace"), np.uint32)
        seen, times = np.unique(codes, return_counts=True)
        counts[seen] += times
    special = [*special, "<|unknown|>"]
    room = config.vocab_size - len(special)
    found = np.flatnonzero(counts)
    ranked = found[np.lexsort((found, -counts[found]))][:room]
    vocabulary = {token: number for number, token in enumerate([*special, *(chr(code) for code in sorted(ranked))])}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="<|unknown|>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Split(Regex(r"[\s\S]"), "isolated")
    tokenizer.normalizer = normalizers.Sequence([])
    tokenizer.decoder = decoders.Fuse()
    tokenizer.add_special_tokens(special)
    return tokenizer


def load_tokenizer(content: bytes, name: str) -> Tokenizer:
    """A `tokenizers` tokenizer. Raises ValueError where the bytes are not one, or it has no end-of-text token."""
    try:
        tokenizer = Tokenizer.from_buffer(content)
    except Exception as error:  # tokenizers raises bare Exception
        raise ValueError(f"{name} is no tokenizer.json of the tokenizers library: {error}") from error
    end_of_text(tokenizer, name)
    return tokenizer


def vocabulary_size(tokenizer: Tokenizer) -> int:
    """One more than the largest id (ids may have gaps)."""
    return max(tokenizer.get_vocab().values()) + 1


def end_of_text(tokenizer: Tokenizer, name: str = TOKENIZER_FILE) -> int:
    """The id that ends a document: `<|endoftext|>`, or `</s>` where a given tokenizer has only that.

    Raises ValueError where it has neither.
    """
    for token in (END_OF_TEXT, "</s>", "<|end_of_text|>", "<eos>"):
        number = tokenizer.token_to_id(token)
        if number is not None:
            return int(number)
    raise ValueError(f"{name} has no token that ends a document: add {END_OF_TEXT!r} to its special tokens")
