"""Every example in README and docs is a file in examples/, and every file in examples/ runs."""

from __future__ import annotations

import json
import re
import runpy
import shlex
import shutil
from pathlib import Path
from typing import get_args

import pytest
import torch
from calling import secateur
from small_llama import TEXT, write_llama

import secateur as sc
from secateur.cli.app import VERBS
from secateur.spec import UNITS
from secateur.spec.run import METRICS
from secateur.spec.structure import Role

ROOT = Path(__file__).parents[2]
EXAMPLES = ROOT / "examples"
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
BLOCK = re.compile(r"```(python|sh|yaml)\n(.*?)```", re.DOTALL)
GLOSSARY = (ROOT / "docs" / "glossary.md").read_text()


def blocks() -> list[tuple[str, str, str]]:
    return [(page.name, kind, text) for page in PAGES for kind, text in BLOCK.findall(page.read_text())]


def without_head(path: Path) -> str:
    """The file's text without its docstring."""
    return re.sub(r'\A""".*?"""\n+', "", path.read_text(), flags=re.DOTALL)


def test_every_block_is_the_text_of_an_example() -> None:
    known = {without_head(path) for path in EXAMPLES.iterdir() if path.is_file()}
    strangers = [f"{page}: {text}" for page, _, text in blocks() if text not in known]
    assert strangers == []
    assert len(blocks()) >= 5


@pytest.fixture(scope="module")
def surroundings(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What examples find in the folder where they run: recipes, a language model, and a text for it."""
    folder = tmp_path_factory.mktemp("examples")
    for recipe in EXAMPLES.glob("*.yaml"):
        shutil.copy(recipe, folder)
    write_llama(folder / "llama")
    (folder / "corpus").mkdir()
    (folder / "corpus" / "times.txt").write_text(120 * TEXT)
    return folder


@pytest.fixture
def here(surroundings: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder where an example runs."""
    shutil.copytree(surroundings, tmp_path, dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.usefixtures("here")
@pytest.mark.parametrize("name", sorted(path.name for path in EXAMPLES.glob("*.py")))
def test_python_examples_run(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    with torch.random.fork_rng():
        runpy.run_path(str(EXAMPLES / name))
    assert capsys.readouterr().out


@pytest.mark.usefixtures("here")
def test_the_cells_of_the_tour_run_in_order(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("timm")
    pytest.importorskip("transformers")
    cells = [cell for cell in json.loads((EXAMPLES / "tour.ipynb").read_text())["cells"] if cell["cell_type"] == "code"]
    Path("tour.py").write_text("\n\n".join("".join(cell["source"]) for cell in cells))
    with torch.random.fork_rng():
        runpy.run_path("tour.py", run_name="__main__")
    said = capsys.readouterr().out.splitlines()
    shown = [line for cell in cells for output in cell["outputs"] for line in output["text"]]
    assert len(said) == len(shown)


def test_every_public_name_is_used_in_an_example() -> None:
    texts = "".join(path.read_text() for path in EXAMPLES.glob("*.py"))
    assert [name for name in sc.__all__ if not re.search(rf"\bsc\.{name}\b", texts)] == []


@pytest.mark.usefixtures("here")
@pytest.mark.parametrize("name", sorted(path.name for path in EXAMPLES.glob("*.sh")))
def test_shell_examples_run(name: str) -> None:
    commands = [line for line in (EXAMPLES / name).read_text().splitlines() if not line.startswith("#")]
    for command in commands:
        program, *arguments = shlex.split(command)
        assert program == "secateur"
        found = secateur(*arguments)
        assert found.code == 0, f"{command}: {found.err}"
        assert found.out


def test_the_readme_names_every_verb_and_exit_code() -> None:
    text = (ROOT / "README.md").read_text()
    assert [verb for verb in VERBS if f"`{verb}`" not in text] == []
    assert "make demo" in text
    assert "make test" in text


def test_the_glossary_has_every_metric_unit_and_reason_code() -> None:
    source = "".join(path.read_text() for path in (ROOT / "src" / "secateur" / "structure").rglob("*.py"))
    codes = set(re.findall(r"\b(?:Pin|_pin_all|pin|fixed)\((?:[^\"()]*, )?\"([a-z-]+)\"", source))
    assert {"output", "input", "indexed", "operator", "size-in-code"} <= codes
    missing = [term for term in [*codes, *UNITS, *METRICS] if f"`{term}`" not in GLOSSARY]
    assert missing == []


def test_the_glossary_has_every_role() -> None:
    assert [role for role in get_args(Role) if f"`{role}`" not in GLOSSARY] == []


def test_links_lead_somewhere() -> None:
    for page in PAGES:
        for target in re.findall(r"\]\(([^)#:]+)\)", page.read_text()):
            assert (page.parent / target).exists(), f"{page.name}: {target}"
