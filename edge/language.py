"""The language model of an export: llama.cpp over its C interface, fed with token ids and with features of pictures.

Features go in as embeddings, so that pictures are cut, positioned and encoded as the policy learned it, whatever stock
llama.cpp would do with them. Imports no torch. Private: llama_batch and llama_context_params as llama-cpp-python 0.3.36
declares them.
"""

import ctypes
import os
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np

from edge.runtime.library import load, messages
from edge.settings import Settings
from edge.slices import Floats, Piece, Prompt
from rlaif.errors import InputError, ModelError

DEFAULT = Settings()
WIDTH_KEY = "rlaif.embedding_width"  # the width of features, where an export padded that of the model with zeros
FLASH_ATTENTION = {"auto": -1, "off": 0, "on": 1}  # enum llama_flash_attn_type
KV_TYPES = {"f16": 1, "q4_0": 2, "q8_0": 8}  # enum ggml_type
NOT_LOADED = "cannot be loaded"
PIECE_BYTES = 256  # room for the text of a token; a longer one is asked for again


@dataclass(frozen=True)
class Generated:
    """A greedy answer.

    ids: without the token that ends it. logits: float32 [T, V], of each step; after "stop" the last step is the one of
    the end token. finish_reason: "stop", "length", or "followed".
    """

    ids: list[int]
    finish_reason: str
    logits: Floats | None
    prompt_tokens: int
    prompt_seconds: float
    seconds: float


