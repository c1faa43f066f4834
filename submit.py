#!/usr/bin/env python
"""Run a stage of the LightSANs pipeline out of a checkout; `pipelines/commands/app.py` has it all.

An installed package brings the same as the program `lightsans`.
"""

from pipelines.commands.app import main

if __name__ == "__main__":
    main()
