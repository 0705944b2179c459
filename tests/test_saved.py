"""Saved models: what is written, that it comes back, and that a damaged or foreign one is refused."""

from __future__ import annotations

import gc
import hashlib
import io
import json
import os
import shutil
import sys
import weakref
import zipfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import xarray as xr

import aemodel
from aemodel.pages import card as card_module
from aemodel.pages import description as facts_module
from aemodel.pages.card import card
from aemodel.pages.description import model_facts
from aemodel.saved import reader
from aemodel.saved import writer as saving
from aemodel.saved.manifest import FIELDS, FILE_NAME, manifest_digest
from aemodel.saved.reader import find_model
from aemodel.scoring.risks import RiskDraws
from tests.fixtures import FIXTURES, FORMATS
from tests.reports import small_model

PATIENTS = pd.DataFrame(
    {
        "arm": ["low", None],
        "stage": ["local_small", "distant_large"],
        "region": ["north", None],
    }
)


@pytest.fixture(scope="module")
def shipped():
    return aemodel.load_model("aall1331")


@pytest.fixture(scope="module")
def few():
    """A small model as if it had just been fitted."""
    return small_model()


@pytest.fixture(scope="module")
def saved(few, tmp_path_factory):
    """A folder that tests leave as it is."""
    folder = tmp_path_factory.mktemp("saved") / "some" / "model"
    aemodel.save_model(few, folder)
    return folder


@pytest.fixture
def copy(saved, tmp_path):
    """A folder that tests damage."""
    return shutil.copytree(saved, tmp_path / "copy")


def changed(model):
    """The model with other risk draws."""
    risks = RiskDraws(**vars(model.risks) | {"draws": model.risks.draws * np.float32(0.5)})
    return aemodel.Fitted(model.tables, model.idata, model.diagnostics, model.settings, risks)


def manifest_of(folder):
    return json.loads((folder / "manifest.json").read_text(encoding="utf-8"))


def write_manifest(folder, manifest):
    """A manifest that vouches for itself, so that what is wrong with it is found for its own sake."""
    write_unsealed(folder, manifest | {"sha256": manifest_digest(manifest)})


def write_unsealed(folder, manifest):
    (folder / "manifest.json").write_text(json.dumps(manifest), encoding="utf-8")


def file_of(folder, kind):
    return folder / manifest_of(folder)["files"][kind]["name"]