class LanguageModel:
    """A GGUF file, loaded. One answer at a time; use it as a context manager, or call `close`.

    context: most tokens of a prompt and its answer together; None: as many as the model was trained on.
    Errors: InputError: no such file, or one that is cut short; ModelError: llama.cpp cannot load it, or there is no
    llama.cpp.
    """

    def __init__(self, file: Path, settings: Settings = DEFAULT, context: int | None = None) -> None:
        if not file.is_file():
            raise InputError(f"{file} is missing; write it with `make export-edge RUN={file.parent.parent}`")
        self._llama = llama = load(settings.build)
        self._file = file
        self._model = self._context = None
        options = llama.llama_model_default_params()
        options.use_extra_bufts = settings.repack
        self._model = llama.llama_model_load_from_file(str(file).encode(), options)
        if not self._model:
            raise self._failure(NOT_LOADED)
        self._vocabulary = llama.llama_model_get_vocab(self._model)
        self._embedding_width = int(llama.llama_model_n_embd(self._model))
        self.vocabulary_size = int(llama.llama_vocab_n_tokens(self._vocabulary))
        self.width = int(self.metadata(WIDTH_KEY) or self._embedding_width)
        self.context = min(context or 2**31, int(llama.llama_model_n_ctx_train(self._model)))
        self._context = llama.llama_init_from_model(self._model, self._context_options(settings))
        if not self._context:
            self.close()
            raise self._failure(f"cannot run with {settings}")
        self._batch_size = int(llama.llama_n_batch(self._context))

    def _context_options(self, settings: Settings) -> Any:
        options = self._llama.llama_context_default_params()
        options.n_ctx = self.context
        options.n_batch = min(settings.batch, self.context)
        options.n_ubatch = min(settings.ubatch, options.n_batch)
        options.n_outputs_max = 1  # otherwise memory is reserved for the logits of a whole batch
        options.n_threads = options.n_threads_batch = settings.threads or len(os.sched_getaffinity(0))
        options.flash_attn_type = FLASH_ATTENTION[settings.flash_attention]
        options.type_k = options.type_v = KV_TYPES[settings.kv_type]
        return options

    def generate(
        self,
        prompt: Prompt,
        features: Floats | None,
        max_tokens: int,
        follow: Sequence[int] | None = None,
        logits: bool = False,
    ) -> Generated:
        """Answer a prompt whose slices have these features [S, Q, D].

        follow: token ids that are fed in place of the greedy ones; the answer then has them and one further step, and
        its finish_reason is "followed". logits: return those of each step.
        Errors: InputError: the prompt does not fit the context, or the features do not fit the prompt or the model.
        """
        return self.feed(prompt.pieces(features), max_tokens, prompt.end_of_turn, follow, logits)

    def feed(
        self,
        pieces: Sequence[Piece],
        max_tokens: int,
        end: int | None = None,
        follow: Sequence[int] | None = None,
        logits: bool = False,
    ) -> Generated:
        """As `generate`, for token ids and embeddings in order. end: the token that ends an answer, as does any that
        the model declares to; None: nothing does, and the answer has `max_tokens` tokens, as for measuring.
        """
        length = sum(map(len, pieces))
        if not 0 < length < self.context:
            raise InputError(
                f"the prompt has {length:,} tokens with its picture, expected 1 to {self.context - 1:,} of "
                f"{self._file.name}; shorten the text, or give a smaller picture"
            )
        self._llama.llama_memory_clear(self._llama.llama_get_memory(self._context), True)
        start = time.perf_counter()
        for index, piece in enumerate(pieces):
            self._read(piece, is_last=index == len(pieces) - 1)
        read = time.perf_counter()
        limit = min(max_tokens if follow is None else len(follow), self.context - length)
        ids: list[int] = []
        rows = []
        finish_reason = "length" if follow is None else "followed"
        while True:
            row = self._logits()
            if logits:
                rows.append(row.copy())
            if len(ids) == limit:
                break
            token = int(row.argmax()) if follow is None else follow[len(ids)]
            if follow is None and end is not None and (token == end or self._ends(token)):
                finish_reason = "stop"
                break
            ids.append(token)
            if len(ids) == limit and follow is None:
                break
            self._read([token], is_last=True)
        done = time.perf_counter()
        return Generated(ids, finish_reason, np.stack(rows) if logits else None, length, read - start, done - read)

    def text(self, ids: Sequence[int]) -> str:
        """The text of token ids; special tokens have none."""
        return b"".join(map(self._piece, ids)).decode("utf-8", "replace")

    def metadata(self, key: str) -> str | None:
        """A value of the file's metadata as text; None where it has no such key."""
        buffer = ctypes.create_string_buffer(1024)
        length = self._llama.llama_model_meta_val_str(self._model, key.encode(), buffer, len(buffer))
        return None if length < 0 else buffer.value.decode("utf-8", "replace")

    def close(self) -> None:
        """Free the memory; the model cannot be used afterwards."""
        if self._context:
            self._llama.llama_free(self._context)
        if self._model:
            self._llama.llama_model_free(self._model)
        self._context = self._model = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _read(self, piece: Piece, is_last: bool) -> None:
        """Feed a piece of the prompt; is_last: the logits after its last token will be asked for."""
        for batch, count, ends in self._batches(piece):
            wanted = (ctypes.c_int8 * count)()
            wanted[count - 1] = is_last and ends
            batch.logits = wanted
            status = self._llama.llama_decode(self._context, batch)
            if status:
                raise self._failure(f"failed on a prompt (llama_decode returned {status})")

    def _batches(self, piece: Piece) -> Iterator[tuple[Any, int, bool]]:
        """Batches of at most `Settings.batch` tokens, each with its size and whether it is the last one. Positions are
        counted by llama.cpp.
        """
        is_ids = isinstance(piece, list)
        rows = np.array(piece, np.int32) if is_ids else self._padded(np.asarray(piece, np.float32))
        for start in range(0, len(rows), self._batch_size):
            part = np.ascontiguousarray(rows[start : start + self._batch_size])
            batch = self._llama.llama_batch()  # all of its pointers are null
            batch.n_tokens = len(part)
            if is_ids:
                batch.token = part.ctypes.data_as(ctypes.POINTER(ctypes.c_int32))
            else:
                batch.embd = part.ctypes.data_as(ctypes.POINTER(ctypes.c_float))
            yield batch, len(part), start + len(part) == len(rows)

    def _padded(self, rows: Floats) -> Floats:
        """Embeddings [T, D] -> [T, the width of the model]; an export that padded its weights pads with zeros."""
        if rows.ndim != 2 or rows.shape[1] != self.width:
            raise InputError(
                f"features of width {rows.shape[-1]} for {self._file.name}, expected {self.width}; encode the picture "
                "with the vision part of the same export"
            )
        return np.pad(rows, ((0, 0), (0, self._embedding_width - self.width)))

    def _logits(self) -> Floats:
        """Of the last token that was fed, [V]: a view that the next call of llama.cpp overwrites."""
        pointer = self._llama.llama_get_logits_ith(self._context, -1)
        return np.ctypeslib.as_array(pointer, shape=(self.vocabulary_size,))

    def _ends(self, token: int) -> bool:
        return bool(self._llama.llama_vocab_is_eog(self._vocabulary, token))

    def _piece(self, token: int) -> bytes:
        size = PIECE_BYTES
        while True:
            buffer = ctypes.create_string_buffer(size)
            length = self._llama.llama_token_to_piece(self._vocabulary, token, buffer, size, 0, False)
            if length >= 0:
                return buffer.raw[:length]
            size = -length

    def _failure(self, what: str) -> ModelError:
        if what == NOT_LOADED:
            from edge.gguf.file import read_header

            read_header(self._file)  # says so where the file is cut short
        reason = next((line for line in reversed(messages()) if "error" in line), "llama.cpp gives no reason")
        return ModelError(
            f"{self._file} {what} ({reason}); expected a whole export of this version: write it again with "
            f"`make export-edge RUN={self._file.parent.parent}`"
        )
