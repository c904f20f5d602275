"""Memory-mapped token shards as training samples.

Sample k is a pure function of the dataset's fingerprint, the split, the seed and k: there is not an index to build or to store,
and which documents were in which step can be computed afterwards.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from tokenmill.model.data.batch import Windows
from tokenmill.model.data.mmap_shards import MappedShards, Numbers
from tokenmill.model.data.packing import Packing, pack
from tokenmill.model.data.permutation import key_of, keys_for, mix, permute
from tokenmill.model.data.sampler import SampleStream, shard_options
from tokenmill.model.data.shard_format import file_checksum, read_card


@dataclass(frozen=True)
class Sources:
    """Which documents are in samples, one entry a piece of a document, ordered by row and place in it; all shape (pieces,).

    `rows`: index of the sample. `datasets`: number of the dataset (0 except in mixtures). `shards`: number of the shard in its
    split (`TokenDataset.shard_name`). `documents`: number of the document in its shard, the row of the shard's documents
    table. `tokens`: how many of the sample's targets are from it.
    """

    rows: Numbers
    datasets: Numbers
    shards: Numbers
    documents: Numbers
    tokens: Numbers


@dataclass(frozen=True)
class Coverage:
    """What becomes of the tokens of a split in one epoch.

    `tokens`: in the split. `seen`: those that are targets, each once. `left_out`: those that are not (less than a window).
    `padded`: places in windows without a token. `documents`: in the split; `cut`: those of which a part, but not the whole, is
    in some window.
    """

    tokens: int
    seen: int
    left_out: int
    padded: int
    documents: int
    cut: int


class TokenDataset(SampleStream):
    """One split of a dataset as samples of `context_length` inputs and as many targets, each one token ahead.

    The split is a ring of tokens: a document ends where the last token meets the first. An epoch has

    * `order: random`: tokens // context_length windows, one after the other from an offset that differs from epoch to epoch,
      in the order of a keyed permutation. Every token is a target once, except for a rest shorter than a window.
    * `order: sequential`: windows in order, so that every token is a target once; the last is padded. The first token's input
      is the end-of-text token at the end of the ring.
    * `packing: best_fit`: windows made of documents that are cut only where they are longer (see `model.data.packing`), the
      same windows in every epoch, in either order. Every token is a target once; the input before a document is the end-of-text
      token before it. Opening reads every index.

    Iterating yields `model.data.batch.Batch`es; see `SampleStream` for ranks and resuming.
    """

    def __init__(
        self,
        path: Path | str,
        split: str = "train",
        context_length: int = 1024,
        *,
        batch_size: int = 1,
        order: Literal["random", "sequential"] = "random",
        packing: Literal["none", "best_fit"] = "none",
        documents: bool = False,
        seed: int = 0,
        epochs: int | None = None,
        rank: int | None = None,
        world_size: int | None = None,
        device: Any = None,
        prefetch: int = 2,
        tokenizer_hash: str | None = None,
        verify: bool = False,
    ) -> None:
        """Opens the dataset in folder `path`.

        `documents`: adds `positions`, `cu_seqlens` and `max_seqlen`. `epochs`: passes over the split; None for without end.
        `device`: batches are torch tensors there, pinned and copied ahead; None for numpy arrays. `prefetch`: batches made
        ahead; 0 for none. `tokenizer_hash`: of the tokenizer that the model was made for. `verify`: reads every token and
        compares checksums (2 s a GB). Raises ValueError, with what to do, where the files are not what the card says or the
        split is too small.
        """
        if order not in ("random", "sequential") or packing not in ("none", "best_fit"):
            raise ValueError(f"order is random or sequential, packing none or best_fit, not {order!r} and {packing!r}")
        if context_length < 1:
            raise ValueError(f"context_length is 1 token or more, not {context_length}")
        self.folder = Path(path)
        self.card = read_card(self.folder)
        self.split, self.context_length, self.order, self.packing = split, context_length, order, packing
        self.seed, self.documents = seed, documents
        self._check_tokenizer(tokenizer_hash)
        if split not in self.card["splits"]:
            raise ValueError(f"{self.folder}: has no split {split!r}; it has {', '.join(self.card['splits'])}")
        self.shards = MappedShards(self.folder, self.card, split, order == "sequential")
        self.tokens = self.shards.tokens
        if self.tokens < (context_length if order == "random" and packing == "none" else 1):
            raise ValueError(
                f"{self.folder}: split {split!r} has {self.tokens:,} tokens, less than a window of {context_length:,}: give a "
                "smaller context_length, or run the pipeline on more documents (or with a larger `validation` share)"
            )
        if verify:
            self.verify()
        self._packed = self._pack() if packing == "best_fit" else None
        if self._packed is not None:
            self.windows = len(self._packed)
        else:
            # all that are full, or with the last, which is padded
            self.windows = self.tokens // context_length if order == "random" else -(-self.tokens // context_length)
        self._key = key_of(self.card["fingerprint"], split, seed)
        sharding = shard_options(batch_size, rank, world_size, device, prefetch)
        super().__init__(sharding, None if epochs is None else epochs * self.windows)

    @property
    def vocab_size(self) -> int:
        """Ids that a model of this dataset must know."""
        return int(self.card["vocab_size"])

    @property
    def end_of_text(self) -> int:
        """The id with which every document ends."""
        return int(self.card["end_of_text"])

    def identity(self) -> dict[str, Any]:
        """See `SampleStream`."""
        return {
            "fingerprint": self.card["fingerprint"],
            "split": self.split,
            "context_length": self.context_length,
            "order": self.order,
            "packing": self.packing,
            "seed": self.seed,
        }

    def verify(self) -> None:
        """Reads every shard. Raises ValueError with all that is wrong."""
        problems = [
            f"{shard['name']}: {problem}"
            for number, shard in enumerate(self.shards.shards)
            for problem in self.shards.index(number).validate(self.end_of_text, shard["checksum"])
        ]
        if problems:
            raise ValueError(f"{self.folder}: {'; '.join(problems)}. Copy the dataset again, or run the pipeline again")

    def locate(self, samples: Numbers) -> Numbers:
        """Where samples begin: the place of their first input in the split, or with packing the number of their window."""
        if not len(samples):
            return samples
        first, last = int(samples.min()) // self.windows, int(samples.max()) // self.windows
        if first == last:  # nearly always, and faster: one key instead of one a sample
            epoch, index = np.array([first]), samples - first * self.windows
        else:
            epoch, index = np.divmod(samples, self.windows)
        if self.order == "random":
            index = permute(index, self.windows, keys_for(self._key, epoch))
        if self._packed is not None:
            return index
        places = self._offsets(epoch) + index * self.context_length
        return places - self.tokens * (places >= self.tokens)  # round the ring; faster than a modulo

    def gather(self, places: Numbers) -> Windows:
        """See `SampleStream`."""
        if self._packed is not None:
            return self._gather_packed(places, self._packed)
        tokens = self.shards.windows(places, self.context_length + 1)
        inputs, targets = tokens[:, :-1], tokens[:, 1:]
        starts = None
        if self.documents:
            starts = inputs == self.end_of_text
            starts[:, :1] = True  # what a window begins with was cut off its document
        return Windows(inputs, targets, self._target_counts(places), starts)

    def expect(self, places: Numbers) -> None:
        """See `SampleStream`."""
        if self._packed is None:
            self.shards.expect(places, self.context_length + 1)

    def reading(self) -> list[str]:
        """See `SampleStream`."""
        return [str(self.shards.path(number)) for number in np.unique(self.shards.reading).tolist()]

    def shard_name(self, number: int) -> str:
        """The name of a shard of `Sources.shards`, without suffix."""
        return str(self.shards.shards[number]["name"])

    def documents_in(self, samples: Numbers) -> Sources:
        """Which documents the targets of samples are from; `samples`: int64, shape (rows,)."""
        found = []
        for row, place in enumerate(self.locate(samples).tolist()):
            for start, count in self._targets(place):
                for shard, inside, length in self.shards.pieces(start, count):
                    numbers, tokens = self.shards.index(shard).documents_between(inside, inside + length)
                    row_and_shard = np.array([[row], [0], [shard]]).repeat(len(numbers), axis=1)
                    found.append(np.concatenate([row_and_shard, [numbers, tokens]]))
        return Sources(*np.concatenate([np.empty((5, 0), np.int64), *found], axis=1))

    def coverage(self, epoch: int = 0) -> Coverage:
        """What becomes of the split's tokens in an epoch. Reads every index, one at a time."""
        documents = sum(shard["documents"] for shard in self.shards.shards)
        if self._packed is not None:
            padded = self.windows * self.context_length - self.tokens
            return Coverage(self.tokens, self.tokens, 0, padded, documents, self._packed.cut)
        seen = min(self.windows * self.context_length, self.tokens)
        offset = int(self._offsets(np.array([epoch]))[0]) + 1  # the epoch's first target
        cut = 0
        for number, start in enumerate(self.shards.starts.tolist()):
            lengths = np.asarray(self.shards.index(number).lengths, np.int64)
            first = (start + np.cumsum(lengths) - lengths - offset) % self.tokens
            last = first + lengths - 1
            across = (first // self.context_length != last // self.context_length) & (first < seen)
            # beyond the last token the first window begins, whether or not a window ends there
            cut += int(np.count_nonzero(across | (last >= self.tokens)))
        padded = self.windows * self.context_length - seen
        return Coverage(self.tokens, seen, self.tokens - seen, padded, documents, cut)

    def _offsets(self, epoch: Numbers) -> Numbers:
        """The place of each epoch's first input: before the first token in sequential order, else anywhere."""
        if self.order == "sequential":
            return np.full(len(epoch), self.tokens - 1)
        # the complement, so that the offset and the permutation of an epoch, which has the key itself, are independent
        return (mix(~keys_for(self._key, epoch)) % np.uint64(self.tokens)).astype(np.int64)

    def _target_counts(self, places: Numbers) -> npt.NDArray[np.int32]:
        if self.order == "random":
            return np.full(len(places), self.context_length, np.int32)
        return np.minimum(self.tokens - (places + 1) % self.tokens, self.context_length).astype(np.int32)

    def _targets(self, place: int) -> list[tuple[int, int]]:
        """The targets of a window, as stretches of the split: (start, tokens)."""
        if self._packed is None:
            return [((place + 1) % self.tokens, int(self._target_counts(np.array([place]))[0]))]
        pieces = slice(*self._packed.first[place : place + 2].tolist())
        return list(zip(self._packed.starts[pieces].tolist(), self._packed.lengths[pieces].tolist(), strict=True))

    def _gather_packed(self, places: Numbers, packed: Packing) -> Windows:
        inputs = np.full((len(places), self.context_length), self.end_of_text, self.shards.dtype)
        targets = inputs.copy()
        document_starts = np.zeros(inputs.shape, np.bool_)
        first = packed.first[places]
        held = packed.first[places + 1] - first
        # of every piece of every window: its row, its number in the packing, and its column in the row
        rows = np.repeat(np.arange(len(places)), held)
        pieces = np.arange(len(rows)) + np.repeat(first - np.cumsum(held) + held, held)
        lengths = packed.lengths[pieces].astype(np.int64)
        target_counts = np.bincount(rows, lengths, minlength=len(places)).astype(np.int64)
        columns = np.cumsum(lengths) - lengths - np.repeat(np.cumsum(target_counts) - target_counts, held)
        # the token before a piece is its first input
        spans = self.shards.spans((packed.starts[pieces] - 1) % self.tokens, lengths + 1)
        for row, column, tokens in zip(rows.tolist(), columns.tolist(), spans, strict=True):
            inputs[row, column : column + len(tokens) - 1] = tokens[:-1]
            targets[row, column : column + len(tokens) - 1] = tokens[1:]
        document_starts[rows, columns] = True
        padded = np.flatnonzero(target_counts < self.context_length)
        document_starts[padded, target_counts[padded]] = (
            True  # padding is a segment too: attention needs one for every place
        )
        return Windows(inputs, targets, target_counts.astype(np.int32), document_starts if self.documents else None)

    def _pack(self) -> Packing:
        lengths = [np.asarray(self.shards.index(number).lengths) for number in range(len(self.shards.shards))]
        return pack(np.concatenate(lengths), self.context_length)

    def _check_tokenizer(self, expected: str | None) -> None:
        place = self.folder / self.card["tokenizer"]
        if not place.is_file():
            raise ValueError(f"{place}: is missing; copy the dataset's folder whole")
        if (found := file_checksum(place)) != self.card["tokenizer_hash"]:
            raise ValueError(
                f"{place}: is not the tokenizer that the shards were made with (its hash is {found}, the card says "
                f"{self.card['tokenizer_hash']}); put the right file there"
            )
        if expected is not None and expected != self.card["tokenizer_hash"]:
            raise ValueError(
                f"{self.folder}: was made with the tokenizer {self.card['tokenizer_hash']}, the model with {expected}: its ids "
                "mean something else. Give the pipeline the model's tokenizer.json (`tokenizer: {path: ...}`) and run it again"
            )