def contents(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def refused(folder, message=None):
    with pytest.raises(aemodel.SavedModelError, match=message):
        aemodel.load_model(folder)


# The shipped model.


def test_shipped_model_is_found_by_its_name(shipped):
    assert shipped.name == "aall1331"


def test_shipped_model_is_the_same_by_its_folder(shipped):
    np.testing.assert_array_equal(aemodel.load_model(shipped.folder).risks.draws, shipped.risks.draws)


@pytest.mark.parametrize("name", ["nowhere", "../models/aall1331", "", "aall1331/"])
def test_unknown_model_is_a_missing_file(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    if name == "":
        with pytest.raises(aemodel.SavedModelError, match="no saved model"):
            aemodel.load_model(name)  # the working folder, which is no model
        return
    with pytest.raises(FileNotFoundError, match="neither the folder of a saved model nor the name of a shipped one"):
        aemodel.load_model(name)


@pytest.mark.parametrize("group", ["posterior", "sample_stats", "prior", "observed_data"])
def test_shipped_model_carries_its_full_draws(shipped, group):
    assert group in shipped.idata.groups()


# Round trip.


def test_saved_model_has_the_same_risk_draws(few, saved):
    np.testing.assert_array_equal(aemodel.load_model(saved).risks.draws, few.risks.draws)


@pytest.mark.parametrize("array", RiskDraws.ARRAYS)
def test_saved_arrays_keep_type_and_values(few, saved, array):
    found, expected = getattr(aemodel.load_model(saved).risks, array), getattr(few.risks, array)
    assert found.dtype == expected.dtype
    np.testing.assert_array_equal(found, expected)


def test_saved_model_scores_the_same(few, saved):
    pd.testing.assert_frame_equal(aemodel.score(aemodel.load_model(saved), PATIENTS), aemodel.score(few, PATIENTS))


def test_saved_model_gives_the_same_risks(few, saved):
    expected = aemodel.posterior_epred(few, PATIENTS)
    xr.testing.assert_identical(aemodel.posterior_epred(aemodel.load_model(saved), PATIENTS), expected)


def test_saved_model_simulates_the_same_outcomes(few, saved):
    expected = aemodel.posterior_predict(few, PATIENTS, seed=1)
    xr.testing.assert_identical(aemodel.posterior_predict(aemodel.load_model(saved), PATIENTS, seed=1), expected)


@pytest.mark.parametrize("group", ["posterior", "prior"])
def test_saved_model_has_the_same_parameters(few, saved, group):
    found, expected = getattr(aemodel.load_model(saved), group), getattr(few, group)
    xr.testing.assert_equal(found, expected.astype(np.float32))


def test_saved_model_has_the_same_tables(few, saved):
    assert aemodel.load_model(saved).tables.digest == few.tables.digest


def test_saved_model_keeps_diagnostics_and_settings(few, saved):
    found = aemodel.load_model(saved)
    assert found.diagnostics == few.diagnostics
    assert found.settings == json.loads(json.dumps(few.settings))


def test_save_returns_the_model_read_back(few, saved, tmp_path):
    found = aemodel.save_model(few, tmp_path / "model")
    assert isinstance(found, aemodel.LoadedModel)
    assert found.folder == tmp_path / "model"


def test_saving_twice_gives_the_same_bytes(few, saved, tmp_path):
    aemodel.save_model(few, tmp_path / "again")
    assert contents(tmp_path / "again") == contents(saved)


def test_loaded_model_can_be_saved_elsewhere(saved, tmp_path):
    aemodel.save_model(aemodel.load_model(saved), tmp_path / "other")
    np.testing.assert_array_equal(
        np.load(file_of(tmp_path / "other", "scoring"))["draws"], np.load(file_of(saved, "scoring"))["draws"]
    )


def test_loaded_model_can_be_saved_over_itself(copy):
    before = aemodel.load_model(copy).risks.draws
    np.testing.assert_array_equal(aemodel.save_model(aemodel.load_model(copy), copy).risks.draws, before)


def test_folder_may_be_given_as_text(saved):
    assert find_model(str(saved)) == saved


# What is in the folder.


def test_folder_holds_four_files(saved):
    kinds = sorted("array" if FILE_NAME.fullmatch(path.name) else path.name for path in saved.iterdir())
    assert kinds == ["array", "array", "card.md", "manifest.json"]


def test_array_files_carry_their_digest_in_the_name(saved):
    for entry in manifest_of(saved)["files"].values():
        digest = hashlib.sha256((saved / entry["name"]).read_bytes()).hexdigest()
        assert digest == entry["sha256"]
        assert digest[:16] in entry["name"]


def test_no_file_is_a_pickle(saved):
    """Neither by its first byte nor as an array of Python objects."""
    for path in saved.iterdir():
        assert path.read_bytes()[:1] != b"\x80", path.name
    with zipfile.ZipFile(file_of(saved, "scoring")) as archive:
        for name in archive.namelist():
            assert np.load(io.BytesIO(archive.read(name)), allow_pickle=False).dtype != object, name


def test_posterior_is_hdf5(saved):
    assert file_of(saved, "posterior").read_bytes().startswith(b"\x89HDF\r\n")


def test_manifest_has_the_documented_fields(saved):
    manifest = manifest_of(saved)
    assert list(manifest) == list(FIELDS)
    assert manifest["format"] == 2
    assert set(manifest["files"]) == {"scoring", "posterior"}
    assert set(manifest["settings"]) >= {"seed", "draws", "chains", "priors"}
    assert set(manifest["publication"]) >= {"publication.toml", "frequencies.csv"}


def test_manifest_is_strict_json(saved):
    def fail(name):
        raise AssertionError(name)

    json.loads((saved / "manifest.json").read_bytes().decode("ascii"), parse_constant=fail)


def test_card_says_what_the_model_is_not_for(saved):
    card = (saved / "card.md").read_text(encoding="utf-8")
    assert "Not for treatment decisions" in card
    assert "Nobody. An invented trial. No Journal, no year." in card


HEADINGS = [
    *("Model details", "Intended use", "Out-of-scope use", "Source of data", "Participants", "Outcome", "Predictors"),
    *("Sample size", "Missing data", "Analytical methods", "Model performance", "Uncertainty", "Fairness", "Limitations"),
    "Registration and availability",
]


@pytest.mark.parametrize("model", ["aall1331", FIXTURES / "format2"], ids=["aall1331", "invented"])
def test_card_has_every_heading_once_and_no_empty_section(model):
    text = (find_model(model) / "card.md").read_text(encoding="utf-8")
    sections = text.split("\n## ")[1:]
    assert [section.split("\n")[0] for section in sections] == HEADINGS
    assert all(len(section.split("\n", 1)[1].strip()) > 20 for section in sections)


def test_card_is_what_the_model_itself_tells(saved):
    loaded = aemodel.load_model(saved)
    assert (saved / "card.md").read_text(encoding="utf-8") == card(model_facts(loaded.manifest, loaded.tables, loaded.risks))


def test_card_of_the_shipped_model_is_its_own(shipped):
    text = (shipped.folder / "card.md").read_text(encoding="utf-8")
    assert shipped.manifest["sha256"] in text
    assert str(shipped.diagnostics) in text


def test_card_names_covariates_without_a_published_frequency(shipped):
    """From the arrays: nothing in the code knows which they are."""
    facts = model_facts(shipped.manifest, shipped.tables, shipped.risks)
    assert "No event is tabulated by Race/ethnicity: differences between its levels are assumption" in card(facts)
    for covariate in facts["covariates"]:
        covariate["rests_on"] = {"data": 1, "pooled": 0, "prior": 0}
    assert "No event is tabulated" not in card(facts)


def test_saved_model_keeps_how_good_its_likelihood_is(few, tmp_path):
    measured = replace(few, diagnostics=replace(few.diagnostics, approximation=0.0125))
    found = aemodel.load_model(aemodel.save_model(measured, tmp_path / "measured").folder).diagnostics
    assert found == measured.diagnostics
    assert "likelihood to about 0.013 nats" in str(found)


def test_card_says_in_capitals_that_diagnostics_failed(few, saved):
    assert not few.diagnostics.passed
    assert "THE SAMPLER'S DIAGNOSTICS FAILED: 3 divergent" in (saved / "card.md").read_text(encoding="utf-8")


def test_code_that_writes_the_card_knows_no_publication():
    for module in (facts_module, card_module):
        source = Path(module.__file__).read_text(encoding="utf-8").lower()
        for word in ("aall1331", "relapse", "race", "ethnic", "sepsis", "sex", "661"):
            assert word not in source, (module.__name__, word)


def test_nothing_names_the_machine(saved):
    for path in saved.iterdir():
        for private in (str(saved.parent), str(aemodel.__file__).rsplit("/", 2)[0]):
            assert private.encode() not in path.read_bytes(), path.name


# Formats.


@pytest.mark.parametrize("number", FORMATS)
def test_every_format_that_ever_landed_scores_to_the_same_numbers(number):
    """A model is kept for years beside the cohorts it scored: an upgrade must neither lose it nor move its risks.

    The scores were written when format 1 was current. They may differ in the last places of float32: sums are added up
    in another order on another machine.
    """
    frame = pd.read_csv(FIXTURES / "patients.csv")
    found = aemodel.score(aemodel.load_model(FIXTURES / f"format{number}"), frame, new_levels="sample")
    expected = pd.read_csv(FIXTURES / "scores.csv")
    pd.testing.assert_frame_equal(found, expected, check_dtype=False, rtol=0, atol=1e-6)


@pytest.mark.parametrize("number", FORMATS)
def test_every_format_that_ever_landed_keeps_its_draws_and_tables(number):
    model = aemodel.load_model(FIXTURES / f"format{number}")
    assert model.manifest["format"] == number
    assert model.posterior.sizes["draw"] == 5
    assert model.prior.sizes["draw"] == 5
    assert model.tables.digest == model.manifest["digest"]


@pytest.mark.parametrize("number", FORMATS)
def test_model_of_an_earlier_version_asks_for_a_refit_where_its_parameters_are_needed(number):
    with pytest.raises(ValueError, match=r"^model: invented was fitted by an earlier version .*; for this, fit .* again$"):
        aemodel.calibration_table(aemodel.load_model(FIXTURES / f"format{number}"))


def test_there_is_a_fixture_of_the_format_that_is_written(saved):
    assert manifest_of(saved)["format"] == max(FORMATS)


@pytest.mark.parametrize("number", FORMATS)
def test_loaded_model_is_saved_as_it_is(number, tmp_path):
    folder = FIXTURES / f"format{number}"
    aemodel.save_model(aemodel.load_model(folder), tmp_path / "again")
    assert manifest_of(tmp_path / "again") == manifest_of(folder)
    for kind in ("scoring", "posterior"):
        assert file_of(tmp_path / "again", kind).read_bytes() == file_of(folder, kind).read_bytes()


@pytest.mark.parametrize("file", ["publication.toml", "frequencies.csv"])
def test_edited_publication_in_format_1(tmp_path, file):
    folder = shutil.copytree(FIXTURES / "format1", tmp_path / "copy")
    manifest = manifest_of(folder)
    manifest["publication"][file] += "\n"
    write_unsealed(folder, manifest)
    refused(folder, "the publication inside is not the one of its digest")


def test_field_of_a_later_format_in_format_1(tmp_path):
    folder = shutil.copytree(FIXTURES / "format1", tmp_path / "copy")
    write_unsealed(folder, manifest_of(folder) | {"sha256": "0" * 64})
    refused(folder, r"its fields are not those of format 1: \['sha256'\]")


# Scored cohorts.


def test_nothing_of_a_scored_cohort_is_stored(copy, few, tmp_path):
    """Neither by scoring nor by a save after it."""
    before = contents(copy)
    model = aemodel.load_model(copy)
    state = {name: id(value) for name, value in vars(model).items()}
    cohort = PATIENTS.assign(id=["ZZ-identity-1", "ZZ-identity-2"])
    aemodel.score(model, cohort)
    aemodel.score_summary(model, cohort)
    aemodel.risk_table(model, cohort, id_column="id")
    assert {name: id(value) for name, value in vars(model).items()} == state
    aemodel.save_model(model, tmp_path / "after")
    assert contents(copy) == before
    assert contents(tmp_path / "after") == before


def test_scored_frame_is_let_go(copy):
    model = aemodel.load_model(copy)
    cohort = PATIENTS.copy()
    kept = weakref.ref(cohort)
    aemodel.score(model, cohort)
    del cohort
    gc.collect()
    assert kept() is None


# Damaged: files.


@pytest.mark.parametrize("kind", ["scoring", "posterior"])
def test_truncated_file(copy, kind):
    path = file_of(copy, kind)
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(aemodel.SavedModelError, match="its size is not the .* bytes of the manifest"):
        _ = aemodel.load_model(copy).posterior


@pytest.mark.parametrize("kind", ["scoring", "posterior"])
def test_one_flipped_bit(copy, kind):
    path = file_of(copy, kind)
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    with pytest.raises(aemodel.SavedModelError, match="its SHA-256 is not the manifest's"):
        _ = aemodel.load_model(copy).posterior


@pytest.mark.parametrize("kind", ["scoring", "posterior"])
def test_missing_file(copy, kind):
    file_of(copy, kind).unlink()
    with pytest.raises(aemodel.SavedModelError, match="cannot be read"):
        _ = aemodel.load_model(copy).posterior


@pytest.mark.skipif(sys.platform == "win32", reason="links need a privilege there")
@pytest.mark.parametrize("kind", ["scoring", "posterior"])
def test_link_to_a_file(copy, tmp_path, kind):
    path = file_of(copy, kind)
    path.rename(tmp_path / "elsewhere")
    path.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(aemodel.SavedModelError, match=path.name):
        _ = aemodel.load_model(copy).posterior


@pytest.mark.skipif(sys.platform == "win32", reason="links need a privilege there")
def test_link_to_a_manifest(copy, tmp_path):
    (copy / "manifest.json").rename(tmp_path / "elsewhere")
    (copy / "manifest.json").symlink_to(tmp_path / "elsewhere")
    refused(copy, "manifest.json is a link, not a file")


def test_folder_in_place_of_a_file(copy):
    path = file_of(copy, "scoring")
    path.unlink()
    path.mkdir()
    refused(copy, path.name)


def test_model_without_posterior_still_scores(copy):
    file_of(copy, "posterior").unlink()
    assert len(aemodel.score(aemodel.load_model(copy), PATIENTS)) == 2


def replace_scoring(folder, content):
    """Other contents under a name, size and digest that the manifest vouches for."""
    file_of(folder, "scoring").unlink()
    digest = hashlib.sha256(content).hexdigest()
    manifest = manifest_of(folder)
    manifest["files"]["scoring"] = {"name": f"scoring-{digest[:16]}.npz", "bytes": len(content), "sha256": digest}
    (folder / f"scoring-{digest[:16]}.npz").write_bytes(content)
    write_manifest(folder, manifest)


def arrays_of(folder):
    with np.load(file_of(folder, "scoring")) as archive:
        return {name: archive[name] for name in archive.files}


def as_npz(**arrays):
    buffer = io.BytesIO()
    np.savez(buffer, **arrays)
    return buffer.getvalue()


def test_the_way_these_tests_replace_arrays_works(copy):
    replace_scoring(copy, as_npz(**arrays_of(copy)))
    aemodel.load_model(copy)


def test_foreign_member(copy):
    replace_scoring(copy, as_npz(**arrays_of(copy), extra=np.zeros(3)))
    refused(copy, "the scoring file holds .*extra.npy")


@pytest.mark.parametrize("array", RiskDraws.ARRAYS)
def test_missing_member(copy, array):
    arrays = arrays_of(copy)
    del arrays[array]
    replace_scoring(copy, as_npz(**arrays))
    refused(copy, "the scoring file holds|does not hold what the model's")


def test_member_given_twice(copy):
    content = io.BytesIO(file_of(copy, "scoring").read_bytes())
    with pytest.warns(UserWarning, match="Duplicate name"), zipfile.ZipFile(content, "a") as archive:
        archive.writestr("weight.npy", b"")
    replace_scoring(copy, content.getvalue())
    refused(copy, "the scoring file holds")


def test_array_of_python_objects_is_not_unpickled(copy):
    arrays = arrays_of(copy)
    replace_scoring(copy, as_npz(**arrays | {"weight": np.array([None] * len(arrays["weight"]))}))
    refused(copy, r"'weight'|cannot be read")


def test_object_array_of_the_right_size_is_not_unpickled(copy):
    """A pickle padded to the size that the array's shape needs still meets no unpickler."""
    arrays = arrays_of(copy)
    size = arrays["weight"].nbytes
    member = io.BytesIO()
    np.lib.format.write_array(member, np.array([None] * len(arrays["weight"])), allow_pickle=True)
    member.write(b"\0" * (size + 128 - member.tell()))
    content = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(as_npz(**arrays))) as old, zipfile.ZipFile(content, "w") as new:
        for name in old.namelist():
            new.writestr(name, member.getvalue() if name == "weight.npy" else old.read(name))
    replace_scoring(copy, content.getvalue())
    refused(copy, "'weight' is object")


@pytest.mark.parametrize(
    ("array", "change"),
    [
        ("draws", lambda x: x.astype(np.float64)),
        ("draws", lambda x: x[:-1]),
        ("draws", lambda x: x.transpose(0, 2, 1, 3)),
        ("levels", lambda x: x.astype(np.float64)),
        ("weight", lambda x: x[None]),
        ("published", lambda x: x.astype(np.int8)),
    ],
)
def test_array_of_another_type_or_shape(copy, array, change):
    arrays = arrays_of(copy)
    replace_scoring(copy, as_npz(**arrays | {array: change(arrays[array])}))
    refused(copy, f"the array '{array}'|does not hold what the model's")


@pytest.mark.parametrize("value", [np.nan, np.inf, -0.1, 1.1])
def test_draws_that_are_no_probabilities(copy, value):
    arrays = arrays_of(copy)
    arrays["draws"][3, 2, 1, 0] = value
    replace_scoring(copy, as_npz(**arrays))
    refused(copy, "not all probabilities")


@pytest.mark.parametrize(
    ("array", "value"), [("levels", 99), ("levels", -1), ("weight", np.nan), ("weight", -1.0), ("source", 7), ("source", -5)]
)
def test_other_arrays_with_impossible_values(copy, array, value):
    arrays = arrays_of(copy)
    arrays[array].flat[0] = value
    replace_scoring(copy, as_npz(**arrays))
    refused(copy)


def above_its_parent(arrays):
    """Rash, place 4, lies in any toxicity, place 0."""
    arrays["draws"][3, 2, 4, 0] = arrays["draws"][3, 2, 0, 0] + 1e-4


def of_other_levels(arrays):
    """As many patients as there are, but of the first covariate's first two levels in each other's place."""
    beside = arrays["levels"][0] + np.eye(arrays["levels"].shape[1], dtype=int)[0]
    other = np.flatnonzero((arrays["levels"] == beside).all(axis=1))[0]
    arrays["weight"][[0, other]] = arrays["weight"][[other, 0]]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda arrays: arrays["weight"].__setitem__(0, 1e308), r"'weight' has 1e\+308 patients, the publication 240"),
        (lambda arrays: arrays["weight"].__setitem__(slice(None), 1e308), "'weight' has inf patients, the publication 240"),
        (lambda arrays: arrays["weight"].__imul__(2), "'weight' has 480 patients, the publication 240"),
        (lambda arrays: arrays["weight"].__setitem__(-1, 9), "'weight' of a new region is not the sum over its levels"),
        (lambda arrays: arrays["movement"].__imul__(np.float32(1e6)), "'movement' holds values that are .* beyond reason"),
        (lambda arrays: arrays["draws"].__setitem__((3, 2, 5, 1), 0.99), "'draws' has risks above those of a lower grade"),
        (above_its_parent, "'draws' has risks above those .* of the event they lie in"),
        (of_other_levels, "'weight' has .* patients of arm low stage .*, the publication "),
    ],
    ids=range(8),
)
def test_arrays_that_no_fit_gives(copy, change, message):
    arrays = arrays_of(copy)
    change(arrays)
    replace_scoring(copy, as_npz(**arrays))
    refused(copy, message)


