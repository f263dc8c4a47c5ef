"""The tables of README and docs whose figures are in the repository, made from there.

    python docs/tables.py           writes each between its marks, <!-- table: NAME --> and <!-- end -->
    python docs/tables.py --check   changes nothing, and ends with status 1 if a table is not what its source says

tests/test_docs.py does the second.
"""

import json
import re
import statistics
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path

ROOT = Path(__file__).parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "tests" / "engine")]

import bad_input as corpus  # noqa: E402 - the cases of tests/engine/test_bad_input.py

from detr_jittor.bench.report import figure  # noqa: E402 - the package of this folder, installed or not
from detr_jittor.checkpoint.official import OFFICIAL  # noqa: E402

MARKED = re.compile(r"(<!-- table: (\w+) -->\n)(.*?)(<!-- end -->)", re.DOTALL)
RUNS = ROOT / "pics-and-logs"
LEFT, RIGHT = "---", "--:"


def pages() -> list[Path]:
    return sorted([*ROOT.glob("README*.md"), *(ROOT / "docs").glob("*.md")])


def table(head: list[str], rows: list[list[str]], aligned: str) -> str:
    """A Markdown table. `aligned` has a letter a column: l or r."""
    rule = [RIGHT if letter == "r" else LEFT for letter in aligned]
    lines = ["|" + "|".join(f" {cell} " if cell else " " for cell in cells) + "|" for cells in (head, *rows)]
    return "\n".join([lines[0], f"|{'|'.join(rule)}|", *lines[1:]]) + "\n"


def models(chinese: bool) -> str:
    """The published models, from the table that the program downloads and checks them by."""
    head = ["`--weights`", "Python: `detr_jittor.predict.hub`", "box AP", "mask AP", "PQ"]
    if chinese:
        head = ["`--weights`", "Python：`detr_jittor.predict.hub`", "框 AP", "掩码 AP", "PQ"]
    rows = [[f"`{name}`", f"`{name.replace('-r50', '-resnet50').replace('-r101', '-resnet101').replace('-', '_')}()`",
             *(str(model.results.get(figure, "–")) for figure in ("box AP", "mask AP", "PQ"))]
            for name, model in OFFICIAL.items()]
    return table(head, rows, "llrrr")


def comparisons(*names: str) -> list[tuple[str, dict]]:
    """[(folder, comparison.json)] of equal runs."""
    return [(name, json.loads((RUNS / name / "comparison.json").read_text(encoding="utf-8"))) for name in names]


def comparison(chinese: bool) -> str:
    """AP, AP50 and AP75 of both twins after the last epoch."""
    head = ["data", "pictures measured", "Jittor: AP, AP50, AP75", "PyTorch: AP, AP50, AP75"]
    if chinese:
        head = ["数据", "评估的图片", "Jittor：AP、AP50、AP75", "PyTorch：AP、AP50、AP75"]
    rows = []
    for name, found in comparisons("comparison-box", "comparison-detr", "comparison-minimal"):
        settings, train = found["settings"], found["data"]["train"]["pictures"]
        steps = f"{settings['epochs'] * train // settings['batch_size']:,}"
        of_train = measured("train", min(train, settings["eval_train"]), chinese)
        of_val = measured("val", found["data"]["val"]["pictures"], chinese)
        data = data_name(name, train, steps, len(found["seeds"]), chinese)
        rows += [[data, of_train, *both_aps(found, "train_eval")],
                 ["", of_val, *both_aps(found, "test")]]
    return table(head, rows, "llll")


def data_name(name: str, pictures: int, steps: str, seeds: int, chinese: bool) -> str:
    photographs, decoder = name == "comparison-minimal", "box" if name == "comparison-box" else "DETR"
    if chinese:
        kind = " COCO 照片" if photographs else "生成的图片"
        return f"{pictures} 张{kind}，{steps} 步，{decoder} 解码器，{seeds} 个种子"
    kind = "photographs of COCO" if photographs else "generated pictures"
    return f"{pictures} {kind}, {steps} steps, {decoder} decoder, {seeds} seed{'s' * (seeds > 1)}"


