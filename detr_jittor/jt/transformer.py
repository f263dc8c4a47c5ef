"""The transformer of DETR (section 3.2 and figure 10 of the paper; arXiv 1706.03762).

B batch, S = h·w features of a picture, Q queries, D width, L decoder layers. Batch first.
"""

from detr_jittor.config.options import ModelConfig
from detr_jittor.jt import kernels
from detr_jittor.jt.dropout import Dropout
from detr_jittor.jt.layers import LayerNorm, Linear
from detr_jittor.jt.setup.runtime import jt

nn = jt.nn


class MultiheadAttention(nn.Module):
    """Attention with the projections of query, key and value in one matrix [3D, D], as PyTorch's own has it."""

    def __init__(self, dim: int, nheads: int, dropout: float):
        self.nheads = nheads
        self.in_proj_weight = jt.zeros((3 * dim, dim))
        self.in_proj_bias = jt.zeros((3 * dim,))
        self.out_proj = Linear(dim, dim)
        self.dropout = Dropout(dropout)  # on the attention weights

    def execute(self, query, key, value, key_padding_mask=None):
        """[B, Lq, D], [B, Lk, D], [B, Lk, D] and [B, Lk] bool, true where a key is ignored → [B, Lq, D]"""
        q, k, v = self.project(query, key, value)
        return self.out_proj(attention(q, k, v, key_padding_mask, self.nheads, self.dropout))

    def project(self, query, key, value):
        """[B, L, D] each → [B, L, D] each"""
        return kernels.projections(query, key, value, self.in_proj_weight, self.in_proj_bias)


def attention(q, k, v, key_padding_mask, nheads: int, dropout: Dropout):
    """Scaled dot-product attention on projected queries, keys and values: [B, Lq, D] → [B, Lq, D]

    Queries and keys may have another width than the values, which is that of the result.
    """
    return kernels.attention(q, k, v, key_padding_mask, nheads, dropout.rate(), dropout.key)


class FeedForward:
    """Mixed into the layers: linear, ReLU, dropout, linear."""

    def feed_forward(self, x):
        return kernels.feed_forward(x, self.linear1.weight, self.linear1.bias, self.linear2.weight, self.linear2.bias,
                                    self.dropout.rate(), self.dropout.key)


class TransformerEncoderLayer(nn.Module, FeedForward):
    def __init__(self, config: ModelConfig):
        dim = config.hidden_dim
        self.self_attn = MultiheadAttention(dim, config.nheads, config.dropout)
        self.linear1 = Linear(dim, config.dim_feedforward)
        self.dropout = Dropout(config.dropout)
        self.linear2 = Linear(config.dim_feedforward, dim)
        self.norm1 = LayerNorm(dim)
        self.norm2 = LayerNorm(dim)
        self.dropout1 = Dropout(config.dropout)
        self.dropout2 = Dropout(config.dropout)
        self.pre_norm = config.pre_norm

    def execute(self, src, mask, pos):
        """[B, S, D], [B, S] bool and [B, S, D] → [B, S, D]"""
        if self.pre_norm:
            x = self.norm1(src)
            src = src + self.dropout1(self.self_attn(x + pos, x + pos, x, mask))
            return src + self.dropout2(self.feed_forward(self.norm2(src)))
        src = self.norm1(src + self.dropout1(self.self_attn(src + pos, src + pos, src, mask)))
        return self.norm2(src + self.dropout2(self.feed_forward(src)))


class TransformerDecoderLayer(nn.Module, FeedForward):
    def __init__(self, config: ModelConfig):
        dim = config.hidden_dim
        self.self_attn = MultiheadAttention(dim, config.nheads, config.dropout)
        self.multihead_attn = MultiheadAttention(dim, config.nheads, config.dropout)
        self.linear1 = Linear(dim, config.dim_feedforward)
        self.dropout = Dropout(config.dropout)
        self.linear2 = Linear(config.dim_feedforward, dim)
        self.norm1 = LayerNorm(dim)
        self.norm2 = LayerNorm(dim)
        self.norm3 = LayerNorm(dim)
        self.dropout1 = Dropout(config.dropout)
        self.dropout2 = Dropout(config.dropout)
        self.dropout3 = Dropout(config.dropout)
        self.pre_norm = config.pre_norm

    def execute(self, tgt, memory, mask, pos, query_pos):
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
        self.layers = nn.ModuleList([TransformerEncoderLayer(config) for _ in range(config.enc_layers)])
        # post-norm layers end in a norm of their own
        self.norm = LayerNorm(config.hidden_dim) if config.pre_norm else None

    def execute(self, src, mask, pos):
        """[B, S, D] → [B, S, D]"""
        for layer in self.layers:
            src = layer(src, mask, pos)
        return src if self.norm is None else self.norm(src)


class TransformerDecoder(nn.Module):
    def __init__(self, config: ModelConfig):
        self.layers = nn.ModuleList([TransformerDecoderLayer(config) for _ in range(config.dec_layers)])
        self.norm = LayerNorm(config.hidden_dim)

    def execute(self, tgt, memory, mask, pos, query_pos):
        """[B, Q, D] → [L, B, Q, D], the output of every layer through the same norm"""
        intermediate = []
        for layer in self.layers:
            tgt = layer(tgt, memory, mask, pos, query_pos)
            intermediate.append(self.norm(tgt))
        return jt.stack(intermediate)


class Transformer(nn.Module):
    def __init__(self, config: ModelConfig):
        self.encoder = TransformerEncoder(config)
        self.decoder = TransformerDecoder(config)

    def execute(self, src, mask, query_embed, pos):
        """Encode the picture, then decode the queries.

        Args: src [B, D, h, w] features, mask [B, h, w] bool, query_embed [Q, D], pos [B, D, h, w].

        Returns: hs [L, B, Q, D] of every decoder layer, and the memory [B, D, h, w].
        """
        b, d, h, w = src.shape
        src = src.flatten(2).transpose(0, 2, 1)  # [B, S, D]
        pos = pos.flatten(2).transpose(0, 2, 1)  # [B, S, D]
        mask = mask.flatten(1)  # [B, S]
        query_pos = query_embed.unsqueeze(0).expand(b, -1, -1)  # [B, Q, D]
        memory = self.encoder(src, mask, pos)
        hs = self.decoder(jt.zeros_like(query_pos), memory, mask, pos, query_pos)
        return hs, memory.transpose(0, 2, 1).reshape(b, d, h, w)
