"""What is found in folders: models, their versions, and what is wrong with others."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from headrace.server.repository.scan import Disk, FoundModel, Scan, UnreadableRepositoryError
from headrace.server.repository.source import ModelSource, SourceError, VersionPolicy


def plain(name: str, folder: Path) -> ModelSource:
    return ModelSource(name, folder)


def write(root: Path, *paths: str) -> None:
    """Empty files; a path that ends in / is a folder."""
    for path in paths:
        if path.endswith("/"):
            (root / path).mkdir(parents=True, exist_ok=True)
        else:
            (root / path).parent.mkdir(parents=True, exist_ok=True)
            (root / path).touch()


def scan(root: Path, *, follow_links: bool = False) -> Scan:
    return Disk([], [root], plain, follow_links=follow_links).scan()


def found(root: Path, *paths: str) -> FoundModel:
    """The model `m` of a repository with these files in its folder."""
    write(root / "m", *paths)
    return scan(root).models["m"]


def paths(model: FoundModel, root: Path) -> dict[int, str]:
    return {number: str(version.model.path.relative_to(root)) for number, version in model.versions.items()}


@pytest.mark.parametrize(
    ("files", "versions"),
    [
        (("1/model.onnx",), {1: "m/1/model.onnx"}),
        (("1/model.onnx", "3/model.onnx", "20/model.onnx"), {n: f"m/{n}/model.onnx" for n in (1, 3, 20)}),
        (("00000123/resnet.tflite",), {123: "m/00000123/resnet.tflite"}),
        (("1/any.xml", "1/any.bin"), {1: "m/1/any.xml"}),
        (("1/inference.pdmodel", "1/inference.pdiparams", "1/inference.pdiparams.info"), {1: "m/1/inference.pdmodel"}),
        (("1/saved_model.pb", "1/variables/variables.index", "1/fingerprint.pb"), {1: "m/1"}),
        (("1/model.savedmodel/saved_model.pb", "1/model.savedmodel/variables/"), {1: "m/1/model.savedmodel"}),
        (("1/model.onnx/model.onnx", "1/model.onnx/weights"), {1: "m/1/model.onnx/model.onnx"}),
        (("1/model.onnx", "1/other.onnx"), {1: "m/1/model.onnx"}),
        (("1/model.onnx", "1/.model.onnx.swp", "1/.x.onnx", "1/labels.txt", "1/README.md"), {1: "m/1/model.onnx"}),
        (("config.pbtxt", "labels.txt", "1/model.onnx", "1/config.pbtxt"), {1: "m/1/model.onnx"}),
        (("model.onnx",), {1: "m/model.onnx"}),
        (("resnet.xml", "resnet.bin", "labels.txt", "config.pbtxt"), {1: "m/resnet.xml"}),
        (("saved_model.pb", "variables/", "assets/"), {1: "m"}),
        (("1/model.onnx", "2.bak/model.onnx", "v2/model.onnx", "-1/model.onnx", "0/model.onnx"), {1: "m/1/model.onnx"}),
        (("1/model.onnx", "\u0662/model.onnx", "2 /model.onnx", "+2/model.onnx", "1e1/a.onnx"), {1: "m/1/model.onnx"}),
        (("1/model.onnx", f"{1 << 63}/model.onnx", f"{'9' * 200}/a.onnx"), {1: "m/1/model.onnx"}),
        (("1/model.onnx", "2", "3.onnx/"), {1: "m/1/model.onnx"}),
    ],
)
def test_a_model_and_its_versions(tmp_path: Path, files: tuple[str, ...], versions: dict[int, str]) -> None:
    model = found(tmp_path, *files)
    assert paths(model, tmp_path) == versions
    assert model.problem is None
    assert not model.problems
    assert [version.model.version for version in model.versions.values()] == [*map(str, versions)]


@pytest.mark.parametrize(
    ("files", "problem", "told"),
    [
        (("",), ".pdmodel or saved_model.pb), it is empty", "no model"),
        (("labels.txt",), "has no model (.xml, .onnx, .pb, .pbtxt, .tflite, .pdmodel or saved_model.pb), only", ""),
        (("a.onnx", "b.onnx"), "several models: a.onnx, b.onnx. Name one of the files as NAME=FILE", "several models"),
        (("model.onnx", "model.xml"), "several models: model.onnx, model.xml", "several models"),
        (("model.onnx", "1/model.onnx", "12/"), "both a model (model.onnx) and versions (1, 12): move", "both"),
        (("sub/1/model.onnx",), "A folder of models is served with --repository", ""),
    ],
)
def test_a_folder_that_is_no_model(tmp_path: Path, files: tuple[str, ...], problem: str, told: str) -> None:
    (tmp_path / "m").mkdir()
    model = found(tmp_path, *filter(None, files))
    assert not model.versions
    assert problem in str(model.problem)
    assert model.problem is not None
    assert told in model.problem.told
    assert str(tmp_path) not in model.problem.told


@pytest.mark.parametrize(
    ("files", "problem"),
    [
        (("2/",), "model 'm' version 2: folder"),
        (("2/a.onnx", "2/b.xml"), "has several models: a.onnx, b.xml"),
        (("2/a.onnx", "02/a.onnx"), "version 2 has several folders: "),
    ],
)
def test_a_version_that_is_not_clear_does_not_spoil_the_others(
    tmp_path: Path, files: tuple[str, ...], problem: str
) -> None:
    model = found(tmp_path, "1/model.onnx", *files)
    assert paths(model, tmp_path) == {1: "m/1/model.onnx"}
    assert problem in str(model.problems[2])


def test_a_repository_has_models_and_remarks(tmp_path: Path) -> None:
    write(tmp_path, "a/1/model.onnx", "b/model.xml", "README.md", ".git/config", "lost+found/", "loose.onnx")
    write(tmp_path, "not valid/1/model.onnx", f"{'n' * 129}/model.onnx", "empty/")
    result = scan(tmp_path)
    assert sorted(result.models) == ["a", "b", "empty"]
    assert result.models["empty"].problem is not None
    assert len(result.remarks) == 3
    assert f"'{tmp_path}/loose.onnx' is not served: it is not in a folder of its own" in result.remarks


def test_a_repository_that_cannot_be_listed_is_not_taken_for_an_empty_one(tmp_path: Path) -> None:
    with pytest.raises(UnreadableRepositoryError, match=r"repository '.*none' cannot be read: No such file"):
        scan(tmp_path / "none")


def test_one_name_in_two_places_is_served_from_neither(tmp_path: Path) -> None:
    write(tmp_path, "one/m/model.onnx", "two/m/model.onnx", "m.onnx")
    both = Disk([], [tmp_path / "one", tmp_path / "two"], plain).scan().models["m"]
    named = Disk([ModelSource("m", tmp_path / "m.onnx")], [tmp_path / "one"], plain).scan().models["m"]
    for model, required in ((both, False), (named, True)):
        assert not model.versions
        assert "two models have the name 'm'" in str(model.problem)
        assert model.required is required
    with pytest.raises(SourceError, match="two models have the name 'm'"):
        named.check()


def test_a_configuration_decides_name_policy_and_file(tmp_path: Path) -> None:
    write(tmp_path, "m/1/a.onnx", "m/1/b.onnx", "m/2/b.onnx", "bad/model.onnx", "gone/model.onnx")

    def configure(name: str, folder: Path) -> ModelSource:
        if name == "bad":
            raise SourceError(f"{folder / 'config.pbtxt'}: line 3: unknown key")
        if name == "gone":
            (folder / "config.pbtxt").read_bytes()
        return ModelSource(name, folder, VersionPolicy(listed=frozenset({1})), file="b.onnx")

    models = Disk([], [tmp_path], configure).scan().models
    assert paths(models["m"], tmp_path) == {1: "m/1/b.onnx", 2: "m/2/b.onnx"}
    assert models["m"].policy.choose(models["m"].versions) == [1]
    assert "unknown key" in str(models["bad"].problem)
    assert "model 'gone' cannot be read from" in str(models["gone"].problem)


def test_options_for_a_model_that_is_not_there_are_remarked(tmp_path: Path) -> None:
    write(tmp_path, "m/model.onnx")
    disk = Disk([], [tmp_path], plain, configured={"m": "headrace.toml:1", "n": "headrace.toml:5"})
    assert disk.scan().remarks == ["headrace.toml:5: there is no model 'n' that these options are for"]
    write(tmp_path, "n/model.onnx")
    assert disk.scan().remarks == []


def test_links_inside_are_followed_as_kubernetes_mounts_them(tmp_path: Path) -> None:
    """A ConfigMap: `..data` is a link to a folder that is replaced as a whole."""
    repository = tmp_path / "repository"
    write(repository, "m/..2026/model.onnx", "shared/model.xml")
    (repository / "m" / "..data").symlink_to("..2026")
    (repository / "m" / "model.onnx").symlink_to("..data/model.onnx")
    (repository / "alias").symlink_to(repository / "shared")
    (tmp_path / "mount").symlink_to("repository")
    for root in (repository, tmp_path / "mount"):
        models = scan(root).models
        assert [model.problem for model in models.values()] == [None] * 3
        assert paths(models["m"], root) == {1: "m/model.onnx"}
    before = scan(repository).models["m"]
    write(repository, "m/..2027/model.onnx")
    (repository / "m" / "new").symlink_to("..2027")
    os.replace(repository / "m" / "new", repository / "m" / "..data")
    assert scan(repository).models["m"] != before


LEAVING = ["m", "m/1", "m/1/model.onnx", "m/1/model.bin", "m/1/model.savedmodel", "m/model.onnx"]


@pytest.mark.parametrize("way", ["absolute", "relative", "by another link"])
@pytest.mark.parametrize("place", LEAVING)
def test_links_that_lead_out_are_refused_unless_allowed(tmp_path: Path, place: str, way: str) -> None:
    outside, repository = tmp_path / "repository-outside", tmp_path / "repository"
    write(outside, "folder/1/model.onnx", "saved/saved_model.pb", "model.onnx", "model.bin")
    suffix = Path(place).suffix
    target = outside / (f"model{suffix}" if suffix in (".onnx", ".bin") else "folder" if place == "m" else "folder/1")
    if suffix == ".savedmodel":
        target = outside / "saved"
    write(repository, "m/1/model.xml" if suffix == ".bin" else "other/model.onnx")
    link = repository / place
    link.parent.mkdir(parents=True, exist_ok=True)
    if way == "by another link":
        (repository / "hop").symlink_to(target)
        target = repository / "hop"
    link.symlink_to(os.path.relpath(target, link.parent) if way == "relative" else target)
    model = scan(repository).models["m"]
    (problem,) = filter(None, (model.problem, *model.problems.values()))
    assert "leads out of the repository" in str(problem)
    assert problem.told == "it leads out of its repository"
    assert not model.versions
    allowed = scan(repository, follow_links=True).models["m"]
    assert allowed.versions


def test_weights_outside_are_refused(tmp_path: Path) -> None:
    """An ONNX file names the file of its weights; a link of that name must not lead out either."""
    location = b"\x0a\x08location\x12\x07weights"
    write(tmp_path, "repository/m/1/", "outside")
    (tmp_path / "repository/m/1/model.onnx").write_bytes(location)
    (tmp_path / "repository/m/1/weights").symlink_to(tmp_path / "outside")
    model = scan(tmp_path / "repository").models["m"]
    assert "leads out of the repository" in str(model.problems[1])


def test_models_that_the_operator_names_may_be_links(tmp_path: Path) -> None:
    """As Hugging Face's cache has them."""
    write(tmp_path, "blobs/abc", "snapshots/x/")
    (tmp_path / "snapshots/x/model.onnx").symlink_to("../../blobs/abc")
    source = ModelSource("m", tmp_path / "snapshots" / "x")
    assert paths(Disk([source], [], plain).scan().models["m"], tmp_path) == {1: "snapshots/x/model.onnx"}


