"""What a self-test says to people."""

from __future__ import annotations

from collections.abc import Sequence

from rich.table import Table

from headrace.client.load.report.formats import number_text
from headrace.client.load.self_test.measure import CONCURRENCY, Cost
from headrace.client.terminal.printing import print_table


def print_costs(costs: Sequence[Cost]) -> None:
    table = Table("WHAT THIS CLIENT SPENDS ON A REQUEST", box=None, pad_edge=False, padding=(0, 2, 0, 0))
    table.add_column("µs", justify="right")
    table.add_column("AT MOST, per s", justify="right")
    for cost in costs:
        table.add_row(cost.what, number_text(cost.seconds * 1e6), number_text(1 / cost.seconds))
    print_table(table)
    print(
        "",
        f"Processor time of one process with {CONCURRENCY} requests of two f32[1,16] in flight, answered by an echo.",
        "A rate that comes near the last column measures this client: give it --processes.",
        sep="\n",
    )
