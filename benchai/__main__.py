"""``python -m benchai``."""

from benchai.cli.app import main

main()
