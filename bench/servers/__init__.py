"""The servers that are measured: ours, the floor, the peers. Each knows how it is installed, started and watched."""
