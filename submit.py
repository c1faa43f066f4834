#!/usr/bin/env python
"""Run a stage of the LightSANs pipeline out of a checkout; `pipelines/program.py` is its start.

An installed package brings the same as the program `lightsans`.
"""

from pipelines.program import main

if __name__ == "__main__":
    main()
