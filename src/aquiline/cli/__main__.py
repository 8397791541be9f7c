"""``python -m aquiline.cli`` is ``aquiline``."""

import sys

from aquiline.cli import main

sys.exit(main())
