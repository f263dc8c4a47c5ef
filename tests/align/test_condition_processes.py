"""Two processes against one, tensor by tensor: sound twins pass, and each fault among processes is found."""

from contextlib import closing

import psutil
import pytest

from detr_jittor.align import selftest
from detr_jittor.align.conditions.processes import twin_items
from detr_jittor.align.faults import fault
from detr_jittor.align.group import Group
from detr_jittor.align.run import run_stages
from detr_jittor.align.sample import write_sample
from detr_jittor.align.trial import Trial
from detr_jittor.align.witness import Role
from detr_jittor.align.worker import WorkerError

pytestmark = pytest.mark.slow

BOXES = "divisor(sum([*sizes, *rest]), processes)"
WEIGHTS = "processes.mean(weight.sum((1, 2), keepdims=True) + others)"
FAULTS = (
    fault("each process divides by its own boxes", "processes", "jt/criterion.py",
          BOXES, "divisor(sum([*sizes, *rest]), ALONE)"),
    fault("each process divides by its own class weights", "processes", "pt/criterion.py",
          WEIGHTS, "(weight.sum((1, 2), keepdims=True) + others)"),
    fault("each process keeps its own gradients (PyTorch 104336, DDP out of sync)", "processes", "jt/optim.py",
          "self.processes.average(self.added)", "self.added"),
    fault("gradients added, not averaged", "processes", "pt/processes.py", "flat /= self.size", "flat /= 1"),
    fault("only process 0 clips (DeepSpeed 1801)", "processes", "jt/optim.py",
          "self.config.clip_max_norm)", "0.0 if self.processes.rank else self.config.clip_max_norm)"),
    fault("a part arrives as zeros (PyTorch 84803 and 96600, Baichuan2 86)", "processes", "pt/processes.py",
          "dist.all_reduce(flat)", "dist.all_reduce(flat)\n        flat[:len(flat) // 100] = 0"),
)

FRAMEWORK = {"jt": "jittor", "pt": "pytorch"}


@pytest.fixture(scope="module")
def trial(tmp_path_factory):
    """Without dropout, as the condition has it. The twins in one process serve all faults."""
    folder = tmp_path_factory.mktemp("processes") / "data"
    write_sample(folder, 3)
    trial = Trial(selftest.small_config(folder, 3, plain=False).replace(dropout=0.0), None, selftest.PLAN)
    yield trial
    trial.close()


def test_sound_twins_pass(tmp_path):
    with closing(selftest.sample_trial(tmp_path / "data", 3, plain=False)) as trial:
        stage, = run_stages(trial, ["processes"])
    assert stage.passed, stage.worst
    names = {item.name for item in stage.items}
    for framework in ("jittor", "pytorch"):
        assert {f"{framework}: weights of all processes after the step", f"{framework}: loss_giou_0",
                f"{framework}: gradient of backbone.0.body.layer3.0.conv1.weight",
                f"{framework}: gradient of query_embed.weight"} <= names


@pytest.mark.parametrize("planted", FAULTS, ids=[f.name for f in FAULTS])
def test_a_fault_among_processes_is_found(trial, monkeypatch, planted):
    """In the twin of its file, in the two processes; that one process is sound. It runs, and its numbers are wrong."""
    start, framework = Trial.start, FRAMEWORK[planted.file[:2]]

    def faulty(self, name, fault=None, role=None):
        start(self, name, planted if role is not None and role.processes > 1 else fault, role)

    monkeypatch.setattr(Trial, "start", faulty)
    assert [item for item in twin_items(trial, framework) if not item.passed]


@pytest.mark.timeout(300)  # one that waits for the other would wait for ever
@pytest.mark.parametrize("what", ["an error", "one is killed"])
def test_a_process_that_fails_ends_all(tmp_path, what):
    group = Group(Role("two", "pytorch", processes=2), selftest.small_config(tmp_path, 0, False), 8)
    counts = [structure["n_parameters"] for structure in group.ask("structure")]
    assert counts[0] == counts[1] > 1e5
    processes = psutil.Process(group.launcher.pid).children(recursive=True)
    if what == "one is killed":
        next(p for p in processes if "detr_jittor.align.group" in p.cmdline()).kill()
        with pytest.raises(WorkerError, match="a process of two ended without an answer to structure"):
            group.ask("structure")
    else:
        with pytest.raises(WorkerError, match="TypeError"):
            group.ask("share_step")
    group.close()
    assert group.launcher.poll() is not None and psutil.wait_procs(processes, timeout=30)[1] == []
