"""Writes the table that hot.c includes."""

import sys
from pathlib import Path

squares = ", ".join(str(n * n) for n in range(16))
Path(sys.argv[1]).write_text(f"static const int table[] = {{{squares}}};\n")
