"""What a package index shows of this package: README, without what takes the repository. All else is in setup.cfg."""

import re
from pathlib import Path

from setuptools import setup

_NAME = "airflow-provider-azureml-classic"
#: What goes, and what comes in its place: pictures and links that are files, commands of the repository, its paths.
_CHANGES = (
    (r" With containers instead:\n\[docs/compose[^\n]*", ""),
    (r"!\[[^\]]*\]\((?!https?:)[^)]*\)\n\n", ""),
    (r"\[([^\]]+)\]\((?!https?:|#)[^)]*\)", r"\1"),
    (r"<!-- .*? -->\n", ""),
    (r"install git python3-venv` first. In this repository:", "install python3-venv` first."),
    (r",\nwhich `make site` builds as a site with search.", ": both are in the source archive, like the example DAGs."),
    (r"## Watch it retrain\n.*?(?=## )", ""),
    (r"\$ make serve +# or, installed:\n", ""),
    (r"pip install \. ", f"pip install {_NAME} "),
    (r'"\.\[', f'"{_NAME}['),
)


def description(readme: str) -> str:
    """README as it can stand alone.

    :param readme: its text.
    """
    for pattern, text in _CHANGES:
        readme = re.sub(pattern, text, readme, flags=re.S)
    return readme


if __name__ == "__main__":
    setup(
        long_description=description((Path(__file__).parent / "README.md").read_text()),
        long_description_content_type="text/markdown",
    )
