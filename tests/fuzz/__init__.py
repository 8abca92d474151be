"""A fuzzer of every reader and every artefact: `make fuzz N=10000 SEED=1`.

`artefacts` makes small valid files with the project's own code. `mutators`, `containers` and
`sounds` change them: bytes, and what a format means by them, with checksums computed anew where one
would stop random bytes at once. `targets` are the readers. A worker (`worker`) changes one file,
reads it under the limits of `guard`, and `oracle` decides. `run` starts the workers and counts.
"""
