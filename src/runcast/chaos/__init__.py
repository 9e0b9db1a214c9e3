"""The proof: real processes, real faults, and a checker that reads what every watcher wrote down.

`script` says what a run tells, `plan` what goes wrong and when; both are drawn from a seed. `processes` runs the parts,
`link` stands between them and Redis, `faults` breaks and heals, `watchers` follow and note everything in a `record`,
`checker` compares the records with the archive, `report` prints it. `drill` puts them together.

Never: repairs what a watcher received, or forgives a difference because a fault explains it.
"""
