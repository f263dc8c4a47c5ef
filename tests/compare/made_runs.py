"""Folders as finished runs leave them, with made-up numbers."""

import json
from pathlib import Path

from detr_jittor.config.options import Config

SETTINGS = Config().replace(coco_path="shapes", epochs=3, batch_size=4, lr=0.25, dropout=0.1, num_classes=5,
                            backbone_norm="batch", eval_train=6, resume="auto", dropout_masks="shared")


def write_run(root: Path, framework: str, seed: int = 42, aps=(0.1, 0.4, 0.3), loss: float = 9.0, records=(),
              **settings) -> Path:
    """A run of as many epochs as there are APs, five steps each. Args: records: what differs, epoch by epoch."""
    folder = root / f"{framework}-{seed}"
    folder.mkdir(parents=True)
    config = SETTINGS.replace(framework=framework, seed=seed, output_dir=str(folder)).replace(**settings)
    (folder / "config.json").write_text(config.to_json())
    with open(folder / "log.txt", "w") as log, open(folder / "eval_summary.txt", "w") as summary:
        for epoch, ap in enumerate(aps):
            record = {
                "train_loss": loss - epoch, "test_loss": loss, "train_eval_loss": loss / 2, "epoch": epoch,
                "n_parameters": 1234567, "step": 5 * (epoch + 1), "train_step_time": (4.0, 0.5, 0.6)[epoch % 3],
                "train_seconds": 3.0, "test_seconds": 1.0, "train_eval_seconds": 0.5, "peak_memory_mb": 100.0 + epoch,
                "test_coco_eval_bbox": [ap, ap + 0.1, ap - 0.1] + [0.0] * 9,
                "train_eval_coco_eval_bbox": [ap * 2, 0.9, 0.8] + [0.0] * 9,
            } | (records[epoch] if records else {})
            log.write(json.dumps({k: v for k, v in record.items() if v is not None}) + "\n")
            summary.write(f"[val] epoch={epoch:>3} AP={ap:.4f} | AP50={ap + 0.1:.4f} | AP75={ap - 0.1:.4f}\n")
    return folder
