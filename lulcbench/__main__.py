"""``python -m lulcbench`` is the ``lulcbench`` command."""

from lulcbench.cli import main

if __name__ == "__main__":
    main()
