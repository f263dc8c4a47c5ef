"""A decoder whose queries are boxes: conditional attention (Conditional DETR, arXiv 2108.06152, section 3.3) with boxes
that are refined layer by layer (DAB-DETR, arXiv 2201.12329, section 3), from the second layer on to samples from each
query's own box (DE-DETR, arXiv 2203.09507).

B batch, R groups of Q queries, G groups of T noisy copies, K = R·Q + G·T, S = h·w features of a picture, D width,
n heads, L layers.
"""

from dataclasses import dataclass

from detr_jittor.config.options import ModelConfig
from detr_jittor.jt import kernels, transformer
from detr_jittor.jt.detr import MLP
from detr_jittor.jt.dropout import Dropout
from detr_jittor.jt.layers import Conv1x1, GroupNorm, LayerNorm, Linear
from detr_jittor.jt.sampling import from_heads, sampled_attention, sine, to_heads
from detr_jittor.jt.setup.runtime import jt
from detr_jittor.jt.transformer import FeedForward, MultiheadAttention, TransformerEncoder
from detr_jittor.twin.denoising import Noisy

nn = jt.nn


@dataclass
class Scene:
    """What the queries look at."""

    memory: jt.Var  # [B, S, D] the encoder's output
    mask: jt.Var  # [B, S] bool, true in the padding
    pos: jt.Var  # [B, S, D]
    maps: list  # [B, h, w, D] each, that of the smallest stride first, the memory last; zero in the padding
    extent: jt.Var  # [B, 2] the share of the padded height and width that a picture covers


