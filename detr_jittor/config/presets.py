"""Settings that were found by trial, for small pictures and a backbone that is trained from scratch."""

from detr_jittor.config.options import Config

# Learns the generated pictures within minutes on two cores. The paper's settings need some 100,000s of steps to begin
# to find anything; what makes the difference here: features of stride 16, pre-norm, trained batch norm, few queries,
# and many small steps rather than few large ones.
DEMO = Config().replace(
    backbone="resnet18", backbone_stages=3, backbone_norm="batch", backbone_weights="none",
    hidden_dim=128, dim_feedforward=512, enc_layers=2, dec_layers=3, num_queries=10, pre_norm=True, dropout=0.0,
    batch_size=4, lr=5e-4, lr_backbone=5e-4, warmup_steps=100, clip_max_norm=1.0, epochs=28, lr_drop=22,
    min_size=96, max_size=96, augmentation="flip", num_workers=1, eval_every=4,
)

# What all presets of the box decoder have.
OF_BOX = {"decoder": "box", "query_boxes": "proposals", "denoising": 3, "layer_heads": "own", "class_loss": "quality"}

# The same pictures with the box decoder, in a quarter of the steps.
BOX_DEMO = DEMO.replace(**OF_BOX, epochs=8, lr_drop=6, eval_every=2)

# Learns sixty photographs by heart in 6000 steps, for `detr-jittor compare`; what it has learned shows on them alone.
MINIMAL = Config().replace(
    backbone="resnet18", backbone_stages=3, backbone_norm="batch", backbone_weights="none",
    hidden_dim=128, dim_feedforward=512, enc_layers=2, dec_layers=3, num_queries=60, pre_norm=True, dropout=0.0,
    batch_size=4, lr=7e-4, lr_backbone=7e-4, warmup_steps=100, clip_max_norm=1.0, epochs=400, lr_drop=320,
    min_size=160, max_size=224, augmentation="none", num_workers=1, eval_every=25, eval_train=60,
)

BOX_MINIMAL = MINIMAL.replace(**OF_BOX)

# By decoder and name
PRESETS = {"detr": {"demo": DEMO, "minimal": MINIMAL}, "box": {"demo": BOX_DEMO, "minimal": BOX_MINIMAL}}
