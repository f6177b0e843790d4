"""`make bench`: measure, print one table, write one JSON and SVG plots to bench/out/."""

from __future__ import annotations

import argparse
import importlib
import sys
import time
from pathlib import Path

from bench.report import Row, progress, table, write

GROUPS = ("wire", "journal", "native", "trust", "streams", "hub", "pods", "footprint")
OUT = Path(__file__).with_name("out")


def main() -> int:
    top = argparse.ArgumentParser(prog="bench", description=__doc__)
    top.add_argument("--only", action="append", choices=GROUPS, help="this group only; may be repeated")
    top.add_argument("--quick", action="store_true", help="fewer rounds and shorter idle times")
    top.add_argument("--out", type=Path, default=OUT, help="folder of report.json and the plots")
    args = top.parse_args()
    rows: list[Row] = []
    for group in args.only or GROUPS:
        began = time.monotonic()
        progress(f"          {group}")
        rows += importlib.import_module(f"bench.{group}").rows(args.quick)
        progress(f"{time.monotonic() - began:7.1f} s  {group}")
    print("\n".join(table(rows)))
    write(rows, args.out)
    return 0


if __name__ == "__main__":
    sys.exit(main())