class QueryAttention(MultiheadAttention):
    """Self-attention in which the queries of a group see each other, and a group of noisy copies sees itself and the
    first group of queries, which alone is used after training."""

    def __init__(self, config: ModelConfig):
        super().__init__(config.hidden_dim, config.nheads, config.dropout)
        self.queries = config.num_queries

    def execute(self, x, pos, noisy: Noisy | None = None):
        """[B, K, D], their positions [B, K, D] → [B, K, D]"""
        q, k, v = self.project(x + pos, x + pos, x)
        if noisy is None:
            return self.out_proj(self.within_groups(q, k, v))
        b, groups, copies = len(x), noisy.groups, noisy.labels.shape[1]
        first = x.shape[1] - copies  # R·Q
        (q, q_dn), (k, k_dn), (v, v_dn) = (kernels.split(y, 1, first) for y in (q, k, v))  # [B, R·Q, D], [B, G·T, D]
        of_queries = self.within_groups(q, k, v)
        k, v = self.first_group(k), self.first_group(v)
        # Each group is a row of its own in the batch: so the groups cannot see each other
        q_dn = q_dn.reshape(b * groups, copies // groups, -1)  # [B·G, T, D]
        k_dn, v_dn = self.beside(k, k_dn, groups), self.beside(v, v_dn, groups)  # [B·G, Q + T, D]
        hidden = jt.array(noisy.hidden(self.queries))  # [B·G, Q + T]
        of_copies = transformer.attention(q_dn, k_dn, v_dn, hidden, self.nheads, self.dropout).reshape(b, copies, -1)
        return self.out_proj(kernels.concat([of_queries, of_copies], 1))

    def within_groups(self, q, k, v):
        """[B, R·Q, D] each → [B, R·Q, D]; each group is a row of its own in the batch"""
        b, _, d = q.shape
        q, k, v = (y.reshape(-1, self.queries, d) for y in (q, k, v))  # [B·R, Q, D]
        return transformer.attention(q, k, v, None, self.nheads, self.dropout).reshape(b, -1, d)

    def first_group(self, x):
        """[B, R·Q, D] → [B, Q, D]"""
        return kernels.split(x, 1, self.queries)[0] if x.shape[1] > self.queries else x

    def beside(self, queries, copies, groups: int):
        """The queries beside each group of copies: [B, Q, D] and [B, G·T, D] → [B·G, Q + T, D]"""
        b, first, d = queries.shape
        queries = queries.unsqueeze(1).broadcast((b, groups, first, d))  # [B, G, Q, D]
        return kernels.concat([queries, copies.reshape(b, groups, -1, d)], 2).flatten(0, 1)


class ConditionalAttention(nn.Module):
    """Cross-attention of queries that know where they are.

    By head, a query is [W_q x ‖ W_p p] and a key [W_k m ‖ W_r pos]: content meets content and place meets place
    (equation 4 of Conditional DETR). Without `conditional`, positions are added as DETR adds them. Keys and values have
    no bias: it would change no weight, and `out_proj` has one.
    """

    def __init__(self, config: ModelConfig, sampled: bool):
        dim = config.hidden_dim
        self.nheads = config.nheads
        self.conditional = not config.no_conditional
        self.sampled = sampled
        self.query = Linear(dim, dim)
        self.key = Linear(dim, dim, bias=False)
        self.value = Linear(dim, dim, bias=False)
        if self.conditional:
            self.query_place = Linear(dim, dim)
            self.key_place = Linear(dim, dim, bias=False)
        self.out_proj = Linear(dim, dim)
        self.dropout = Dropout(config.dropout)  # on the attention weights

    def execute(self, x, query_pos, place, scene: Scene, boxes):
        """[B, K, D], their positions [B, K, D], p [B, K, D] the sine of their centres, boxes [B, K, 4] → [B, K, D]"""
        content = self.query(x) if self.conditional else self.query(x + query_pos)
        place = self.query_place(place) if self.conditional else content
        look = self.at_samples if self.sampled else self.everywhere
        return self.out_proj(look(content, place, scene, boxes))

    def everywhere(self, content, place, scene: Scene, boxes):
        """On the whole encoder output"""
        if not self.conditional:
            key = self.key(scene.memory + scene.pos)
            return transformer.attention(content, key, self.value(scene.memory), scene.mask, self.nheads, self.dropout)
        query = self.joined(content, place)
        key = self.joined(self.key(scene.memory), self.key_place(scene.pos))
        return transformer.attention(query, key, self.value(scene.memory), scene.mask, self.nheads, self.dropout)

    def joined(self, content, place):
        """[B, L, D] and [B, L, D] → [B, L, 2D], side by side in each head"""
        pair = [x.reshape(*x.shape[:2], self.nheads, -1) for x in (content, place)]  # [B, L, n, D / n]
        return kernels.concat(pair, 3).flatten(2)

    def at_samples(self, content, place, scene: Scene, boxes):
        """On the bins of each query's box"""
        width = content.shape[2] // self.nheads * (2 if self.conditional else 1)  # of a query's head
        key_place = self.key_place if self.conditional else self.key
        content = to_heads(content * width**-0.5, self.key.weight, self.nheads)  # [B, K, n, D]
        place = to_heads(place * width**-0.5, key_place.weight, self.nheads)  # [B, K, n, D]
        seen = sampled_attention(content, place, scene.maps, boxes, scene.extent, self.dropout)  # [B, K, n, D]
        return from_heads(seen, self.value.weight, self.nheads)


class BoxDecoderLayer(nn.Module, FeedForward):
    def __init__(self, config: ModelConfig, sampled: bool):
        dim = config.hidden_dim
        self.self_attn = QueryAttention(config)
        self.multihead_attn = ConditionalAttention(config, sampled)
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

    def execute(self, x, query_pos, place, scene: Scene, boxes, noisy: Noisy | None):
        """[B, K, D], their positions [B, K, D], the sine of their centres [B, K, D], boxes [B, K, 4] → [B, K, D]"""
        if self.pre_norm:
            x = x + self.dropout1(self.self_attn(self.norm1(x), query_pos, noisy))
            x = x + self.dropout2(self.multihead_attn(self.norm2(x), query_pos, place, scene, boxes))
            return x + self.dropout3(self.feed_forward(self.norm3(x)))
        x = self.norm1(x + self.dropout1(self.self_attn(x, query_pos, noisy)))
        x = self.norm2(x + self.dropout2(self.multihead_attn(x, query_pos, place, scene, boxes)))
        return self.norm3(x + self.dropout3(self.feed_forward(x)))


class BoxDecoder(nn.Module):
    def __init__(self, config: ModelConfig):
        dim, sampling = config.hidden_dim, not config.no_sampling
        self.layers = nn.ModuleList(
            [BoxDecoderLayer(config, sampling and number > 0) for number in range(config.dec_layers)])
        self.norm = LayerNorm(dim)
        self.box_position = MLP(2 * dim, dim, dim, 2)
        if config.dec_layers > 1 and not config.no_conditional:
            self.query_scale = MLP(dim, dim, dim, 2)
        self.scaled = config.dec_layers > 1 and not config.no_conditional

    def execute(self, x, logits, scene: Scene, box_deltas: list, noisy: Noisy | None):
        """Decode the queries and refine their boxes.

        Args: x [B, K, D] content, logits [B, K, 4] of the boxes, box_deltas: the head of each layer, which moves
            them.

        Returns: hs [L, B, K, D], the output of every layer through the same norm, and its boxes [L, B, K, 4].
        """
        half, hs, found = x.shape[2] // 2, [], []
        for number, layer in enumerate(self.layers):
            boxes = logits.sigmoid()
            sines = sine(boxes[:, :, [1, 0, 3, 2]], half)  # [B, K, 4, D / 2] of cy, cx, h, w
            query_pos = self.box_position(sines.flatten(2))  # [B, K, D]
            place = sines[:, :, :2].flatten(2)  # [B, K, D], rows first as the picture's positions
            if number and self.scaled:
                place = place * self.query_scale(hs[-1])
            x = layer(x, query_pos, place, scene, boxes, noisy)
            hs.append(self.norm(x))
            moved = logits + box_deltas[number](hs[-1])  # σ⁻¹(r) + Δ
            found.append(moved.sigmoid())
            logits = moved.detach()
        return jt.stack(hs), jt.stack(found)


class MapProjection(nn.Module):
    """A stage of the backbone at the transformer's width."""

    def __init__(self, channels: int, dim: int):
        self.conv = Conv1x1(channels, dim)
        self.norm = GroupNorm(32, dim)

    def execute(self, x):
        """[B, C, h, w] → [B, D, h, w]"""
        return self.norm(self.conv(x))


class BoxTransformer(nn.Module):
    def __init__(self, config: ModelConfig, channels: list[int]):
        """
        Args:
            channels: of the backbone's stages that are sampled besides the encoder's output.
        """
        self.encoder = TransformerEncoder(config)
        self.decoder = BoxDecoder(config)
        self.maps = nn.ModuleList([MapProjection(c, config.hidden_dim) for c in channels])

    def encode(self, src, mask, pos, stages: list, stage_masks: list, extent) -> Scene:
        """Encode the picture.

        Args: src [B, D, h, w] features, mask [B, h, w] bool, pos [B, D, h, w]; stages [B, C, h', w'] of the backbone
            that are sampled besides, with their masks; extent as `Scene` has it.
        """
        b, d, h, w = src.shape
        pos = pos.flatten(2).transpose(0, 2, 1)  # [B, S, D]
        memory = self.encoder(src.flatten(2).transpose(0, 2, 1), mask.flatten(1), pos)  # [B, S, D]
        maps = [projection(stage).permute(0, 2, 3, 1) for projection, stage in zip(self.maps, stages)]
        maps = [x * jt.logical_not(hidden).unsqueeze(3) for x, hidden in zip([*maps, memory.reshape(b, h, w, d)],
                                                                      [*stage_masks, mask])]
        return Scene(memory, mask.flatten(1), pos, maps, extent)
