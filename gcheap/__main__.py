"""``python -m gcheap``: the same as the ``gcheap`` command."""

from gcheap.cli import main

if __name__ == "__main__":
    main(prog_name="gcheap")
