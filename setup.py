"""What pyproject.toml cannot say: ``conf/`` lies inside the package in a wheel, and beside it in a checkout."""

from pathlib import Path

from setuptools import setup
from setuptools.command.build_py import build_py


class BuildWithConf(build_py):
    """Copy the options into the built package; an editable installation reads them where they are."""

    def run(self):
        """Build as always, then copy."""
        super().run()
        if not self.editable_mode:
            self.copy_tree("conf", str(Path(self.build_lib, "lessexp", "conf")))


setup(cmdclass={"build_py": BuildWithConf})
