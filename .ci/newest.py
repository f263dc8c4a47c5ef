"""The names of all packages that the program and its tests need, without the bounds of pyproject.toml, for
`pip install --upgrade -r`. Run it in an environment that has the test extras."""

from importlib.metadata import requires

from packaging.requirements import Requirement

EXTRAS = ("", "pytorch", "export", "video", "track", "app", "supervision", "test")  # not cuda13: 2 GB
LEFT_OUT = {
    "detr-jittor": "its own extras",
    "torch": "later ones than 2.13 come with CUDA alone, 3 GB with its libraries",
    "jittor": "asks for NumPy 1; installed by itself",
    "onednn-cpu-gomp": "the last whose API Jittor's operators use", "onednn-devel-cpu-gomp": "the same",
}


def names() -> list[str]:
    needed = [Requirement(text) for text in requires("detr-jittor")]
    return sorted({str(needs.name) for needs in needed if needs.name not in LEFT_OUT and (
        needs.marker is None or any(needs.marker.evaluate({"extra": extra}) for extra in EXTRAS))})


if __name__ == "__main__":
    print("\n".join(names()))
