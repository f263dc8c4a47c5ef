"""A comparison: the equal runs, what they were made of, and what came out."""

from dataclasses import dataclass

from detr_jittor.compare import numbers
from detr_jittor.compare.numbers import Evaluation, Quantity
from detr_jittor.compare.protocol import Pairs
from detr_jittor.compare.tables import ap_table, cost_table, loss_table, seed_table, verdict
from detr_jittor.config.options import Config
from detr_jittor.report.page import Table

WHERE = {"test": "held-out", "train_eval": "training"}


@dataclass(frozen=True)
class Comparison:
    pairs: Pairs
    command: str  # that repeats it
    conditions: dict  # of the runs, {"data": …, "machine": …}; empty where they are not known
    evaluations: dict[str, dict[str, Evaluation]]
    losses: dict[str, dict[str, Quantity]]
    costs: dict[str, Quantity]

    @staticmethod
    def of(pairs: Pairs, command: str, conditions: dict) -> "Comparison":
        return Comparison(pairs, command, conditions, numbers.evaluations(pairs), numbers.losses(pairs),
                          numbers.costs(pairs))

    @property
    def config(self) -> Config:
        return next(iter(self.pairs.values()))["jittor"].config

    def verdicts(self) -> list[str]:
        return [verdict(of_split["last"].values.get("AP"), len(self.pairs), WHERE[split])
                for split, of_split in self.evaluations.items()]

    def tables(self) -> dict[str, Table]:
        """Title → table"""
        tables = {}
        for split, of_split in self.evaluations.items():
            title = f"AP on the {WHERE[split]} pictures{self.count(split)}"
            tables[title] = ap_table(split, of_split)
            if len(self.pairs) > 1:
                tables[f"{title}, seed by seed"] = seed_table(self.pairs, of_split)
        return tables | {"Loss": loss_table(self.losses), "Seconds and memory": cost_table(self.costs)}

    def count(self, split: str) -> str:
        """How many pictures were evaluated, e.g. " (64 of 800)", where it is known."""
        data = self.conditions.get("data")
        if not data:
            return ""
        if split == "test":
            return f" ({data['val']['pictures']})"
        whole = data["train"]["pictures"]
        return f" ({min(self.config.run.eval_train, whole)} of {whole})"

    def text(self) -> str:
        """The tables and the verdicts, for a terminal and for a README."""
        tables = [f"{title}\n\n{table.markdown()}" for title, table in self.tables().items()]
        return "\n\n".join([*tables, *self.verdicts()])
