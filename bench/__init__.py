"""The bench: our gateway and its peers, scenario by scenario, in turn on the same cores. `python -m bench --help`."""
