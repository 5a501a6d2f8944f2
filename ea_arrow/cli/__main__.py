"""``python -m ea_arrow.cli`` is ``ea-arrow``."""

from ea_arrow.cli import main

main()
