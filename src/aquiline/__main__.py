"""``python -m aquiline`` is ``aquiline``."""

import sys

from aquiline.cli import main

sys.exit(main())
