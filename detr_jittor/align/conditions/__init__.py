"""What the ten stages leave out, each a stage of its own: other conditions than float32, the given batch and as many
threads as the machine has. Each file has `run(trial) -> Stage`."""

from detr_jittor.align.conditions import alone, bf16, processes, threads

CONDITIONS = {"threads": threads.run, "alone": alone.run, "bf16": bf16.run, "processes": processes.run}