def test_links_in_circles_are_no_models(tmp_path: Path) -> None:
    write(tmp_path, "m/1/", "n/")
    (tmp_path / "m/1/model.onnx").symlink_to("model.onnx")
    (tmp_path / "loop").symlink_to("loop")
    (tmp_path / "n/1").symlink_to("../n")
    models = scan(tmp_path).models
    assert models["m"].problems
    assert not any(model.versions for model in models.values())


def test_every_file_of_a_saved_model_counts(tmp_path: Path) -> None:
    files = ("1/saved_model.pb", "1/variables/variables.index", "1/assets/words.txt", "1/assets.extra/x")
    before = found(tmp_path, *files, "1/notes/unrelated").versions[1]
    for file in files:
        (tmp_path / "m" / file).write_text("new")
        after = scan(tmp_path).models["m"].versions[1]
        assert after != before
        before = after
    (tmp_path / "m/1/notes/unrelated").write_text("new")
    assert scan(tmp_path).models["m"].versions[1] == before


def test_a_file_that_is_missing_is_named(tmp_path: Path) -> None:
    model = Disk([ModelSource("m", tmp_path / "none" / "m.onnx")], [], plain).scan().models["m"]
    with pytest.raises(SourceError, match=r"^model 'm': file '.*none/m\.onnx' does not exist$") as raised:
        model.check()
    assert raised.value.told == "its file is missing"


