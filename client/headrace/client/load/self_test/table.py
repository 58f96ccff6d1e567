"""Prints the result of a self-test."""

from __future__ import annotations

from collections.abc import Sequence

from rich.table import Table

from headrace.client.load.formatting import number_text
from headrace.client.load.self_test.measure import CONCURRENCY, Cost
from headrace.client.terminal.printing import print_table


def print_costs(costs: Sequence[Cost]) -> None:
    table = Table("COST OF A REQUEST IN THIS CLIENT", box=None, pad_edge=False, padding=(0, 2, 0, 0))
    table.add_column("µs", justify="right")
    table.add_column("MAX per s", justify="right")
    for cost in costs:
        table.add_row(cost.name, number_text(cost.seconds * 1e6), number_text(1 / cost.seconds))
    print_table(table)
    print(
        "",
        f"Processor time of one process; {CONCURRENCY} requests of two FP32[1,16] in flight, answered by an echo.",
        "At rates near the last column you measure this client instead of the server: raise --processes.",
        sep="\n",
    )
