"""From margins to a posterior: kernel, likelihood, priors, model, fitting, risks."""

import os
from contextlib import suppress


def _give_caches_a_place() -> None:
    """A folder of this process for what PyTensor compiles, where there is no home to write to: it is not imported otherwise.

    Matplotlib, which would make one of its own and say so at length, shares it.
    A folder that other processes could find would need a name that other users could take first.
    """
    folder = os.path.expanduser("~/.pytensor")
    while not os.path.exists(folder) and folder:
        folder = os.path.dirname(folder)
    flags = os.environ.get("PYTENSOR_FLAGS", "")
    if (os.path.isdir(folder) and os.access(folder, os.W_OK | os.X_OK)) or "base_compiledir" in flags:
        return
    import atexit
    import shutil
    import tempfile

    with suppress(OSError):  # nothing can be written anywhere: PyTensor says so when it is needed
        made = tempfile.mkdtemp(prefix="aemodel-")
        atexit.register(shutil.rmtree, made, ignore_errors=True)
        os.environ["PYTENSOR_FLAGS"] = ",".join([*filter(None, [flags]), f"base_compiledir={made}"])
        os.environ.setdefault("MPLCONFIGDIR", made)


_give_caches_a_place()
