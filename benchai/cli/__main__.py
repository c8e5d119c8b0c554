"""``python -m benchai.cli``."""

from benchai.cli.app import main

main()