def test_rounding_of_nested_risks_is_no_matter(copy):
    arrays = arrays_of(copy)
    arrays["draws"][..., 0] = np.nextafter(arrays["draws"][..., 1], np.float32(0))
    arrays["draws"][..., 1:] = arrays["draws"][:, :, :1, 1:]
    arrays["draws"][..., :1] = np.nextafter(arrays["draws"][..., 1:], np.float32(0))
    replace_scoring(copy, as_npz(**arrays))
    aemodel.load_model(copy)


RECORDS = [
    ("settings", "seed", "1"),
    ("settings", "seed", 2**64),
    ("settings", "draws", True),
    ("settings", "ordering", "neither"),
    ("settings", "selection", 1),
    ("settings", "prior_scale", 0.0),
    ("settings", "prior_scale", "1"),
    ("settings", "power", 2.0),
    ("settings", "overlap", "some"),
    ("settings", "patients", -3),
    ("settings", "patients", 3),
    ("settings", "priors", ["normal"]),
    ("settings", "expected_slopes", {"3-5": "x"}),
    ("settings", "expected_slopes", {"central90": {"3-5": ["low", 1.0]}, "median": {}, "refits": 20, "seed": 1}),
    ("settings", "more", "x" * 20_000),
    ("diagnostics", "r_hat", 1),
    ("diagnostics", "r_hat", 1e300),
    ("diagnostics", "divergences", -1),
    ("diagnostics", "worst", "x" * 10_000),
    ("diagnostics", "approximation", -1.0),
    ("performance", "rows", -1),
    ("performance", "within90", 1.5),
    ("versions", "numpy", "x" * 1000),
    ("versions", "numpy", 2),
]


