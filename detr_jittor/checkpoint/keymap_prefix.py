"""What wrappers put before the names of weights: DataParallel `module.`, Lightning `model.`, compile `_orig_mod.`."""

from collections import Counter

import numpy as np

# How names of a detector begin: the reference code's, the transformers library's, and those of a ResNet alone.
KNOWN = ("transformer.", "backbone.0.", "query_embed.", "input_proj.", "class_embed.", "bbox_embed.", "mask_head.",
         "detr.", "class_labels_classifier.", "bbox_predictor.", "model.query_position_embeddings.", "layer1.",
         "body.layer1.")
DEEPEST = 4  # wrappers around one another
MOST = 0.9  # of the names have a wrapper's prefix; others beside are its own


def without_prefix(model: dict[str, np.ndarray]) -> tuple[dict[str, np.ndarray], str, list[str]]:
    """(the weights without what wrappers put before their names, that prefix, the names that did not have it).

    Only a prefix behind which there are names of a detector is taken away.
    """
    inner, prefix = model, ""
    for _ in range(DEEPEST):
        if any(name.startswith(KNOWN) for name in inner):
            break
        first = Counter(name.partition(".")[0] + "." for name in inner).most_common(1)[0][0]
        within = {name[len(first):]: value for name, value in inner.items() if name.startswith(first)}
        if len(within) < MOST * len(inner) or "" in within:
            return model, "", []
        inner, prefix = within, prefix + first
    else:
        return model, "", []
    return inner, prefix, [name for name in model if not name.startswith(prefix)]
