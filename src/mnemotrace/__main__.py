"""`python -m mnemotrace` is the command line."""

from mnemotrace.cli import main

if __name__ == "__main__":
    main(prog_name="mnemotrace")
