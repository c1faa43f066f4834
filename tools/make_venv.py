"""Create .venv (or the directory named) with the Python that runs this, or say why not.

Old Pythons can run it, too.
"""

import os
import shutil
import subprocess
import sys
import venv

if sys.version_info < (3, 11):  # noqa: UP036 - this is the one file that meets old Pythons
    sys.exit(
        f"Python 3.11 or newer is needed; {sys.executable} is {sys.version.split()[0]}. "
        "Name another one (and remove .venv if it is there): make setup PYTHON=/path/to/python3.11"
    )
directory = sys.argv[1] if len(sys.argv) > 1 else ".venv"
if not os.path.exists(os.path.join(directory, "bin", "python")):
    try:
        venv.create(directory, with_pip=True)
    except subprocess.CalledProcessError as error:
        shutil.rmtree(directory)
        sys.exit(
            f"{sys.executable} could not make {directory}; on Debian and Ubuntu, "
            f"apt install python3-venv: {(error.output or b'').decode()}"
        )