@pytest.mark.parametrize(
    ("link", "files"),
    [
        ("m/1/labels.txt", ("m/1/model.onnx",)),
        ("m/1/model.labels.txt", ("m/1/model.onnx",)),
        ("m/1/variables", ("m/1/saved_model.pb",)),
        ("m/1/variables/variables.index", ("m/1/saved_model.pb",)),
        ("m/1/model.onnx/model.onnx", ("m/1/model.onnx/",)),
        ("m/1/model.savedmodel/saved_model.pb", ("m/1/model.savedmodel/",)),
    ],
)
def test_nothing_beside_or_inside_a_model_leads_out(tmp_path: Path, link: str, files: tuple[str, ...]) -> None:
    """And nothing of it is opened or listed before that is known."""
    outside = tmp_path / "outside"
    write(tmp_path, "outside/file", "repository/")
    write(tmp_path / "repository", *files)
    place = tmp_path / "repository" / link
    place.parent.mkdir(parents=True, exist_ok=True)
    place.symlink_to(outside if link.endswith("variables") else outside / "file")
    touched: list[str] = []
    hook_is_on = True

    def hook(event: str, arguments: tuple[object, ...]) -> None:
        if (
            hook_is_on
            and event in ("open", "os.listdir", "os.scandir")
            and isinstance(arguments[0], (str, os.PathLike))
        ):
            touched.append(os.path.realpath(arguments[0]))

    sys.addaudithook(hook)
    model = scan(tmp_path / "repository").models["m"]
    hook_is_on = False
    assert "leads out of the repository" in str(model.problems[1])
    assert touched
    assert not [path for path in touched if path.startswith(str(outside))]


def test_labels_belong_to_a_version(tmp_path: Path) -> None:
    before = found(tmp_path, "1/model.onnx").versions[1]
    (tmp_path / "m/1/labels.txt").write_text("cat")
    assert scan(tmp_path).models["m"].versions[1] != before


def test_a_version_that_is_taken_for_a_model_is_remarked(tmp_path: Path) -> None:
    write(tmp_path, "3/model.onnx")
    (remark,) = scan(tmp_path).remarks
    assert f"'{tmp_path}/3' is served as a model that is called 3: if it is a version" in remark


@pytest.mark.parametrize("place", ["bad", "m/2"])
def test_what_cannot_be_looked_at_spoils_nothing_else(tmp_path: Path, place: str) -> None:
    write(tmp_path, "m/1/model.onnx", "n/model.onnx")
    (tmp_path / place).symlink_to("x" * 300)  # File name too long
    models = scan(tmp_path).models
    assert paths(models["m"], tmp_path) == {1: "m/1/model.onnx"}
    assert paths(models["n"], tmp_path) == {1: "n/model.onnx"}
    problem = models["m"].problems[2] if place == "m/2" else models["bad"].problem
    assert "cannot be read" in str(problem)
