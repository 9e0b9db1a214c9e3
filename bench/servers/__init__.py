"""The servers that are measured: ours, the floor, and the peers. Each knows how to be installed, started and watched."""
