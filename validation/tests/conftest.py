"""What the package's own tests start from."""

from tests.conftest import invented, invented_folder, invented_patients

__all__ = ["invented", "invented_folder", "invented_patients"]