@pytest.mark.parametrize(("record", "key", "value"), RECORDS, ids=range(len(RECORDS)))
def test_record_that_no_fit_gives(copy, record, key, value):
    manifest = manifest_of(copy)
    manifest[record][key] = value
    write_manifest(copy, manifest)
    with pytest.raises(aemodel.SavedModelError, match=rf"manifest\.json: {record}") as refused:
        aemodel.load_model(copy)
    assert len(str(refused.value)) < 400


def test_compression_bomb_is_not_unpacked(copy):
    """A member that declares far more than its array needs is refused by its declared size."""
    replace_scoring(copy, with_bomb(arrays_of(copy), np.zeros(1_000_000)))
    refused(copy, "'weight' is not of the size")


def test_compressed_member_is_not_unpacked(copy):
    arrays = arrays_of(copy)
    replace_scoring(copy, with_bomb(arrays, arrays["weight"]))
    refused(copy, "'weight' is compressed")


def with_bomb(arrays, weight):
    """An archive of plain members but for one, which is compressed."""
    member, content = io.BytesIO(), io.BytesIO()
    np.lib.format.write_array(member, weight)
    with zipfile.ZipFile(io.BytesIO(as_npz(**arrays))) as old, zipfile.ZipFile(content, "w") as new:
        for name in old.namelist():
            if name == "weight.npy":
                new.writestr(name, member.getvalue(), compress_type=zipfile.ZIP_DEFLATED)
            else:
                new.writestr(name, old.read(name))
    return content.getvalue()


