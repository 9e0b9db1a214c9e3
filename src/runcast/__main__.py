"""`python -m runcast` is the command `runcast`."""

from runcast.cli import main

if __name__ == "__main__":
    main()
