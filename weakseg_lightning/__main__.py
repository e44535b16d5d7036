"""`python -m weakseg_lightning` is the command `weakseg`."""

import sys

from weakseg_lightning.cli import main

if __name__ == "__main__":
    sys.exit(main())