def test_scoring_file_of_another_size_than_its_arrays_is_not_opened(copy, monkeypatch):
    """A manifest cannot have a file read that is larger than the model it describes."""

    manifest = manifest_of(copy)
    manifest["files"]["scoring"]["bytes"] = 1_999_999_999
    write_manifest(copy, manifest)
    monkeypatch.setattr(reader, "read_checked", lambda *_: pytest.fail("it was opened"))
    refused(copy, "does not hold what the model's .* bytes of arrays need")


@pytest.mark.parametrize("content", [b"", b"not a zip file", b"PK\x05\x06" + b"\0" * 18])
def test_scoring_file_that_is_no_archive(copy, content):
    replace_scoring(copy, content)
    refused(copy)


# Damaged: the manifest.


def test_folder_without_manifest(tmp_path):
    refused(tmp_path, "no saved model")


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"3", b"null", b"\xff\xfe", b"[" * 100_000, b"\xef\xbb\xbf{}"], ids=repr)
def test_manifest_that_is_none(copy, content):
    (copy / "manifest.json").write_bytes(content)
    refused(copy, "manifest.json")


@pytest.mark.parametrize("value", [99, 0, "1", None, True, 1.0])
def test_unknown_format(copy, value):
    write_manifest(copy, manifest_of(copy) | {"format": value})
    refused(copy, "format")


