"""``python -m rocompare`` is the command line."""

from rocompare.cli import main

if __name__ == "__main__":
    main()
