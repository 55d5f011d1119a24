"""Attention in each form that code writes it: cut by heads or by their width, equal to the masked model, with true numbers."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable

import pytest
import timm
import torch
import torch.nn.functional as F
import torchvision
from torch import Tensor, nn

from triaxis.metrics.macs import count_macs
from triaxis.metrics.table import FIRST, count_costs
from triaxis.surgery.cut.positions import resampled
from triaxis.surgery.proof import disagreement, shaken
from triaxis.surgery.surgeon import Surgeon
from triaxis.surgery.trace.attention import freed

EXACT = 1e-5
DIM, HEADS = 32, 4


def images(side_px: int = 16, num: int = 2) -> Tensor:
    return torch.randn(num, 3, side_px, side_px, generator=torch.Generator().manual_seed(3))


class Fused(nn.Module):
    """One projection for queries, keys and values; torch's fused product with its default scale; the stream's width in the view."""

    def __init__(self, heads: int = HEADS) -> None:
        super().__init__()
        self.num_heads = heads
        self.qkv, self.proj = nn.Linear(DIM, 3 * DIM), nn.Linear(DIM, DIM)

    def forward(self, x: Tensor) -> Tensor:
        b, n, c = x.shape
        q, k, v = self.qkv(x).reshape(b, n, 3, self.num_heads, c // self.num_heads).permute(2, 0, 3, 1, 4).unbind(0)
        x = F.scaled_dot_product_attention(q, k, v).transpose(1, 2).reshape(b, n, c)
        return self.proj(x)


class Explicit(nn.Module):
    """Three projections, products and softmax written out, the scale computed in the code, a table of biases by head."""

    def __init__(self, heads: int = HEADS) -> None:
        super().__init__()
        self.heads, self.head_dim = heads, DIM // heads
        self.q, self.k, self.v, self.out = (nn.Linear(DIM, DIM) for _ in range(4))
        self.table = nn.Parameter(torch.randn(7 * 7, heads))
        self.register_buffer("index", torch.randint(0, 49, (16, 16), generator=torch.Generator().manual_seed(0)))

    def forward(self, x: Tensor) -> Tensor:
        b, n, _ = x.shape
        q, k, v = (layer(x).view(b, n, self.heads, self.head_dim).transpose(1, 2) for layer in (self.q, self.k, self.v))
        products = q @ k.transpose(-2, -1) / math.sqrt(self.head_dim) + self.table[self.index].permute(2, 0, 1)
        return self.out((products.softmax(-1) @ v).transpose(1, 2).flatten(2))


class Grouped(nn.Module):
    """Eight heads of queries share two of keys and values."""

    def __init__(self) -> None:
        super().__init__()
        self.num_heads, self.num_kv = 8, 4
        self.q, self.kv, self.out = nn.Linear(DIM, 64), nn.Linear(DIM, 2 * 32), nn.Linear(64, DIM)

    def forward(self, x: Tensor) -> Tensor:
        b, n, _ = x.shape
        q = self.q(x).view(b, n, self.num_heads, 8).transpose(1, 2)
        k, v = self.kv(x).view(b, n, 2, self.num_kv, 8).permute(2, 0, 3, 1, 4)
        k, v = (t.repeat_interleave(2, 1) for t in (k, v))
        return self.out((q @ k.transpose(-2, -1) * 8**-0.5).softmax(-1).matmul(v).transpose(1, 2).reshape(b, n, -1))


class OfTorch(nn.Module):
    """`nn.MultiheadAttention`, whose heads take their width from the stream."""

    def __init__(self, heads: int = HEADS, batch_first: bool = True) -> None:
        super().__init__()
        self.attention = nn.MultiheadAttention(DIM, heads, batch_first=batch_first)

    def forward(self, x: Tensor) -> Tensor:
        if not self.attention.batch_first:
            x = x.transpose(0, 1)
        out = self.attention(x, x, x, need_weights=self.attention.batch_first)[0]
        return out if self.attention.batch_first else out.transpose(0, 1)


def by_helper(x: Tensor, qkv: nn.Linear, out: nn.Linear, heads: int) -> Tensor:
    """Attend in a plain function, as torchvision's Swin does."""
    b, n, c = x.shape
    q, k, v = qkv(x).reshape(b, n, 3, heads, c // heads).permute(2, 0, 3, 1, 4)
    products = (q * (c // heads) ** -0.5) @ k.transpose(-2, -1)
    return out((products.softmax(-1) @ v).transpose(1, 2).reshape(b, n, c))


class Helped(nn.Module):
    """The numbers are in a function that the module calls."""

    def __init__(self, heads: int = HEADS) -> None:
        super().__init__()
        self.heads = heads
        self.qkv, self.out = nn.Linear(DIM, 3 * DIM), nn.Linear(DIM, DIM)

    def forward(self, x: Tensor) -> Tensor:
        return by_helper(x, self.qkv, self.out, self.heads)


class Transformer(nn.Module):
    """Patches, a class token, positions, two blocks of attention and MLP, and attention pooling or the class token."""

    def __init__(self, attention: Callable[[], nn.Module], token: bool = True, pooled: bool = False) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, DIM, 4, 4)
        self.token = nn.Parameter(torch.randn(1, 1, DIM)) if token else None
        self.positions = nn.Parameter(torch.randn(1, 16 + token, DIM))
        self.blocks = nn.ModuleList(Block(attention()) for _ in range(2))
        self.pool = nn.Linear(DIM, 1) if pooled else None
        self.norm, self.head = nn.LayerNorm(DIM), nn.Linear(DIM, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x).flatten(2).transpose(1, 2)
        x = x if self.token is None else torch.cat([self.token.expand(len(x), -1, -1), x], 1)
        x = x + self.positions
        for block in self.blocks:
            x = block(x)
        x = self.norm(x)
        return self.head(x[:, 0] if self.pool is None else (self.pool(x).softmax(1) * x).sum(1))


class Block(nn.Module):
    def __init__(self, attention: nn.Module) -> None:
        super().__init__()
        self.norm, self.attention, self.norm2 = nn.LayerNorm(DIM), attention, nn.LayerNorm(DIM)
        self.mlp = nn.Sequential(nn.Linear(DIM, 64), nn.GELU(), nn.Linear(64, DIM))

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.attention(self.norm(x))
        return x + self.mlp(self.norm2(x))


FORMS = {
    "fused": (Fused, True, 4),
    "fused, two wide heads": (lambda: Fused(2), True, 16),
    "explicit": (Explicit, False, 4),
    "explicit, two wide heads": (lambda: Explicit(2), False, 16),
    "grouped queries": (Grouped, True, 4),
    "torch's": (OfTorch, True, 4),
    "torch's, two wide heads": (lambda: OfTorch(2), True, 16),
    "torch's, batch second": (lambda: OfTorch(4, False), True, 4),
    "in a function": (Helped, True, 4),
    "in a function, two wide heads": (lambda: Helped(2), True, 16),
}


@pytest.mark.parametrize("form", FORMS)
def test_a_cut_attention_equals_the_masked_one(form: str) -> None:
    torch.manual_seed(0)
    attention, token, units = FORMS[form]
    model = Transformer(attention, token, pooled=not token)
    model.load_state_dict(shaken(model), strict=False)
    surgeon = Surgeon.examine(model, side_px=16, round_to=2)
    inner = [g for g in surgeon.anatomy.groups if "attention" in g.name]
    assert len(inner) >= 2 and {g.num_units for g in inner} == {units}, surgeon.anatomy.whole
    assert "stem" in {g.name for g in surgeon.anatomy.groups}
    assert surgeon.removable(surgeon.identity())
    for plan in (surgeon.plan(width=0.5, importance="random"), surgeon.plan(width=0.75, removed_blocks=("blocks.0",))):
        cut = surgeon.cut(plan)
        assert disagreement(cut, surgeon.masked(plan), images(), plain_norms=True) < EXACT
        assert count_macs(cut, (3, 16, 16)) < count_macs(surgeon.base, (3, 16, 16))
    names = {c.group for c in plan.channels}
    assert {g.name for g in inner if "blocks.1" in g.name} <= names
    cut.train()(images()).sum().backward()
    assert torch.equal(surgeon.cut(surgeon.identity())(images()), surgeon.base(images()))


def test_numbers_of_heads_stay_true_and_the_scale_stays_the_base_models() -> None:
    surgeon = Surgeon.examine(Transformer(lambda: OfTorch(4)), side_px=16)
    cut = surgeon.cut(surgeon.plan(width=0.5)).blocks[0].attention.attention
    assert (cut.num_heads, cut.head_dim, cut.scale) == (2, 8, 8**-0.5) and cut.in_proj_weight.shape == (48, 16)
    narrow = Surgeon.examine(Transformer(lambda: Explicit(2), token=False), side_px=16)
    part = narrow.cut(narrow.plan(width=0.5)).blocks[0].attention
    assert (part.heads, part.head_dim, part.table.shape[1]) == (2, 8, 2)


@pytest.mark.parametrize("given", [{}, {"need_weights": False}, {"average_attn_weights": False}, {"mask": True}, {"padding": True}])
def test_the_free_attention_is_torchs(given: dict[str, bool]) -> None:
    torch.manual_seed(0)
    theirs = nn.MultiheadAttention(DIM, HEADS, kdim=24, vdim=20, batch_first=True).eval()
    ours = freed(copy.deepcopy(theirs))
    q, k, v = torch.randn(2, 5, DIM), torch.randn(2, 7, 24), torch.randn(2, 7, 20)
    options = {n: v for n, v in given.items() if n not in ("mask", "padding")}
    options |= {"attn_mask": torch.rand(5, 7) > 0.7} if "mask" in given else {}
    options |= {"key_padding_mask": torch.tensor([[False] * 7, [False] * 5 + [True] * 2])} if "padding" in given else {}
    for found, expected in zip(ours(q, k, v, **options), theirs(q, k, v, **options), strict=True):
        assert (found is None and expected is None) or torch.allclose(found, expected, atol=1e-6)


def test_a_wrong_scale_would_be_seen() -> None:
    """The proof enlarges small matrices, since attention with products near zero hides what they are multiplied by."""
    model = timm.create_model("test_vit", num_classes=5)
    wrong = copy.deepcopy(model)
    for block in (model, wrong):
        block.load_state_dict(shaken(block), strict=False)
    for block in wrong.blocks:
        block.attn.fused_attn, block.attn.scale = False, block.attn.scale * 2**0.5
    assert disagreement(model.eval(), wrong.eval(), images(160), plain_norms=True) > 1e-2


def test_positions_follow_the_side() -> None:
    """A tiny torchvision ViT: code checks the side, a table holds the positions, torch's attention."""
    torch.manual_seed(0)
    model = torchvision.models.VisionTransformer(32, 4, 2, 4, 32, 64, num_classes=5)
    surgeon = Surgeon.examine(model, side_px=32)
    assert surgeon.anatomy.open_axes == ("depth", "width", "resolution") and surgeon.sides_px() == (32, 28, 24, 20, 16)
    plan = surgeon.plan(width=0.5, side_px=16, removed_blocks=surgeon.removable(surgeon.identity())[:1])
    cut = surgeon.cut(plan)
    assert cut.encoder.pos_embedding.shape == (1, 17, 16) and cut(images(16)).shape == (2, 5)
    assert disagreement(cut, surgeon.masked(plan), images(16), plain_norms=True) < EXACT
    state = surgeon.expand(plan, cut.state_dict())
    assert {n: t.shape for n, t in state.items()} == {n: t.shape for n, t in model.state_dict().items()}
    assert disagreement(surgeon.cut(surgeon.plan(side_px=16), state), surgeon.masked(surgeon.plan(side_px=16), state), images(16)) < EXACT


def test_a_smooth_table_is_resampled_and_its_tokens_stay() -> None:
    rows = torch.linspace(0, 1, 8)[:, None] + torch.linspace(0, 1, 8)
    table = torch.cat([torch.tensor([9.0]), rows.reshape(-1)]).reshape(1, 65, 1)
    small = resampled(table, (1, 17, 1))
    assert small[0, 0] == 9 and float((small[0, 1:].reshape(4, 4).diff(dim=1) - 2 / 7).abs().max()) < 0.1
    assert torch.allclose(resampled(small, (1, 65, 1)), table, atol=0.12)


def test_costs_are_those_of_the_cut_attention_at_every_side() -> None:
    torch.manual_seed(0)
    surgeon = Surgeon.examine(torchvision.models.VisionTransformer(32, 4, 2, 4, 32, 64, num_classes=5), side_px=32)
    block = surgeon.removable(surgeon.identity())[0]
    table = count_costs(surgeon, (block,), min_depth=0.3, in_channels=3)
    for i, j, k in ((0, 0, 0), (1, 1, 2), (0, len(table.widths) - 1, 1), (1, len(table.widths) - 1, len(table.sides_px) - 1)):
        plan = surgeon.plan(removed_blocks=(block,) * i, width=table.widths[j], side_px=table.sides_px[k], importance=FIRST)
        cut = surgeon.cut(plan)
        assert table.costs["macs"][i][j][k] == count_macs(cut, (3, plan.side_px, plan.side_px))
        assert table.costs["params"][i][j][k] == sum(p.numel() for p in cut.parameters())


@pytest.mark.parametrize("name", ["test_vit", "test_vit3"])
def test_small_models_of_timm_open_every_axis(name: str) -> None:
    torch.manual_seed(0)
    surgeon = Surgeon.examine(timm.create_model(name, num_classes=5), side_px=160)
    assert surgeon.anatomy.open_axes == ("depth", "width", "resolution")
    plan = surgeon.plan(width=0.5, side_px=surgeon.sides_px()[-1])
    assert disagreement(surgeon.cut(plan), surgeon.masked(plan), images(plan.side_px), plain_norms=True) < EXACT


class Indexed(nn.Module):
    """Biases by relative position, with as many heads as positions: a number of heads must not follow the grid."""

    def __init__(self, grid: int = 4) -> None:
        super().__init__()
        self.num_heads, self.resolution = grid * grid, (grid, grid)
        self.qkv, self.proj = nn.Linear(DIM, 3 * DIM), nn.Linear(DIM, DIM)
        self.table = nn.Parameter(torch.randn((2 * grid - 1) ** 2, self.num_heads))
        at = torch.stack(torch.meshgrid(torch.arange(grid), torch.arange(grid), indexing="ij")).flatten(1)
        apart = at[:, :, None] - at[:, None] + grid - 1
        self.register_buffer("index", apart[0] * (2 * grid - 1) + apart[1])

    def forward(self, x: Tensor) -> Tensor:
        b, n, c = x.shape
        q, k, v = self.qkv(x).reshape(b, n, 3, self.num_heads, -1).permute(2, 0, 3, 1, 4).unbind(0)
        bias = self.table[self.index].permute(2, 0, 1)
        return self.proj(F.scaled_dot_product_attention(q, k, v, bias).transpose(1, 2).reshape(b, n, c))


def test_an_index_of_relative_positions_keeps_a_smaller_grid() -> None:
    torch.manual_seed(0)
    surgeon = Surgeon.examine(Transformer(Indexed, token=False), side_px=16, round_to=2)
    assert surgeon.sides_px() == (16, 12, 8)
    plan = surgeon.plan(width=0.5, side_px=8)
    cut = surgeon.cut(plan)
    attention = cut.blocks[0].attention
    assert (attention.num_heads, attention.resolution, tuple(attention.index.shape)) == (8, (2, 2), (4, 4))
    assert attention.table.shape == (49, 8) and attention.index[0].tolist() == [24, 23, 17, 16]
    assert disagreement(cut, surgeon.masked(plan), images(8), plain_norms=True) < EXACT


class OverTokens(nn.Module):
    """A layer over tokens: its rows are channels, as in MLP-Mixer."""

    def __init__(self) -> None:
        super().__init__()
        self.mix = nn.Linear(16, 16)

    def forward(self, x: Tensor) -> Tensor:
        return self.mix(x.transpose(1, 2)).transpose(1, 2)


def test_costs_of_layers_over_tokens_follow_the_width() -> None:
    surgeon = Surgeon.examine(Transformer(OverTokens, token=False), side_px=16)
    table = count_costs(surgeon, (), min_depth=1, in_channels=3)
    for j, width in enumerate(table.widths):
        cut = surgeon.cut(surgeon.plan(width=width, importance=FIRST))
        assert table.costs["macs"][0][j][0] == count_macs(cut, (3, 16, 16))
