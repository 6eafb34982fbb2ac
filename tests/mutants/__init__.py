"""Each check that guards a guarantee is taken out in turn, and a test of `make test` has to fail for it (`make mutants`).

The tables (``*.toml``) name the check by a piece of its source text, which stands exactly once in its file: a check that
moves has to be pointed at again, and one that goes takes its entry with it. Words before the colon of ``guards`` are the
numbers of the guarantees in ARCHITECTURE.md ("Guarantees"), or the subject of another promise. Where another check keeps
off the same harm, ``behind`` names it, and both are taken out together.
"""