def test_unknown_format_says_what_to_do(copy):
    write_manifest(copy, manifest_of(copy) | {"format": 99})
    refused(copy, "format 99 is not known; this version reads formats 1 and 2. Upgrade aemodel or refit")


def test_unknown_field(copy):
    write_manifest(copy, manifest_of(copy) | {"extra": 1})
    refused(copy, r"its fields are not those of format 2: \['extra'\]")


@pytest.mark.parametrize("field", sorted(set(FIELDS) - {"format"}))
def test_missing_field(copy, field):
    manifest = manifest_of(copy)
    del manifest[field]
    write_unsealed(copy, manifest)
    refused(copy, rf"its fields are not those of format 2: \['{field}'\]")


@pytest.mark.parametrize("field", sorted(set(FIELDS) - {"format"}))
def test_field_of_another_type(copy, field):
    write_unsealed(copy, manifest_of(copy) | {field: None})
    refused(copy, rf"fields of another type than format 2 has: \['{field}'\]")


def test_key_given_twice(copy):
    text = (copy / "manifest.json").read_text(encoding="utf-8")
    (copy / "manifest.json").write_text(text.replace('"format": 2,', '"format": 2, "format": 2,', 1), encoding="utf-8")
    refused(copy, "a key is given twice")


@pytest.mark.parametrize("number", ["NaN", "Infinity", "-Infinity"])
def test_number_that_json_does_not_have(copy, number):
    manifest = manifest_of(copy)
    manifest["diagnostics"]["r_hat"] = float(number)
    write_unsealed(copy, manifest)
    refused(copy, f"{number} is not a number of JSON")


