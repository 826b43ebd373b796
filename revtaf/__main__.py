"""`python -m revtaf`: the command line of `revtaf.cli`."""

import sys

from revtaf.cli import main

sys.exit(main())
