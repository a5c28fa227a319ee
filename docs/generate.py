"""Write the generated pages of the documentation: `make docs`. A test compares them with what is here."""

from pathlib import Path

from autoad_cli.reference import markdown

HERE = Path(__file__).parent

if __name__ == "__main__":
    (HERE / "configuration.md").write_text(markdown(), encoding="utf-8")
