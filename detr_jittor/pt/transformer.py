"""The transformer of DETR (section 3.2 and figure 10 of the paper; arXiv 1706.03762).

B batch, S = h·w features of a picture, Q queries, D width, L decoder layers. Batch first.
"""

import torch
import torch.nn.functional as F
from torch import nn

from detr_jittor.config.options import ModelConfig
from detr_jittor.pt.dropout import Dropout


class MultiheadAttention(nn.Module):
    """Attention with the projections of query, key and value in one matrix [3D, D], as PyTorch's own has it."""

    def __init__(self, dim: int, nheads: int, dropout: float):
        super().__init__()
        self.nheads = nheads
        self.in_proj_weight = nn.Parameter(torch.empty(3 * dim, dim))
        self.in_proj_bias = nn.Parameter(torch.empty(3 * dim))
        self.out_proj = nn.Linear(dim, dim)
        self.dropout = Dropout(dropout)  # on the attention weights

    def forward(self, query, key, value, key_padding_mask=None):
        """[B, Lq, D], [B, Lk, D], [B, Lk, D] and [B, Lk] bool, true where a key is ignored → [B, Lq, D]"""
        q, k, v = self.project(query, key, value)
        return self.out_proj(attention(q, k, v, key_padding_mask, self.nheads, self.dropout))

    def project(self, query, key, value):
        """[B, L, D] each → [B, L, D] each"""
        weights = self.in_proj_weight.chunk(3)
        biases = self.in_proj_bias.chunk(3)
        return [F.linear(x, w, b) for x, w, b in zip((query, key, value), weights, biases)]


def attention(q, k, v, key_padding_mask, nheads: int, dropout: Dropout):
    """Scaled dot-product attention on projected queries, keys and values: [B, Lq, D] → [B, Lq, D]

    Queries and keys may have another width than the values, which is that of the result.
    """
    q, k, v = (x.unflatten(2, (nheads, -1)).transpose(1, 2) for x in (q, k, v))  # [B, heads, L, D / heads]
    keep = None if key_padding_mask is None else ~key_padding_mask[:, None, None, :]  # [B, 1, 1, Lk]
    if dropout.key is None or not dropout.training or dropout.p == 0:
        p = dropout.p if dropout.training else 0.0
        x = F.scaled_dot_product_attention(q, k, v, keep, p)
    else:  # dropout masks that are shared with the other twin
        scores = q * (q.shape[-1] ** -0.5) @ k.transpose(2, 3)  # [B, heads, Lq, Lk]
        if keep is not None:
            scores = scores.masked_fill(~keep, float("-inf"))
        x = dropout(scores.softmax(-1)) @ v
    return x.transpose(1, 2).flatten(2)  # [B, Lq, D]


class FeedForward:
    """Mixed into the layers: linear, ReLU, dropout, linear."""

    def feed_forward(self, x):
        return self.linear2(self.dropout(F.relu(self.linear1(x))))


class TransformerEncoderLayer(nn.Module, FeedForward):
    def __init__(self, config: ModelConfig):
        super().__init__()
        dim = config.hidden_dim
        self.self_attn = MultiheadAttention(dim, config.nheads, config.dropout)
        self.linear1 = nn.Linear(dim, config.dim_feedforward)
        self.dropout = Dropout(config.dropout)
        self.linear2 = nn.Linear(config.dim_feedforward, dim)
        self.norm1 = nn.LayerNorm(dim)
        self.norm2 = nn.LayerNorm(dim)
        self.dropout1 = Dropout(config.dropout)
        self.dropout2 = Dropout(config.dropout)
        self.pre_norm = config.pre_norm

    def forward(self, src, mask, pos):
        """[B, S, D], [B, S] bool and [B, S, D] → [B, S, D]"""
        if self.pre_norm:
            x = self.norm1(src)
            src = src + self.dropout1(self.self_attn(x + pos, x + pos, x, mask))
            return src + self.dropout2(self.feed_forward(self.norm2(src)))
        src = self.norm1(src + self.dropout1(self.self_attn(src + pos, src + pos, src, mask)))
        return self.norm2(src + self.dropout2(self.feed_forward(src)))


