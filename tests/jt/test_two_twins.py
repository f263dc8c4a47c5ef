"""Two Jittor twins with different kernels in one process: each computes as if it were alone."""

import numpy as np
import pytest
from small import NUM_CLASSES, SMALL, small_batch, small_state

from detr_jittor.errors import DetrError
from detr_jittor.jt import kernels
from detr_jittor.jt.kernels import fast, plain
from detr_jittor.jt.twin import JittorTwin

CHOICES = {"kernels": {}, "plain": {"plain": True}, "bfloat16": {"precision": "bf16"}}


def twin(choice: str) -> JittorTwin:
    made = JittorTwin(SMALL.replace(**CHOICES[choice]), NUM_CLASSES)
    made.load(small_state(made))
    return made


@pytest.mark.parametrize("one, other", [("kernels", "plain"), ("kernels", "bfloat16"), ("plain", "bfloat16")])
def test_twins_of_different_kernels_do_not_disturb_each_other(one, other):
    if "bfloat16" in (one, other):
        try:
            twin("bfloat16")
        except DetrError:
            pytest.skip("the processor has no bfloat16")
    alone = {choice: (made := twin(choice), made.predict(small_batch(1)).logits,
                      made.train_step(small_batch(2), 3, 1.0)["loss"])[1:] for choice in (one, other)}
    assert not np.array_equal(alone[one][0], alone[other][0])
    both = {choice: twin(choice) for choice in (one, other)}
    for choice in (one, other, one):
        assert np.array_equal(both[choice].predict(small_batch(1)).logits, alone[choice][0]), choice
    for choice in (other, one):
        assert both[choice].train_step(small_batch(2), 3, 1.0)["loss"] == alone[choice][1], choice


def test_each_choice_is_in_force_while_its_twin_computes():
    fastest, simple = twin("kernels"), twin("plain")
    for made, module in ((fastest, fast), (simple, plain), (fastest, fast)):
        made.predict(small_batch(1))
        assert kernels.in_force is made.choice and kernels.in_force.module is module
