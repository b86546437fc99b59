"""``python -m torchfits``: the ``torchfits`` command."""

import sys

from torchfits.cli import main

sys.exit(main())