@pytest.mark.parametrize("text", ["1e999", "-1e999"])
def test_number_beyond_all_bounds(copy, text):
    path = copy / "manifest.json"
    path.write_text(path.read_text(encoding="utf-8").replace('"r_hat": 1.', f'"r_hat": {text}, "x": 1.', 1), encoding="utf-8")
    refused(copy, f"{text} is too large a number")


def test_manifest_nested_too_deep(copy):
    manifest = manifest_of(copy)
    deep = {}
    for _ in range(30):
        deep = {"deeper": deep}
    manifest["settings"]["priors"] = deep
    write_manifest(copy, manifest)
    refused(copy, "nested deeper than 20 levels")


def test_text_that_cannot_be_written_again(copy):
    """Half a surrogate pair is a text to JSON, and no UTF-8."""
    manifest = manifest_of(copy)
    manifest["versions"]["numpy"] = "\ud800"
    write_unsealed(copy, manifest)
    refused(copy, "manifest.json")


LOOSE = {
    "name": "someone_else",
    "versions": {"numpy": "0.0"},
    "settings": {"seed": 2},
    "diagnostics": {"r_hat": 1.0, "ess_bulk": 9e9, "ess_tail": 9e9, "divergences": 0, "bfmi": 1.0, "worst": ""},
    "performance": {"rows": 1, "within50": 1.0, "within90": 1.0},
    "samples": 20,
    "chains": 1,
}


@pytest.mark.parametrize("field", LOOSE)
def test_edited_field_is_found_by_the_digest(copy, field):
    """Each would pass for a value of its own."""
    write_unsealed(copy, manifest_of(copy) | {field: LOOSE[field]})
    refused(copy, "its SHA-256 is not that of its contents")


@pytest.mark.parametrize("file", ["publication.toml", "events.csv", "discrepancies.csv"])
def test_edited_publication_is_found_by_its_own_digest(copy, file):
    """In format 1, too: a rule from raw columns to levels decides who has which risk."""
    manifest = manifest_of(copy)
    manifest["publication"][file] += "\n"
    write_manifest(copy, manifest)
    refused(copy, "the publication inside is not the one of its digest")


@pytest.mark.parametrize("change", [{"name": "other"}, {"events": ["a", "b"]}, {"grades": ["4-5", "3-5"]}], ids=str)
def test_fields_at_odds_with_the_publication_inside(copy, change):
    write_manifest(copy, manifest_of(copy) | change)
    refused(copy, f"not those of the publication inside: {list(change)}".replace("[", r"\[").replace("]", r"\]"))


def test_entry_of_a_file_that_no_model_has(copy):
    manifest = manifest_of(copy)
    manifest["files"]["extra"] = manifest["files"]["scoring"]
    write_manifest(copy, manifest)
    refused(copy, r"files that no saved model has: extra")


@pytest.mark.parametrize(
    ("key", "value"), [("bytes", 1.5), ("bytes", True), ("bytes", -1), ("sha256", "0" * 64), ("sha256", 1)]
)
def test_entry_with_a_wrong_value(copy, key, value):
    manifest = manifest_of(copy)
    manifest["files"]["scoring"][key] = value
    write_manifest(copy, manifest)
    refused(copy, "no proper entry for the scoring file")


@pytest.mark.skipif(sys.platform == "win32", reason="no such files there")
@pytest.mark.parametrize("name", ["manifest.json", "scoring"])
def test_pipe_in_place_of_a_file_is_not_waited_for(copy, name):
    path = file_of(copy, name) if name == "scoring" else copy / name
    path.unlink()
    os.mkfifo(path)
    refused(copy, "is a pipe, not a file")


def test_manifest_without_end(copy):
    (copy / "manifest.json").write_bytes(b" " * 4_000_001)
    refused(copy, "larger than")


@pytest.mark.parametrize(
    "name", ["../scoring-0123456789abcdef.npz", "/etc/passwd", "scoring.npz", "scoring-0123456789ABCDEF.npz", "", None, 3]
)
def test_file_name_that_is_not_ours(copy, name):
    manifest = manifest_of(copy)
    manifest["files"]["scoring"]["name"] = name
    write_manifest(copy, manifest)
    refused(copy, "no proper entry for the scoring file")


@pytest.mark.parametrize("entry", [None, [], {}, {"name": "x"}, "scoring"])
def test_file_entry_that_is_none(copy, entry):
    manifest = manifest_of(copy)
    manifest["files"]["scoring"] = entry
    write_manifest(copy, manifest)
    refused(copy, "no proper entry for the scoring file")


@pytest.mark.parametrize(
    "changes",
    [
        {"samples": 7},
        {"samples": -1},
        {"samples": 10**30},
        {"events": ["sepsis"]},
        {"events": [1] * 11},
        {"events": ["sepsis"] * 11},
        {"grades": []},
        {"chains": 0},
        {"chains": 7},
        {"publication": {}},
        {"publication": {"publication.toml": 3}},
        {"publication": {"publication.toml": "covariates = 3"}},
    ],
    ids=str,
)
def test_manifest_at_odds_with_its_arrays(copy, changes):
    write_manifest(copy, manifest_of(copy) | changes)
    refused(copy)