def measured(part: str, pictures: int, chinese: bool) -> str:
    if part == "train":
        return f"{pictures} 张参与训练" if chinese else f"{pictures} of those trained on"
    return f"{pictures} 张未参与训练" if chinese else f"{pictures} held-out"


def both_aps(found: dict, split: str) -> list[str]:
    """Of Jittor and of PyTorch."""
    last = found["evaluations"][split]["last"]
    return [", ".join(over_seeds(last[name][twin]) for name in ("AP", "AP50", "AP75"))
            for twin in ("jittor", "pytorch")]


def over_seeds(values: list[float]) -> str:
    """The mean, and how they scatter: the standard deviation."""
    numbers = [statistics.fmean(values), *([statistics.stdev(values)] if len(values) > 1 else [])]
    return " ± ".join(f"{number:.3f}".removeprefix("0") for number in numbers)


def costs(chinese: bool) -> str:
    """Seconds and memory of the runs of DETR."""
    names = {"step_seconds": "a training step", "train_seconds": "all of the training",
             "peak_memory_mb": "peak memory"}
    if chinese:
        names = {"step_seconds": "一个训练步", "train_seconds": "整个训练", "peak_memory_mb": "内存峰值"}
    rows = [[label, what, *(cost(found["costs"][key][twin][0], key) for twin in ("jittor", "pytorch"))]
            for label, (_, found) in zip(("演示", "最小") if chinese else ("demo", "minimal"),
                                     comparisons("comparison-demo", "comparison-minimal"))
            for key, what in names.items()]
    return table(["训练" if chinese else "runs", "项目" if chinese else "what", "Jittor", "PyTorch"], rows, "llrr")


def cost(value: float, key: str) -> str:
    return {"step_seconds": f"{1000 * value:.0f} ms", "train_seconds": f"{value:,.0f} s",
            "peak_memory_mb": f"{value:.0f} MB"}[key]


# Which rows of the benchmark the README shows: (the row's name, who is compared with).
SPEED_IN_SHORT = [
    ("training step, batch 2, 480×640", "PyTorch eager"),
    ("training step, batch 2, sizes not seen before", "PyTorch eager"),
    ("training step, demo preset (ResNet-18)", "PyTorch eager"),
    ("process start to first training step", "PyTorch eager"),
    ("inference, batch 1, 480×640", "PyTorch eager"), ("inference, batch 1, 480×640", "ONNX Runtime")]
IN_CHINESE = {  # the words of the benchmark's rows, longer ones first
    "process start to first training step": "从进程启动到第一个训练步", "training step": "训练步",
    "peak memory, training": "训练的内存峰值", "inference": "推理", "batch": "批大小",
    "sizes not seen before": "没有见过的尺寸", "varying sizes": "尺寸不断变化",
    "demo preset (ResNet-18)": "演示设置（ResNet-18）", "beside a busy process": "旁边有一个满负荷的进程",
    "twice as many threads as processors": "线程数是处理器的两倍", "box decoder": "box 解码器", ", ": "，"}


def benchmark(instructions: str) -> list[dict]:
    """The rows that `detr-jittor bench --quick` measured, under equal conditions, in pics-and-logs/speed/."""
    found = json.loads((RUNS / "speed" / f"{instructions}.json").read_text(encoding="utf-8"))
    return [row for row in found["rows"] if row["ratio"] is not None and not row["note"]]


def speed(instructions: str, chinese: bool) -> str:
    """All rows of one instruction set."""
    head = ["what", "Jittor", "compared with", "its figure", "ratio", "ratio, least and most"]
    if chinese:
        head = ["项目", "Jittor", "比较对象", "对方的数值", "比值", "比值，最小与最大"]
    rows = [[measured_row(row, chinese), figure(row["jittor"], row["unit"]), row["rival"],
             figure(row["pytorch"], row["unit"]), f"{row['ratio']:.2f}",
             "{:.2f}, {:.2f}".format(*row["ratio_spread"])] for row in benchmark(instructions)]
    return table(head, rows, "lrlrrr")


