"""The detector for few pictures (--decoder box): DETR's backbone and encoder, and a decoder whose queries are boxes.

B batch, L decoder layers, R groups of Q queries (1 but in training), N noisy copies, K = R·Q + N, C classes, D width.
"""

import torch
from torch import nn

from detr_jittor.config.options import ModelConfig
from detr_jittor.pt import backbone
from detr_jittor.pt.backbone import Joiner
from detr_jittor.pt.box_decoder import BoxTransformer
from detr_jittor.pt.detr import MLP
from detr_jittor.pt.proposals import Proposals, Proposed
from detr_jittor.twin.denoising import Noisy


class BoxDETR(nn.Module):
    def __init__(self, config: ModelConfig, num_classes: int):
        super().__init__()
        dim = config.hidden_dim
        joiner = Joiner(config)
        samples = config.dec_layers > 1 and not config.no_sampling
        self.stages = list(range(1, config.backbone_stages - 1)) if samples else []  # strides 8, 16
        channels = [joiner.num_channels >> (config.backbone_stages - 1 - stage) for stage in self.stages]
        self.transformer = BoxTransformer(config, channels)
        if config.no_focal:
            self.class_embed = nn.Linear(dim, num_classes + 1)
        else:
            self.class_score = nn.Linear(dim, num_classes)
        self.focal = not config.no_focal
        self.box_delta = MLP(dim, dim, 4, 3)
        # The heads above are those of the last decoder layer, or of all; these are of the others
        others = config.dec_layers - 1 if config.layer_heads == "own" else 0
        self.class_heads = nn.ModuleList([nn.Linear(dim, num_classes + config.no_focal) for _ in range(others)])
        self.box_heads = nn.ModuleList([MLP(dim, dim, 4, 3) for _ in range(others)])
        self.layers, self.own_heads = config.dec_layers, config.layer_heads == "own"
        self.two_stage = config.two_stage
        self.query_content = nn.Embedding(config.num_queries, dim)
        if config.two_stage:
            self.proposals = Proposals(config, num_classes)
        else:
            self.query_box = nn.Embedding(config.num_queries, 4)
        # Other groups of queries, each of which finds all objects: they train the decoder, and are not used afterwards
        # (Group DETR, arXiv 2207.13085, section 3.2)
        self.others = (config.query_groups - 1) * config.num_queries
        if self.others:
            self.group_content = nn.Embedding(self.others, dim)
            if not config.two_stage:
                self.group_box = nn.Embedding(self.others, 4)
        if config.denoising:
            self.label_embed = nn.Embedding(num_classes, dim)
        self.input_proj = nn.Conv2d(joiner.num_channels, dim, 1)
        self.backbone = joiner

    def forward(self, images, mask, noisy: Noisy | None = None):
        """Detect objects.

        Args: images [B, 3, H, W], mask [B, H, W] bool, true in the padding; noisy: copies of the objects, which
            stand behind the queries.

        Returns: of every decoder layer, the last one last:
            logits [L, B, K, C], a class each by itself; with `no_focal` [L, B, K, C + 1], the last one "no object";
            boxes [L, B, K, 4], (cx, cy, w, h) as a fraction of each picture's own size;
        and with `two_stage` what the places of the encoder's output say.
        """
        features, small, pos = self.backbone(images, mask)
        stages = [features[stage] for stage in self.stages]
        masks = [backbone.shrink_mask(mask, *stage.shape[-2:]) for stage in stages]
        inside = (~mask).to(pos.dtype)
        down, across = inside[:, :, 0].sum(1) / mask.shape[1], inside[:, 0].sum(1) / mask.shape[2]  # [B]
        extent = torch.stack([down, across], 1)  # [B, 2]
        scene = self.transformer.encode(self.input_proj(features[-1]), small, pos, stages, masks, extent)
        proposed = [self.proposals(scene.maps[-1], small, extent)] if self.two_stage else []
        x, logits = self.queries(images.shape[0], noisy, *proposed)
        hs, boxes = self.transformer.decoder(x, logits, scene, self.of_layers(self.box_heads, self.box_delta), noisy)
        last = self.class_score if self.focal else self.class_embed
        if not self.own_heads:
            return last(hs), boxes, *proposed
        logits = torch.stack([head(x) for head, x in zip(self.of_layers(self.class_heads, last), hs)])
        return logits, boxes, *proposed

    def of_layers(self, others, last) -> list:
        """The head of every decoder layer"""
        return [*others, last] if self.own_heads else [last] * self.layers

    def queries(self, b: int, noisy: Noisy | None, proposed: Proposed | None = None):
        """Content [B, K, D] and boxes [B, K, 4], as logits"""
        x = self.learned("content", b)  # [B, R·Q, D]
        if proposed is None:
            logits = self.learned("box", b)  # [B, R·Q, 4]
        else:  # in all groups the same
            groups = x.shape[1] // self.proposals.queries
            seen, logits = (y.repeat(1, groups, 1) for y in self.proposals.best(proposed))  # [B, R·Q, D], [B, R·Q, 4]
            x = x + seen
        if noisy is None:
            return x, logits
        shown = self.label_embed.weight[torch.as_tensor(noisy.labels, device=x.device)]  # [B, N, D]
        copies = torch.as_tensor(noisy.logits, device=x.device, dtype=x.dtype)
        return torch.cat([x, shown], 1), torch.cat([logits, copies], 1)

    def learned(self, kind: str, b: int):
        """Content or boxes of all groups of queries, the same for each picture → [B, R·Q, …]"""
        groups = ("query", "group") if self.others and self.training else ("query",)
        x = torch.cat([getattr(self, f"{group}_{kind}").weight for group in groups])  # [R·Q, …]
        return x[None].expand(b, -1, -1)