@pytest.mark.parametrize("diagnostics", [{}, {"r_hat": "good"}, {"unheard_of": 1}], ids=str)
def test_diagnostics_that_are_none(copy, diagnostics):
    write_manifest(copy, manifest_of(copy) | {"diagnostics": diagnostics})
    with pytest.raises(aemodel.SavedModelError):
        _ = aemodel.load_model(copy).diagnostics.passed


# Saving where something is.


def test_folder_with_something_else_is_refused(few, tmp_path):
    (tmp_path / "thesis.txt").write_text("years of work")
    with pytest.raises(FileExistsError, match="holds something that is not a saved model; name another folder"):
        aemodel.save_model(few, tmp_path)


SOMEBODY_ELSES = {
    "a file": {"thesis.txt": "years of work"},
    "a manifest of another program": {"manifest.json": '{"manifest_version": 3}', "card.md": "mine"},
    "arrays with a manifest of another program": {"manifest.json": "{}", "posterior-0123456789abcdef.nc": "mine"},
    "a folder named as scratch is": {".saving-mine/thesis.txt": "years of work"},
}


@pytest.mark.parametrize("name", SOMEBODY_ELSES)
def test_folder_with_something_else_is_untouched(few, tmp_path, name):
    for path, text in SOMEBODY_ELSES[name].items():
        (tmp_path / path).parent.mkdir(exist_ok=True)
        (tmp_path / path).write_text(text)
    with pytest.raises(FileExistsError, match="holds something that is not a saved model"):
        aemodel.save_model(few, tmp_path)
    left = {str(path.relative_to(tmp_path)): path.read_text() for path in tmp_path.rglob("*") if path.is_file()}
    assert left == SOMEBODY_ELSES[name]


def test_model_of_a_later_version_is_not_replaced(few, copy):
    write_manifest(copy, manifest_of(copy) | {"format": max(FORMATS) + 1})
    before = contents(copy)
    with pytest.raises(FileExistsError):
        aemodel.save_model(few, copy)
    assert contents(copy) == before


@pytest.mark.parametrize("name", ["card.md", "posterior-0123456789abcdef.nc"])
def test_folders_named_as_files_of_a_model_are_not_taken_away(few, copy, name):
    (copy / name).unlink(missing_ok=True)
    (copy / name).mkdir()
    (copy / name / "thesis.txt").write_text("years of work")
    with pytest.raises(FileExistsError):
        aemodel.save_model(few, copy)
    assert (copy / name / "thesis.txt").exists()


def test_link_that_leads_nowhere_is_refused(few, tmp_path):
    (tmp_path / "link").symlink_to("nowhere")
    with pytest.raises(FileExistsError, match="^folder: .*link.* not a saved model"):
        aemodel.save_model(few, tmp_path / "link")


def test_file_in_place_of_the_folder_is_refused(few, tmp_path):
    (tmp_path / "file").write_text("x")
    with pytest.raises(FileExistsError):
        aemodel.save_model(few, tmp_path / "file")


def test_empty_folder_is_used(few, tmp_path):
    assert aemodel.save_model(few, tmp_path).folder == tmp_path


def test_overwriting_leaves_no_files_of_the_old_model(few, copy):
    old = {file_of(copy, "scoring").name, file_of(copy, "posterior").name}
    aemodel.save_model(changed(few), copy)
    assert not old <= set(contents(copy))
    assert set(contents(copy)) == {
        "manifest.json",
        "card.md",
        *(entry["name"] for entry in manifest_of(copy)["files"].values()),
    }


def test_overwriting_leaves_the_users_own_files(few, copy):
    (copy / "notes.txt").write_text("mine")
    aemodel.save_model(few, copy)
    assert (copy / "notes.txt").read_text() == "mine"


# Saving that fails; at each call to the system: `test_saved_interrupted`.


@pytest.mark.parametrize("problem", [OSError("no space left on device"), KeyboardInterrupt()], ids=repr)
def test_failure_leaves_the_old_model_whole_and_no_new_folder(few, copy, tmp_path, monkeypatch, problem):
    def fail(*_):
        raise problem

    before = contents(copy)
    monkeypatch.setattr(saving, "card", fail)
    for folder in (copy, tmp_path / "new"):
        with pytest.raises(type(problem)):
            aemodel.save_model(changed(few), folder)
    assert contents(copy) == before
    assert not (tmp_path / "new").exists()


def test_next_save_clears_what_an_interrupted_one_left(few, copy):
    (copy / "scoring-0123456789abcdef.npz").write_bytes(b"left behind")
    aemodel.save_model(few, copy)
    assert not (copy / "scoring-0123456789abcdef.npz").exists()
