"""torch's own multi-head attention, written so that its heads and their width can be cut.

`nn.MultiheadAttention` takes the width of its heads from the width of the stream, so that neither can change alone. The
surgeon's copy of a model runs the same products with the numbers read off the weights; names and weights stay.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel


class FreeAttention(nn.MultiheadAttention):
    """Multi-head attention whose number of heads, width of heads and stream may differ; `scale` stays the base model's."""

    scale: float

    def forward(
        self,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        key_padding_mask: Tensor | None = None,
        need_weights: bool = True,
        attn_mask: Tensor | None = None,
        average_attn_weights: bool = True,
        is_causal: bool = False,
    ) -> tuple[Tensor, Tensor | None]:
        """Attend as `nn.MultiheadAttention` does; the arguments and results are its own."""
        is_batched = query.ndim == 3
        if not is_batched:
            query, key, value = (t.unsqueeze(0 if self.batch_first else 1) for t in (query, key, value))
        if not self.batch_first:
            query, key, value = (t.transpose(0, 1) for t in (query, key, value))
        q, k, v = (self._heads(t, *w) for t, w in zip((query, key, value), self._projections(), strict=True))
        mask = self._mask(attn_mask, key_padding_mask, q, k)
        dropout = self.dropout if self.training else 0.0
        weights: Tensor | None = None
        if need_weights:
            products = q @ k.transpose(-2, -1) * self.scale
            weights = (products if mask is None else products + mask).softmax(-1)
            out = F.dropout(weights, dropout) @ v
            weights = weights.sum(1) / self.num_heads if average_attn_weights else weights
        else:
            out = F.scaled_dot_product_attention(q, k, v, mask, dropout, is_causal and mask is None, scale=self.scale)
        out = self.out_proj(out.transpose(1, 2).flatten(2))
        if not self.batch_first:
            out = out.transpose(0, 1)
        if not is_batched:
            out = out.squeeze(0 if self.batch_first else 1)
            weights = None if weights is None else weights.squeeze(0)
        return out, weights

    def _projections(self) -> list[tuple[Tensor, Tensor | None]]:
        """Return weight and bias of queries, keys and values."""
        if self.in_proj_weight is not None:
            weights = self.in_proj_weight.chunk(3)
        else:
            weights = (self.q_proj_weight, self.k_proj_weight, self.v_proj_weight)
        biases = (None,) * 3 if self.in_proj_bias is None else self.in_proj_bias.chunk(3)
        return list(zip(weights, biases, strict=True))

    def _heads(self, tokens: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        projected = F.linear(tokens, weight, bias)
        return projected.reshape(*projected.shape[:2], self.num_heads, -1).transpose(1, 2)

    def _mask(self, mask: Tensor | None, padding: Tensor | None, q: Tensor, k: Tensor) -> Tensor | None:
        """Return what is added to the products of queries and keys."""
        if mask is not None:
            mask = _added(mask, q.dtype)
            mask = mask.reshape(q.shape[0], -1, *mask.shape[1:]) if mask.ndim == 3 else mask
        if padding is not None:
            hidden = _added(padding, q.dtype).reshape(q.shape[0], 1, 1, k.shape[2])
            mask = hidden if mask is None else mask + hidden
        return mask


def _added(mask: Tensor, dtype: torch.dtype) -> Tensor:
    return torch.zeros_like(mask, dtype=dtype).masked_fill(mask, float("-inf")) if mask.dtype == torch.bool else mask.to(dtype)


def freed(model: nn.Module) -> nn.Module:
    """Let each of a model's multi-head attentions be cut; in place, for a copy of the model."""
    for module in model.modules():
        if type(module) in (nn.MultiheadAttention, *_quiet_subclasses(module)) and module.bias_k is None and not module.add_zero_attn:
            module.__class__ = FreeAttention
            module.scale = module.head_dim**-0.5
            module._qkv_same_embed_dim = False  # torch's fused layer reads weights by the shapes of an uncut module
    return model


def _quiet_subclasses(module: nn.Module) -> tuple[type, ...]:
    """Return the module's class if it is a multi-head attention that runs as its parent does."""
    return (type(module),) if isinstance(module, nn.MultiheadAttention) and type(module).forward is nn.MultiheadAttention.forward else ()


@contextmanager
def plain_attention() -> Iterator[None]:
    """Let attention run as the matrix products that it is made of, in place of fused kernels that hide them."""
    fast = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        with sdpa_kernel(SDPBackend.MATH):
            yield
    finally:
        torch.backends.mha.set_fastpath_enabled(fast)
