"""`weakseg paint` that writes a minute after the last change: ``writes_late.py DATA OPTION...``."""

import sys

from weakseg_lightning.cli import main
from weakseg_lightning.painting import session

if __name__ == "__main__":
    session.SAVE_AFTER = session.SAVE_AT_LATEST = 60
    sys.exit(main(["paint", *sys.argv[1:]]))
