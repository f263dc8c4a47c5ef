"""The programs that are timed."""

from dataclasses import dataclass

from detr_jittor.config.options import FRAMEWORKS, Config


@dataclass(frozen=True)
class Rival:
    title: str  # as the table calls it
    framework: str = "pytorch"  # "jittor", "pytorch", or the package that runs the exported model
    setting: str = "eager"  # of `timing.apply_setting`; of an engine, its precision
    config: tuple[tuple[str, str], ...] = ()  # options that it differs by

    @property
    def is_twin(self) -> bool:
        return self.framework in FRAMEWORKS

    def settings(self, config: Config) -> Config:
        return config.replace(framework=self.framework, dropout_masks="native", **dict(self.config))


JITTOR, JITTOR_BF16 = "jittor", "jittor bf16"
RIVALS = {
    JITTOR: Rival("Jittor", "jittor"),
    JITTOR_BF16: Rival("Jittor bf16", "jittor", config=(("precision", "bf16"),)),
    "eager": Rival("PyTorch eager"),
    "channels-last": Rival("PyTorch channels-last", setting="channels_last"),
    "compile": Rival("torch.compile", setting="compile"),
    "bf16": Rival("PyTorch bf16 autocast + channels-last", setting="channels_last", config=(("precision", "bf16"),)),
    "onnxruntime": Rival("ONNX Runtime", "onnxruntime", "float32"),
    "openvino": Rival("OpenVINO", "openvino", "float32"),
    "openvino bf16": Rival("OpenVINO bf16", "openvino", "bf16"),
}