class TransformerDecoderLayer(nn.Module, FeedForward):
    def __init__(self, config: ModelConfig):
        super().__init__()
        dim = config.hidden_dim
        self.self_attn = MultiheadAttention(dim, config.nheads, config.dropout)
        self.multihead_attn = MultiheadAttention(dim, config.nheads, config.dropout)
        self.linear1 = nn.Linear(dim, config.dim_feedforward)
        self.dropout = Dropout(config.dropout)
        self.linear2 = nn.Linear(config.dim_feedforward, dim)
        self.norm1 = nn.LayerNorm(dim)
        self.norm2 = nn.LayerNorm(dim)
        self.norm3 = nn.LayerNorm(dim)
        self.dropout1 = Dropout(config.dropout)
        self.dropout2 = Dropout(config.dropout)
        self.dropout3 = Dropout(config.dropout)
        self.pre_norm = config.pre_norm

    def forward(self, tgt, memory, mask, pos, query_pos):
        """[B, Q, D], memory [B, S, D], its mask [B, S] and positions [B, S, D], query_pos [B, Q, D] → [B, Q, D]"""
        if self.pre_norm:
            x = self.norm1(tgt)
            tgt = tgt + self.dropout1(self.self_attn(x + query_pos, x + query_pos, x))
            x = self.norm2(tgt)
            tgt = tgt + self.dropout2(self.multihead_attn(x + query_pos, memory + pos, memory, mask))
            return tgt + self.dropout3(self.feed_forward(self.norm3(tgt)))
        tgt = self.norm1(tgt + self.dropout1(self.self_attn(tgt + query_pos, tgt + query_pos, tgt)))
        tgt = self.norm2(tgt + self.dropout2(self.multihead_attn(tgt + query_pos, memory + pos, memory, mask)))
        return self.norm3(tgt + self.dropout3(self.feed_forward(tgt)))


class TransformerEncoder(nn.Module):
    def __init__(self, config: ModelConfig):
        super().__init__()
        self.layers = nn.ModuleList([TransformerEncoderLayer(config) for _ in range(config.enc_layers)])
        # post-norm layers end in a norm of their own
        self.norm = nn.LayerNorm(config.hidden_dim) if config.pre_norm else None

    def forward(self, src, mask, pos):
        """[B, S, D] → [B, S, D]"""
        for layer in self.layers:
            src = layer(src, mask, pos)
        return src if self.norm is None else self.norm(src)


class TransformerDecoder(nn.Module):
    def __init__(self, config: ModelConfig):
        super().__init__()
        self.layers = nn.ModuleList([TransformerDecoderLayer(config) for _ in range(config.dec_layers)])
        self.norm = nn.LayerNorm(config.hidden_dim)

    def forward(self, tgt, memory, mask, pos, query_pos):
        """[B, Q, D] → [L, B, Q, D], the output of every layer through the same norm"""
        intermediate = []
        for layer in self.layers:
            tgt = layer(tgt, memory, mask, pos, query_pos)
            intermediate.append(self.norm(tgt))
        return torch.stack(intermediate)


class Transformer(nn.Module):
    def __init__(self, config: ModelConfig):
        super().__init__()
        self.encoder = TransformerEncoder(config)
        self.decoder = TransformerDecoder(config)

    def forward(self, src, mask, query_embed, pos):
        """Encode the picture, then decode the queries.

        Args: src [B, D, h, w] features, mask [B, h, w] bool, query_embed [Q, D], pos [B, D, h, w].

        Returns: hs [L, B, Q, D] of every decoder layer, and the memory [B, D, h, w].
        """
        b, d, h, w = src.shape
        src = src.flatten(2).transpose(1, 2)  # [B, S, D]
        pos = pos.flatten(2).transpose(1, 2)  # [B, S, D]
        mask = mask.flatten(1)  # [B, S]
        query_pos = query_embed[None].expand(b, -1, -1)  # [B, Q, D]
        memory = self.encoder(src, mask, pos)
        hs = self.decoder(torch.zeros_like(query_pos), memory, mask, pos, query_pos)
        return hs, memory.transpose(1, 2).reshape(b, d, h, w)
