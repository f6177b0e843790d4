"""`python3 -m crossbuild`."""

import sys

from crossbuild.cli import main

sys.exit(main())
