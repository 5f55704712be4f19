import ast
import subprocess
import sys
from pathlib import Path

import pytest
import torch

import weighbridge
from registry.errors import iter_error_classes


def python(*arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, *arguments], cwd=cwd, capture_output=True, text=True, check=False)


def test_every_public_name_can_be_imported():
    assert [name for name in weighbridge.__all__ if getattr(weighbridge, name, None) is None] == []


def test_the_names_that_type_checkers_see_are_the_public_ones():
    tree = ast.parse(Path(weighbridge.__file__).read_text())
    (seen,) = [node for node in tree.body if isinstance(node, ast.If)]
    imported = {
        alias.asname or alias.name for node in seen.body if isinstance(node, ast.ImportFrom) for alias in node.names
    }
    assert (imported - {"_version"}) | {"__version__"} == set(weighbridge.__all__)


def test_public_errors_are_the_ones_that_the_client_raises():
    errors = {error.__name__: error for error in iter_error_classes()}
    public = [name for name in weighbridge.__all__ if name.endswith("Error")]
    assert [name for name in public if getattr(weighbridge, name) is not errors[name]] == []


def test_inspect_reads_a_file_or_the_only_one_of_a_folder(tmp_path):
    with pytest.raises(weighbridge.NotFoundError):
        weighbridge.inspect(tmp_path / "none.pt")
    torch.save({"weight": torch.ones(2)}, tmp_path / "model.pt")
    for path in (tmp_path / "model.pt", tmp_path):
        assert [tensor.name for tensor in weighbridge.inspect(path).tensors] == ["weight"]


def test_an_unknown_name_is_an_attribute_error():
    assert not hasattr(weighbridge, "nothing_like_it")


def test_importing_the_client_needs_neither_torch_nor_a_server_package(tmp_path):
    heavy = ["torch", "numpy", "fastapi", "starlette", "sqlalchemy", "uvicorn", "boto3", "minio", "rich"]
    code = f"import sys; from weighbridge import Client; print([name for name in {heavy!r} if name in sys.modules])"
    assert python("-c", code, cwd=tmp_path).stdout.strip() == "[]"


def test_importing_weighbridge_alone_imports_almost_nothing(tmp_path):
    code = (
        "import sys, weighbridge; print([name for name in ('pydantic', 'urllib3', 'registry') if name in sys.modules])"
    )
    assert python("-c", code, cwd=tmp_path).stdout.strip() == "[]"


def test_somebody_elses_registry_module_is_named(tmp_path):
    (tmp_path / "registry.py").write_text("models = {}\n")
    (tmp_path / "train.py").write_text("import weighbridge\n")

    done = python("train.py", cwd=tmp_path)

    assert done.returncode == 1
    assert f"`import registry` finds {tmp_path / 'registry.py'}" in done.stderr
    assert "Rename" in done.stderr


def test_somebody_elses_registry_package_is_named(tmp_path):
    (tmp_path / "registry").mkdir()
    (tmp_path / "registry" / "__init__.py").write_text("")

    done = python("-c", "import weighbridge", cwd=tmp_path)

    assert done.returncode == 1
    assert str(tmp_path / "registry" / "__init__.py") in done.stderr


def test_a_stranger_that_was_imported_first_is_named_too(tmp_path):
    (tmp_path / "registry.py").write_text("models = {}\n")
    done = python("-c", "import registry, weighbridge", cwd=tmp_path)
    assert str(tmp_path / "registry.py") in done.stderr.splitlines()[-1]


def test_a_folder_called_registry_without_python_in_it_hides_nothing(tmp_path):
    (tmp_path / "registry").mkdir()
    assert python("-c", "from weighbridge import Client", cwd=tmp_path).returncode == 0
