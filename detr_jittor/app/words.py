"""The page's words, in English and in Chinese."""

LANGUAGES = {"English": 0, "中文": 1}

WORDS = {
    "about": ("DETR finds objects in your picture. It stays on this machine.",
              "DETR 在图片中寻找物体。图片不会离开这台机器。"),
    "about_open": ("DETR finds objects in your picture. This page can be reached from other machines.",
                   "DETR 在图片中寻找物体。其他机器也能访问这个页面。"),
    "tab_picture": ("Picture", "图片"),
    "tab_video": ("Video", "视频"),
    "tab_runs": ("Runs", "训练"),
    "picture": ("Drop, paste or take a picture", "拖入、粘贴或拍摄图片"),
    "found": ("What it finds. Click an object to see where the model looks", "找到的物体。点击物体，查看模型注意哪里"),
    "look": ("Where the model looks", "模型注意的地方"),
    "threshold": ("Threshold", "阈值"),
    "save_picture": ("Download the picture", "下载图片"),
    "save_json": ("Download JSON", "下载 JSON"),
    "compare": ("Compare Jittor and PyTorch", "比较 Jittor 与 PyTorch"),
    "side": ("Jittor and PyTorch, the milliseconds of each", "Jittor 与 PyTorch，各自的毫秒数"),
    "weights": ("Checkpoint: a file on this machine, or the name of a published model",
                "检查点：这台机器上的文件，或公开模型的名称"),
    "load": ("Load", "加载"),
    "video": ("Drop or record a video", "拖入或录制视频"),
    "video_go": ("Find objects in the video", "在视频中寻找物体"),
    "video_out": ("The video with what was found", "画出物体的视频"),
    "runs": ("Runs", "训练"),
    "loss": ("Loss", "损失"),
    "ap": ("Average precision", "平均精度"),
    "lr": ("Learning rate", "学习率"),
    "speed": ("Images a second", "每秒图片数"),
    "pictures": ("The latest pictures of each run", "每次训练最新的图片"),
    # what is said of a result
    "nothing": ("Nothing is found at this threshold.", "在这个阈值下没有找到物体。"),
    "count": ("**{n}** found: {names} · {ms:.0f} ms in {twin}", "找到 **{n}** 个：{names} · {twin} 用时 {ms:.0f} 毫秒"),
    "looks_at": ("The last decoder layer, for: {name}", "最后一层解码器，针对：{name}"),
    "looks_from": ("The last encoder layer, from the point that was clicked", "最后一层编码器，从点击处出发"),
    "no_picture": ("Give a picture first.", "请先给一张图片。"),
    "no_encoder": ("No object is there.", "那里没有物体。"),
    "loaded": ("{name}: {n} classes, {twin}", "{name}：{n} 个类别，{twin}"),
    "no_runs": ("No run has written a log in {folder} yet.", "{folder} 中还没有训练写出日志。"),
}


def word(key: str, language: str, **values) -> str:
    return WORDS[key][LANGUAGES[language]].format(**values)


def preferred(header: str | None) -> str:
    """The language that a browser asks for (the HTTP header Accept-Language)."""
    return "中文" if (header or "").lower().startswith("zh") else "English"
