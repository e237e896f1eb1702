"""`python -m bench [TABLE ...] [--quick] [--only WORD]`: print tables, write them to bench/results."""

from __future__ import annotations

import argparse
import importlib
import sys

from bench import timing

TITLES = {
    "engine": "one op on 16 elements, forward + backward",
    "ops": "op, forward + backward",
    "steps": "training step",
    "metrics": "metric of 10,000 real and 10,000 generated samples",
}
OWN_TABLES = ["memory", "logging", "critic", "upscaling", "training"]  # own tables: measure(only), show, save
LONG = {"critic", "upscaling", "training"}  # train for minutes to hours: only where they are named


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument(
        "tables",
        nargs="*",
        metavar="TABLE",
        help=f"{', '.join([*TITLES, *OWN_TABLES])} (default: all but {', '.join(sorted(LONG))})",
    )
    parser.add_argument(
        "--quick", action="store_true", help="fewer rounds; nothing is written to bench/results"
    )
    parser.add_argument(
        "--only", default="", metavar="WORD", help="only rows whose name contains WORD; nothing is written"
    )
    args = parser.parse_args()
    known = [*TITLES, *OWN_TABLES]
    tables = args.tables or [table for table in known if table not in LONG]
    unknown = [t for t in tables if t not in known]
    if unknown:
        parser.error(f"table {unknown[0]!r} is unknown: expected some of {', '.join(known)}")
    timing.same_threads()
    for key, value in timing.environment().items():
        print(f"{key:>8}: {value}")
    for table in tables:
        _run(table, args.quick, args.only)
    return 0


def _run(table: str, quick: bool, only: str) -> None:
    if table in OWN_TABLES:
        module = importlib.import_module(f"bench.{table}")
        rows = module.measure(only)
        module.show(rows)
        write = module.save
    else:
        module = importlib.import_module(f"bench.{table}")
        rows = module.measure(timing.QUICK if quick else timing.FULL, only)
        other = "published" if table == "metrics" else "torch"
        timing.show(TITLES[table], rows, other)

        def write(rows):
            return timing.save_rows(table, rows, other)

    if rows and not quick and not only:
        print(f"written to {write(rows)}")


if __name__ == "__main__":
    sys.exit(main())
