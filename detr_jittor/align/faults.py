"""Faults that the self-test plants in the Jittor twin, each with the stage that must catch it.

Among them is everything that was wrong in the port which this project succeeds (marked "predecessor"), so far as a twin
and its data can have it, and what was wrong in other training code by its bug reports (marked with their numbers), from
the list of TrainCheck (arXiv 2506.14813). docs/proof.md says where the others of that list are looked for.
"""

from detr_jittor.align.plant import Fault


def fault(name: str, stage: str, file: str, *changes: str) -> Fault:
    """Args: changes: text and replacement in turn."""
    return Fault(name, stage, file, tuple(zip(changes[::2], changes[1::2], strict=True)))


FAULTS = (
    # which weights there are
    fault("running statistics and gains trained (predecessor)", "structure", "twin/parameters.py",
          'NORM_BUFFERS = ("running_mean", "running_var")', "NORM_BUFFERS = ()",
          "return not is_norm(name) and any(", "return any("),
    fault("encoder norm where there is none", "structure", "jt/transformer.py",
          "self.norm = LayerNorm(config.hidden_dim) if config.pre_norm else None",
          "self.norm = LayerNorm(config.hidden_dim)"),
    fault("the bound of separate matrices for the fused in_proj (predecessor)", "structure", "twin/parameters.py",
          "bound = np.sqrt(6 / (shape[0] + shape[1]))", "bound = np.sqrt(6 / (2 * shape[1]))"),
    fault("start values drawn twice (transformers 17877)", "structure", "twin/parameters.py",
          "    return rng.uniform(-bound, bound, shape).astype(np.float32)",
          "    rng.uniform(-bound, bound, shape)\n    return rng.uniform(-bound, bound, shape).astype(np.float32)"),
    fault("frozen stages trained (mmpretrain 702)", "structure", "twin/parameters.py",
          '("layer2", "layer3", "layer4")', '("conv1", "layer1", "layer2", "layer3", "layer4")'),

    # data
    fault("pictures resized by the nearest pixel", "data", "data/transforms.py",
          "sample.image.resize((width, height), Image.Resampling.BILINEAR)",
          "sample.image.resize((width, height), Image.Resampling.NEAREST)"),
    fault("resized shapes off by a pixel (predecessor)", "data", "data/transforms.py",
          "return int(short * height / width), short", "return round(short * height / width), short",
          "return short, int(short * width / height)", "return short, round(short * width / height)"),
    fault("area not rescaled (predecessor)", "data", "data/transforms.py",
          "area=sample.area * np.float32(across * down)", "area=sample.area"),
    fault("all pictures augmented alike (Stack Overflow 67180955)", "data", "data/batch.py",
          "generator(request.seed, request.epoch, image.id)", "generator(request.seed, request.epoch)"),
    fault("all pictures of a batch in the place of the first (transformers 34204)", "data", "data/batch.py",
          "images[place, :, :h, :w]", "images[0, :, :h, :w]"),

    # forward
    fault("batch-norm statistics dropped (predecessor)", "forward", "jt/backbone.py",
          "self.running_mean, self.running_var\n",
          "jt.zeros_like(self.running_mean), jt.ones_like(self.running_var)\n"),
    fault("batch norm's eps outside the root", "forward", "jt/backbone.py",
          "self.running_mean, self.running_var\n",
          "self.running_mean, (jt.sqrt(self.running_var) + 1e-5).sqr() - 1e-5\n"),
    fault("positions from a boolean cumulative sum (predecessor)", "forward", "jt/position.py",
          "y = inside.cumsum(1)", "y = jt.logical_not(mask).cumsum(1).float64()",
          "x = inside.cumsum(2)", "x = jt.logical_not(mask).cumsum(2).float64()"),
    fault("positions without normalisation", "forward", "jt/position.py",
          "y = y / (y[:, -1:, :] + 1e-6) * (2 * math.pi)", "y = y * 1",
          "x = x / (x[:, :, -1:] + 1e-6) * (2 * math.pi)", "x = x * 1"),
    fault("rows and columns of the position exchanged", "forward", "jt/position.py",
          "[self.waves(y, frequency), self.waves(x, frequency)]",
          "[self.waves(x, frequency), self.waves(y, frequency)]"),
    fault("padding mask resized by the other rounding", "forward", "twin/interpolation.py",
          "np.minimum(np.floor(places), old - 1)", "np.minimum(np.ceil(places + old / new / 2), old - 1)"),
    fault("padding mask inverted", "forward", "jt/transformer.py",
          "kernels.attention(q, k, v, key_padding_mask, nheads",
          "kernels.attention(q, k, v, None if key_padding_mask is None else jt.logical_not(key_padding_mask), nheads"),
    fault("padding mask not used", "forward", "jt/transformer.py",
          "kernels.attention(q, k, v, key_padding_mask, nheads", "kernels.attention(q, k, v, None, nheads"),
    fault("DC5 without dilation in its blocks", "forward", "jt/backbone.py",
          "block(outputs, width, 1, 2 if dilate else 1, None, norm)", "block(outputs, width, 1, 1, None, norm)"),
    fault("DC5 with the stride left in the downsample branch", "forward", "jt/backbone.py",
          "conv2d(inputs, outputs, 1, stride)", "conv2d(inputs, outputs, 1, 2)"),
    fault("DC5 without any gain in resolution (predecessor)", "forward", "jt/backbone.py",
          "stride = 1 if i == 0 or dilate else 2", "stride = 1 if i == 0 else 2"),
    fault("query position not added", "forward", "jt/transformer.py",
          "self.self_attn(tgt + query_pos, tgt + query_pos, tgt)", "self.self_attn(tgt, tgt, tgt)"),
    fault("position added to the value too", "forward", "jt/transformer.py",
          "self.self_attn(src + pos, src + pos, src, mask)", "self.self_attn(src + pos, src + pos, src + pos, mask)"),
    fault("attention scaled by the width, not the head's", "forward", "jt/transformer.py",
          "kernels.attention(q, k, v,", "kernels.attention(q * nheads**-0.5, k, v,"),
    fault("layers between without the decoder's norm", "forward", "jt/transformer.py",
          "intermediate.append(self.norm(tgt))", "intermediate.append(tgt)"),
    fault("a norm that is there from the first training step on (PyTorch 51800)", "forward", "jt/transformer.py",
          "intermediate.append(self.norm(tgt))",
          "self.ready = vars(self).get('ready') or self.is_training(); "
          "intermediate.append(self.norm(tgt) if self.ready else tgt)"),
    fault("dropout in evaluation (transformers 33844)", "forward", "jt/dropout.py",
          "return self.p if self.is_training() else 0.0", "return self.p"),

    # matching
    fault("cx and cy swapped", "matching", "jt/criterion.py",
          "cx, cy, w, h = kernels.entries(boxes)",
          "cy, cx, w, h = kernels.entries(boxes)"),
    fault("GIoU without the enclosing box", "matching", "jt/criterion.py",
          "return iou, iou - (enclosing - union) / enclosing", "return iou, iou"),
    fault("class cost −log p", "matching", "jt/criterion.py",
          "c.set_cost_class * probability", "c.set_cost_class * jt.log(probability)"),
    fault("the last layer's assignment for all layers", "matching", "jt/criterion.py",
          "return match(cost.numpy(), [len(t.labels) for t in targets], self.groups(logits))",
          "return match(cost.numpy(), [len(t.labels) for t in targets], self.groups(logits))[-1:] * len(logits)"),

    # losses
    fault("eos weight on the wrong class", "losses", "jt/criterion.py",
          "weight = np.where(wanted == self.num_classes, self.config.eos_coef, 1.0)",
          "weight = np.where(wanted == 0, self.config.eos_coef, 1.0)"),
    fault("plain instead of weighted mean", "losses", "jt/criterion.py",
          "weight /= processes.mean(weight.sum((1, 2), keepdims=True) + others)", "weight /= wanted[0].size"),
    fault("labels off by one", "losses", "jt/criterion.py",
          "wanted.reshape(-1)[pairs] = labels[matched]", "wanted.reshape(-1)[pairs] = labels[matched] - 1"),
    fault("box losses divided by the pictures, not the boxes", "losses", "jt/criterion.py",
          "divisor(sum([*sizes, *rest]), processes)", "divisor(len(sizes), processes)"),
    fault("coefficients of L1 and GIoU exchanged", "losses", "twin/loss_terms.py",
          '"loss_bbox": loss.bbox_loss_coef', '"loss_bbox": loss.giou_loss_coef',
          '"loss_giou": loss.giou_loss_coef', '"loss_giou": loss.bbox_loss_coef'),

    # gradients
    fault("dropout without scaling", "gradients", "jt/dropout.py",
          "return kernels.dropout(x, self.rate(), self.key)",
          "return kernels.dropout(x, self.rate(), self.key) * (1 - self.rate())"),
    fault("no dropout on the attention weights", "gradients", "jt/transformer.py",
          "key_padding_mask, nheads, dropout.rate(), dropout.key)", "key_padding_mask, nheads, 0.0, dropout.key)"),
    fault("the same dropout mask in every place", "gradients", "jt/dropout.py",
          "seeding.place_id(name)", "seeding.place_id('')"),
    fault("the same dropout masks in every step", "gradients", "jt/dropout.py",
          "seeding.dropout_key(step_seed, ", "seeding.dropout_key(0, "),
    fault("boxes cut off from the decoder's gradient", "gradients", "jt/detr.py",
          "self.bbox_embed(hs)", "self.bbox_embed(hs.detach())"),
    fault("the optimizer has the class head alone (PyTorch forum 84911)", "gradients", "jt/twin.py",
          "Optimizer(self.trained, config.optim, processes)",
          'Optimizer({n: p for n, p in self.trained.items() if "class_embed" in n}, config.optim, processes)'),

    # optimizer
    fault("clipped after the step", "optimizer", "jt/optim.py", "self.config.clip_max_norm)", "0.0)"),
    fault("clip_max_norm 0 zeroes the gradients (predecessor)", "optimizer", "jt/optim.py",
          "self.config.clip_max_norm)", "self.config.clip_max_norm or 1e-30)"),
    fault("backbone lr not applied", "optimizer", "jt/optim.py",
          "config.lr_backbone if in_backbone(n) else config.lr", "config.lr"),
    fault("the lr drop misses the transformer (predecessor)", "optimizer", "jt/optim.py",
          "lrs = [lr * lr_factor for lr in self.lrs]",
          "lrs = [lr * lr_factor if lr == self.config.lr_backbone else lr for lr in self.lrs]"),
    fault("the lr drop one epoch late", "optimizer", "twin/schedule.py",
          "epoch // optim.lr_drop", "max(epoch - 1, 0) // optim.lr_drop"),
    fault("weight decay on nothing", "optimizer", "jt/optim.py", "self.config.weight_decay,", "0.0,"),
    fault("weight decay through the gradient", "optimizer", "jt/optim.py",
          "kernels.adamw_step(parameters, gradients,",
          "kernels.adamw_step(parameters, [g + self.config.weight_decay * p for g, p in zip(gradients, parameters)],",
          "self.config.weight_decay, self.steps", "0.0, self.steps"),
    fault("bias correction one step ahead", "optimizer", "jt/optim.py", "self.steps + 1,", "self.steps + 2,"),
    fault("gradients of the step before not dropped (Stack Overflow 60335387)", "optimizer", "jt/optim.py",
          "self.processes.average(self.added)\n        self.added = []", "self.processes.average(self.added)",
          '"""Drop the gradients of the next step."""\n        self.added = []',
          '"""Drop the gradients of the next step."""'),

    # training
    fault("trained in evaluation mode", "training", "jt/twin.py",
          "set_training(self.model, seed is not None)", "set_training(self.model, False)"),
    fault("no more updates after a step without gradients (PyTorch 115607)", "training", "jt/optim.py",
          "self.steps += bool(np.isfinite(norm))",
          "self.steps += bool(np.isfinite(norm))\n        self.lrs = self.lrs if norm else [0.0] * len(self.lrs)"),

    # detections (the first stage with two batches of one size and other padding)
    fault("positions kept for every size, whatever the mask", "detections", "jt/backbone.py",
          "return features, mask, self[1](mask)",
          'Joiner.kept = getattr(Joiner, "kept", {}); '
          "return features, mask, Joiner.kept.setdefault(tuple(mask.shape), self[1](mask))"),
    fault("the best of queries × classes, not one a query (predecessor)", "detections", "evaluate/postprocess.py",
          "labels, scores = probability.argmax(axis=-1), probability.max(axis=-1)",
          "best = np.argsort(-probability.ravel())[:len(probability)]; "
          "labels, scores = best % probability.shape[1], probability.ravel()[best]"),
    fault("labels never mapped back to categories (predecessor)", "detections", "evaluate/coco_ap.py",
          '"category_id": category_of[label]', '"category_id": label'),
    fault("boxes in pixels of the resized picture", "detections", "evaluate/postprocess.py",
          "height, width = target.orig_size", "height, width = target.size"),
)
