import sys

from revtaf.cli import main

sys.exit(main())
