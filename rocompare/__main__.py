"""``python -m rocompare`` is the command line."""

import os
import sys

if __name__ == "__main__":
    # Python has put the working folder before all others: what lies there would shadow what is
    # installed. It is needed only in a checkout that is not installed, where rocompare lies there.
    here = os.getcwd()  # noqa: PTH109  # pathlib would import modules that may be shadowed
    if not sys.flags.safe_path and sys.path[0] == here:
        del sys.path[0]
        if os.path.dirname(os.path.dirname(__file__)) == here:  # noqa: PTH120
            sys.path.append(here)

    from rocompare.cli import main

    main()