def measured_row(row: dict, chinese: bool) -> str:
    """What was measured; bf16 where Jittor computed in it."""
    name = row["name"] + (", bf16" if "bf16" in row["ours"] and "bf16" not in row["name"] else "")
    for english, words in IN_CHINESE.items() if chinese else ():
        name = name.replace(english, words)
    return name


def speed_in_short(chinese: bool) -> str:
    """Six rows, both instruction sets side by side."""
    head = ["what", "Jittor", "compared with", "its time", "ratio", "ratio, AVX2"]
    if chinese:
        head = ["项目", "Jittor", "比较对象", "对方的时间", "比值", "比值，AVX2"]
    wide, narrow = ({(row["name"], row["rival"]): row for row in benchmark(instructions)
                     if "bf16" not in row["ours"]} for instructions in ("avx512", "avx2"))
    rows = []
    for key in SPEED_IN_SHORT:
        row = wide[key]
        rows.append([measured_row(row, chinese), figure(row["jittor"], row["unit"]), row["rival"],
                     figure(row["pytorch"], row["unit"]), f"{row['ratio']:.2f}",
                     f"{narrow[key]['ratio']:.2f}" if key in narrow else "–"])
    return table(head, rows, "lrlrrr")


def bad_input(kind: str, chinese: bool) -> str:
    """What each case of a kind of bad input gets: "PICTURES", "ANNOTATIONS", "PANOPTIC" or "SEGMENTS"."""
    said = json.loads((ROOT / "docs" / "bad_input.json").read_text(encoding="utf-8"))
    head = {"PICTURES": ("picture", "图片"), "SEGMENTS": ("file of segments", "分割文件")}.get(
        kind, ("annotation file", "标注文件"))[chinese]
    rows = []
    for name, case in getattr(corpus, kind).items():
        note = said["notes"][name][chinese] if name in said["notes"] else f"“{case.told}”" if case.told else ""
        rows.append([in_chinese(name, said) if chinese else name,
                     said["outcomes"][case.outcome] if chinese else case.outcome, note])
    return table([head, "结果", "说明"] if chinese else [head, "what it gets", "what is said"], rows, "lll")


def in_chinese(name: str, said: dict) -> str:
    """A case's name in Chinese. Errors: KeyError for one that docs/bad_input.json does not have."""
    for pattern, words in said["patterns"]:
        if name not in said["names"] and re.fullmatch(pattern, name):
            return re.sub(pattern, words, name)
    return said["names"][name]


TABLES: dict[str, Callable[[bool], str]] = {
    "models": models, "comparison": comparison, "costs": costs,
    "speed": speed_in_short, **{f"speed_{name}": partial(speed, name) for name in ("avx512", "avx2")},
    **{kind.lower(): partial(bad_input, kind) for kind in ("PICTURES", "ANNOTATIONS", "PANOPTIC", "SEGMENTS")}}


def filled(text: str, chinese: bool) -> str:
    """A page's text with its tables as their sources say. Errors: KeyError for a table that nobody makes."""
    return MARKED.sub(lambda found: found[1] + TABLES[found[2]](chinese) + found[4], text)


def main(arguments: list[str]) -> int:
    stale = []
    for page in pages():
        text = page.read_text(encoding="utf-8")
        if text != (new := filled(text, page.name.endswith(".zh-CN.md"))):
            stale.append(page.relative_to(ROOT))
            if "--check" not in arguments:
                page.write_text(new, encoding="utf-8")
    for page in stale:
        print(f"{page}: {'not what its source says' if '--check' in arguments else 'written'}")
    return int(bool(stale) and "--check" in arguments)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
