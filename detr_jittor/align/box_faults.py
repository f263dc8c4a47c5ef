"""Faults of the box decoder that the self-test plants in the Jittor twin, each with the stage that must catch it."""

from detr_jittor.align.plant import Fault


def fault(name: str, stage: str, file: str, *changes: str, decoder: str = "box") -> Fault:
    """Args: changes: text and replacement in turn."""
    return Fault(name, stage, file, tuple(zip(changes[::2], changes[1::2], strict=True)), decoder)


def of_presets(name: str, stage: str, file: str, *changes: str) -> Fault:
    """A fault of what the presets have besides: the class loss by quality, groups of queries, proposals."""
    return fault(name, stage, file, *changes, decoder="box, presets")


BOX_FAULTS = (
    fault("every class likely at the start", "structure", "twin/parameters.py", "-np.log(99)", "0.0"),

    # samples
    fault("sampling shifted by half a pixel", "forward", "jt/sampling.py",
          "columns, boxes, extent, maps,",
          "columns, jt.concat([boxes[..., :2] + 0.5 / maps[0].shape[1], boxes[..., 2:]], dim=2), extent, maps,"),
    fault("position of the bins at corners", "forward", "jt/sampling.py",
          "(np.arange(count) + 0.5) / count - 0.5", "np.arange(count) / (count - 1) - 0.5"),
    fault("y and x of the samples swapped", "forward", "jt/sampling.py",
          "columns, boxes, extent, maps,",
          "columns, jt.stack([boxes[..., i] for i in (1, 0, 3, 2)], dim=2), extent, maps,"),
    fault("boxes as a share of the padded picture", "forward", "jt/sampling.py",
          "columns, boxes, extent, maps,", "columns, boxes, jt.ones_like(extent), maps,"),
    fault("samples from the padding", "forward", "jt/box_decoder.py",
          "x * jt.logical_not(hidden).unsqueeze(3) for", "x for"),
    fault("bins with one sample", "forward", "jt/sampling.py", "SAMPLES = 2", "SAMPLES = 1"),

    # queries and boxes
    fault("refinement added to the box, not to its logit", "forward", "jt/box_decoder.py",
          "moved = logits + box_deltas[number](hs[-1])", "moved = boxes + box_deltas[number](hs[-1])"),
    fault("sine of the centre with x before y", "forward", "jt/box_decoder.py",
          "place = sines[:, :, :2].flatten(2)", "place = jt.concat([sines[:, :, 1], sines[:, :, 0]], dim=2)"),
    fault("a query's head scaled as without its place", "forward", "jt/box_decoder.py",
          "* (2 if self.conditional else 1)", "* 1"),
    fault("place not scaled by the content", "forward", "jt/box_decoder.py",
          "place * self.query_scale(hs[-1])", "place"),

    # matching and losses
    fault("focal α swapped in the cost", "matching", "jt/box_criterion.py",
          "focal(-x, c.focal_alpha) - focal(x, 1 - c.focal_alpha)",
          "focal(-x, 1 - c.focal_alpha) - focal(x, c.focal_alpha)"),
    fault("focal α swapped", "losses", "jt/box_criterion.py",
          "1 - alpha + (2 * alpha - 1) * truth", "alpha + (1 - 2 * alpha) * truth"),
    fault("classes normalised by queries", "losses", "jt/box_criterion.py",
          "* truth)\n        return losses.sum(3).sum(2).sum(1) / num_boxes",
          "* truth)\n        return losses.sum(3).sum(2).sum(1) / wanted[0].size"),

    # noisy copies
    fault("noise of another seed", "losses", "twin/base.py",
          "self.config.run.seed, self.optimizer.steps)", "self.config.run.seed + 1, self.optimizer.steps)"),
    fault("no label replaced", "losses", "twin/denoising.py", "FLIPPED = 0.25", "FLIPPED = 0.0"),
    fault("groups that see each other", "losses", "jt/box_decoder.py",
          "b, groups, copies = len(x), noisy.groups, noisy.labels.shape[1]",
          "b, groups, copies = len(x), 1, noisy.labels.shape[1]",
          "jt.array(noisy.hidden(self.queries))",
          "jt.concat([jt.array(noisy.hidden(self.queries))[::noisy.groups][:, :self.queries]] "
          "+ [jt.array(noisy.empty)] * noisy.groups, dim=1)"),
    fault("queries that see the denoising part", "losses", "jt/box_decoder.py",
          "of_queries = self.within_groups(q, k, v)",
          "of_queries = transformer.attention(q, *(jt.concat(y, dim=1) for y in ([k, k_dn], [v, v_dn])), "
          "None, self.nheads, self.dropout)"),
    fault("copies that see empty places", "losses", "jt/box_decoder.py",
          "jt.array(noisy.hidden(self.queries))", "jt.zeros_like(jt.array(noisy.hidden(self.queries)))"),
    fault("losses of all groups, not their mean", "losses", "jt/box_criterion.py",
          "number = noisy.groups * divisor(", "number = divisor("),

    # classes as probable as their boxes are good
    of_presets("quality without its power", "losses", "jt/box_criterion.py",
               "quality.unsqueeze(3) ** GAMMA", "quality.unsqueeze(3)"),
    of_presets("quality of other queries", "losses", "jt/box_criterion.py",
               "rows[pairs] = np.arange(len(pairs))", "rows[pairs] = np.arange(len(pairs))[::-1]"),
    of_presets("quality with a gradient", "gradients", "jt/box_criterion.py",
               "iou.detach().flatten()", "iou.flatten()"),
    of_presets("weights of wrong classes with a gradient", "gradients", "jt/box_criterion.py",
               "jt.sigmoid(logits.detach()) ** GAMMA", "jt.sigmoid(logits) ** GAMMA"),

    # groups of queries
    of_presets("groups of queries that see each other", "gradients", "jt/box_decoder.py",
               "y.reshape(-1, self.queries, d) for y in", "y for y in"),
    of_presets("copies that see the last group of queries", "gradients", "jt/box_decoder.py",
               "split(x, 1, self.queries)[0]", "split(x, 1, x.shape[1] - self.queries)[1]"),
    of_presets("losses of all groups of queries, not their mean", "gradients", "jt/box_criterion.py",
               "return super().__call__(logits, boxes, targets, indices, masks_of, rest, processes)",
               "names, values, indices = super().__call__(logits, boxes, targets, indices, masks_of, rest, processes)\n"
               "        return names, values * groups, indices"),

    # proposals
    of_presets("places at their corners", "forward", "jt/proposals.py",
               "(np.arange(n) + 0.5) / n", "np.arange(n) / n"),
    of_presets("places as a share of the padded picture", "forward", "jt/proposals.py",
               " / extent[:, i].unsqueeze(1)", " + 0 * extent[:, i].unsqueeze(1)"),
    of_presets("queries that begin in the padding", "forward", "jt/proposals.py",
               "self.class_score(x) * (1 - hidden) + NONE * hidden", "self.class_score(x) + 0 * hidden"),
    of_presets("queries that begin at the worst places", "forward", "twin/proposals.py",
               "argsort(-scores", "argsort(scores"),
    of_presets("the place beside that of an object", "losses", "twin/proposals.py",
               "centres.shape[1] + taken", "centres.shape[1] + (taken + 1) % centres.shape[1]"),
    of_presets("losses of proposals normalised by places", "losses", "jt/box_criterion.py",
               "places, objects = standing_for(targets, own[..., :2])",
               "places, objects = standing_for(targets, own[..., :2])\n        rest = [own.shape[1]]"),
    of_presets("a gradient through the places at which queries begin", "gradients", "jt/proposals.py",
               "x, logits, boxes, _ = (y.detach() for y in proposed)", "x, logits, boxes, _ = proposed"),

    # gradients
    fault("box gradient not stopped", "gradients", "jt/box_decoder.py", "logits = moved.detach()", "logits = moved"),
)
