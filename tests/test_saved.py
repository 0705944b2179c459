"""Saved models: what is written, that it comes back, and that a damaged or foreign one is refused."""

from __future__ import annotations

import gc
import hashlib
import io
import json
import os
import shutil
import weakref
import zipfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import xarray as xr

import aemodel
from aemodel.inference.forward import event_sums, model_states
from aemodel.inference.record import FORMATS as DECLARED, as_json, manifest_digest, used_evidence
from aemodel.pages import render
from aemodel.pages.description import model_facts
from aemodel.pages.render import card
from aemodel.saved import reader, writer as saving
from aemodel.saved.manifest import FILE_NAME
from aemodel.saved.reader import find_model
from aemodel.scoring.risks import RiskDraws
from tests.attacks import file_of, forge, manifest_of, npy, write_manifest
from tests.fixtures import FIXTURES, FORMATS, SCORES
from tests.interruptions import contents
from tests.reports import small_model

PATIENTS = pd.DataFrame(
    {
        "arm": ["low", None],
        "stage": ["local_small", "distant_large"],
        "region": ["north", None],
    }
)
KINDS = ("scoring", "branches", "posterior")


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


def with_risks(model, **changes):
    """The model with other arrays."""
    return replace(model, risks=RiskDraws(**vars(model.risks) | changes))


def changed(model):
    return with_risks(model, draws=model.risks.draws * np.float32(0.5))


def refused(folder, message=None):
    with pytest.raises(aemodel.SavedModelError, match=message) as error:
        aemodel.load_model(folder)
    assert len(str(error.value)) < len(str(folder)) + 400


# The shipped model.


def test_shipped_model_is_found_by_its_name_and_by_its_folder_with_its_full_draws(shipped):
    assert shipped.name == "aall1331"
    np.testing.assert_array_equal(aemodel.load_model(str(shipped.folder)).risks.draws, shipped.risks.draws)
    assert {"posterior", "sample_stats", "prior", "observed_data"} <= set(shipped.idata.groups())


@pytest.mark.parametrize("name", ["nowhere", "../models/aall1331", "aall1331/"])
def test_unknown_model_is_a_missing_file(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(FileNotFoundError, match="neither the folder of a saved model nor the name of a shipped one"):
        aemodel.load_model(name)
    with pytest.raises(aemodel.SavedModelError, match="no saved model"):
        aemodel.load_model("")  # the working folder, which is no model


# Round trip.


def test_saved_model_has_the_same_arrays_parameters_tables_diagnostics_and_settings(few, saved, tmp_path):
    found = aemodel.load_model(saved)
    for name in RiskDraws.ARRAYS:
        assert getattr(found.risks, name).dtype == getattr(few.risks, name).dtype
        np.testing.assert_array_equal(getattr(found.risks, name), getattr(few.risks, name), name)
    for group in ("posterior", "prior"):
        xr.testing.assert_equal(getattr(found, group), getattr(few, group).astype(np.float32))
    assert found.tables.digest == few.tables.digest
    assert found.diagnostics == few.diagnostics
    assert found.settings == json.loads(json.dumps(few.settings))
    measured = replace(few, diagnostics=replace(few.diagnostics, approximation=0.0125))
    found = aemodel.load_model(aemodel.save_model(measured, tmp_path / "measured").folder).diagnostics
    assert found == measured.diagnostics
    assert "counts' likelihood to about 0.013 nats" in str(found)


def test_saved_model_answers_the_same_and_from_states_without_its_posterior(few, copy):
    file_of(copy, "posterior").unlink()
    model = aemodel.load_model(copy)
    xr.testing.assert_identical(aemodel.posterior_epred(model, PATIENTS), aemodel.posterior_epred(few, PATIENTS))
    found, expected = (aemodel.posterior_predict(each, PATIENTS, seed=1) for each in (model, few))
    xr.testing.assert_identical(found, expected)
    pd.testing.assert_frame_equal(aemodel.calibration_table(model), aemodel.calibration_table(few))
    file_of(copy, "branches").unlink()
    pd.testing.assert_frame_equal(aemodel.score(aemodel.load_model(copy), PATIENTS), aemodel.score(few, PATIENTS))


def test_risks_are_sums_over_the_states_that_the_saved_branch_logits_give(saved):
    """To the last bit, on one machine: risks were computed from the very logits that are kept."""
    model = aemodel.load_model(saved)
    assert model.branch_logits.dtype == np.float32
    np.testing.assert_array_equal(model.branch_logits, small_model().branch_logits)
    design, states = model_states(model)
    having = event_sums(design, model.risks.pairs)
    found = np.stack([np.clip((having @ p).T.astype(np.float32), 0, 1) for p in states])
    np.testing.assert_array_equal(found.reshape(model.risks.draws.shape), model.risks.draws)


def test_measures_of_what_effects_rest_on_are_kept_where_there_are_any(few, tmp_path):
    levels, pairs = sum(len(c.levels) for c in few.risks.covariates), few.risks.published.shape
    variances = np.random.default_rng(1).normal(size=(3, levels, levels, *pairs)).astype(np.float32)
    counted = variances[0, 0] > 0
    risks = aemodel.save_model(with_risks(few, variances=variances, counted=counted), tmp_path / "model").risks
    np.testing.assert_array_equal(risks.variances, variances)
    np.testing.assert_array_equal(risks.counted, counted)
    np.testing.assert_array_equal(risks.of(["rash"], ["4-5"]).counted[:, 0, 0], counted[:, risks.events.index("rash"), 1])


def test_evidence_that_the_fit_was_told_is_recorded_and_what_was_left_out_is_not(saved, few, shipped):
    found = manifest_of(saved)["evidence"]
    assert found == as_json(used_evidence(few.tables, few.settings))
    rows = [row for row in few.tables.rows if not row.derived]
    assert found["counts"] == [[*row.key, row.n, row.observed_low, row.observed_high] for row in rows]
    # AALL1331 has an ordering and nulls.
    tables = shipped.tables
    found = [used_evidence(tables, {"ordering": ordering, "selection": not ordering}) for ordering in ("both", None)]
    assert [(used.orderings, used.nulls) for used in found] == [(tables.orderings, ()), ((), tables.nulls)]
    assert (len(tables.orderings), len(tables.nulls)) > (0, 0)


def test_save_returns_the_model_read_back_and_gives_the_same_bytes_again(few, saved, copy, tmp_path):
    (tmp_path / "again").mkdir()
    found = aemodel.save_model(few, tmp_path / "again")
    assert isinstance(found, aemodel.LoadedModel)
    assert found.folder == tmp_path / "again"
    assert contents(tmp_path / "again") == contents(saved)
    aemodel.save_model(aemodel.load_model(copy), copy)  # over itself
    assert contents(copy) == contents(saved)


# What is in the folder.


def test_no_file_is_a_pickle_and_none_names_the_machine(saved):
    """Neither by its first byte nor as an array of Python objects."""
    for path in saved.iterdir():
        assert path.read_bytes()[:1] != b"\x80", path.name
        for private in (str(saved.parent), str(aemodel.__file__).rsplit("/", 2)[0]):
            assert private.encode() not in path.read_bytes(), path.name
    for kind in ("scoring", "branches"):
        with zipfile.ZipFile(file_of(saved, kind)) as archive:
            for name in archive.namelist():
                assert np.load(io.BytesIO(archive.read(name)), allow_pickle=False).dtype != object, name
    assert file_of(saved, "posterior").read_bytes().startswith(b"\x89HDF\r\n")


def test_manifest_is_strict_json_with_the_declared_fields_and_vouches_for_each_file(saved):
    manifest = json.loads((saved / "manifest.json").read_bytes().decode("ascii"), parse_constant=pytest.fail)
    assert set(manifest) == set(DECLARED[3].__struct_fields__)
    assert manifest["format"] == max(FORMATS) == max(DECLARED) == 3
    assert set(manifest["files"]) == set(KINDS)
    (publication,) = manifest["publications"]
    assert set(publication["files"]) >= {"publication.toml", "frequencies.csv"}
    kinds = sorted("array" if FILE_NAME.fullmatch(path.name) else path.name for path in saved.iterdir())
    assert kinds == ["array", "array", "array", "card.md", "manifest.json"]
    for entry in manifest["files"].values():
        digest = hashlib.sha256((saved / entry["name"]).read_bytes()).hexdigest()
        assert digest == entry["sha256"]
        assert digest[:16] in entry["name"]


def test_card_is_what_the_model_itself_tells(few, saved, shipped):
    text, loaded = (saved / "card.md").read_text(encoding="utf-8"), aemodel.load_model(saved)
    assert text == card(model_facts(loaded.manifest, loaded.tables, loaded.risks))
    assert "Not for treatment decisions" in text
    assert "Nobody. An invented trial. No Journal, no year." in text
    assert not few.diagnostics.passed
    assert "THE SAMPLER'S DIAGNOSTICS FAILED: 3 divergent" in text
    text = (shipped.folder / "card.md").read_text(encoding="utf-8")
    assert shipped.manifest["sha256"] in text
    assert str(shipped.diagnostics) in text


HEADINGS = [
    *("Model details", "Intended use", "Out-of-scope use", "Source of data", "Participants", "Outcome", "Predictors"),
    *("Sample size", "Missing data", "Analytical methods", "Model performance", "Uncertainty", "Fairness", "Limitations"),
    "Registration and availability",
]


@pytest.mark.parametrize("model", ["aall1331", FIXTURES / "format3"], ids=["aall1331", "invented"])
def test_card_has_every_heading_once_and_no_empty_section(model):
    text = (find_model(model) / "card.md").read_text(encoding="utf-8")
    sections = text.split("\n## ")[1:]
    assert [section.split("\n")[0] for section in sections] == HEADINGS
    assert all(len(section.split("\n", 1)[1].strip()) > 20 for section in sections)


def test_card_names_covariates_without_a_published_frequency(shipped):
    """From the rows: nothing in the code knows which they are."""
    facts = model_facts(shipped.manifest, shipped.tables, shipped.risks)
    assert "No event is tabulated by Race/ethnicity: differences between its levels are assumption" in card(facts)
    for covariate in facts["covariates"]:
        covariate["uncounted"] = False
    assert "No event is tabulated" not in card(facts)


def test_code_that_writes_cards_and_pages_knows_no_publication():
    for path in (folder := Path(render.__file__).parent).rglob("*.*"):
        if path.suffix in (".py", ".md", ".html", ".css", ".js") and "__pycache__" not in path.parts:
            source = path.read_text(encoding="utf-8").lower()
            for word in ("aall1331", "relapse", "ethnic", "sepsis", "leuk", "661", '"3-5"', '"4-5"'):
                assert word not in source, (path.relative_to(folder), word)


# Formats.


@pytest.mark.parametrize("number", FORMATS)
def test_every_format_that_ever_landed_scores_to_the_same_numbers_and_is_saved_as_it_is(number, tmp_path):
    """A model is kept for years beside the cohorts it scored: an upgrade must neither lose it nor move its risks.

    The scores were written when the format was current. They may differ in the last places of float32: sums are added up
    in another order on another machine.
    """
    folder, frame = FIXTURES / f"format{number}", pd.read_csv(FIXTURES / "patients.csv")
    model, expected = aemodel.load_model(folder), pd.read_csv(FIXTURES / SCORES[number])
    found = aemodel.score(model, frame, new_levels="sample")
    pd.testing.assert_frame_equal(found, expected, check_dtype=False, rtol=0, atol=1e-6)
    assert model.manifest["format"] == number
    assert model.posterior.sizes["draw"] == model.prior.sizes["draw"] / (2 if number == 3 else 1) == 5
    assert (model.branch_logits is None) == (number < 3)
    aemodel.save_model(model, tmp_path / "again")
    assert manifest_of(tmp_path / "again") == manifest_of(folder)
    for kind in manifest_of(folder)["files"]:
        assert file_of(tmp_path / "again", kind).read_bytes() == file_of(folder, kind).read_bytes()
    if number < 3:
        message = r"^model: invented was fitted by an earlier version .*; for this, fit .* again$"
        with pytest.raises(ValueError, match=message):
            aemodel.calibration_table(model)


FORMAT_1 = [
    ({"sha256": "0" * 64}, "Object contains unknown field `sha256`, in format 1"),
    ({"settings": {"seed": 1, "draws": "many"}}, "settings.draws: Expected `int`, got `str`"),
    ({"digest": "0" * 64}, "the publication inside is not the one of its digest"),
]


@pytest.mark.parametrize(("change", "message"), FORMAT_1, ids=range(len(FORMAT_1)))
def test_damage_in_a_format_without_a_digest_of_its_own(tmp_path, change, message):
    folder = shutil.copytree(FIXTURES / "format1", tmp_path / "copy")
    write_manifest(folder, manifest_of(folder) | change)
    refused(folder, message)


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


def read_all(folder):
    model = aemodel.load_model(folder)
    return model.branch_logits, model.posterior


def cut(path):
    path.write_bytes(path.read_bytes()[:-100])


def flip(path):
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def link(path):
    path.rename(path.parent.parent / "elsewhere")
    path.symlink_to(path.parent.parent / "elsewhere")


def in_its_place(make):
    def change(path):
        path.unlink()
        make(path)

    return change


DAMAGES = {
    "cut": (cut, "its size is not the .* bytes of the manifest"),
    "flipped bit": (flip, "its SHA-256 is not the manifest's"),
    "missing": (Path.unlink, "cannot be read"),
    "link": (link, "is a link, not a file"),
    "folder": (in_its_place(Path.mkdir), "is a folder, not a file"),
    "pipe": (in_its_place(os.mkfifo), "is a pipe, not a file"),
}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("damage", DAMAGES)
def test_damaged_file(copy, kind, damage):
    change, message = DAMAGES[damage]
    path = file_of(copy, kind)
    change(path)
    with pytest.raises(aemodel.SavedModelError, match=message) as error:
        read_all(copy)
    assert path.name in str(error.value)


@pytest.mark.parametrize("damage", ["link", "folder", "pipe"])
def test_damaged_manifest(copy, damage):
    change, message = DAMAGES[damage]
    change(copy / "manifest.json")
    refused(copy, f"manifest.json {message}")


# Damaged: arrays.


def arrays_of(folder, kind="scoring"):
    with np.load(file_of(folder, kind)) as archive:
        return {name: archive[name] for name in archive.files}


def as_npz(**arrays):
    buffer = io.BytesIO()
    np.savez(buffer, **arrays)
    return buffer.getvalue()


def with_weight(arrays, content, method=zipfile.ZIP_STORED):
    """An archive of plain members but for one."""
    made = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(as_npz(**arrays))) as old, zipfile.ZipFile(made, "w") as new:
        for name in old.namelist():
            inside = content if name == "weight.npy" else old.read(name)
            new.writestr(name, inside, compress_type=method if name == "weight.npy" else zipfile.ZIP_STORED)
    return made.getvalue()


def twice(arrays):
    content = io.BytesIO(as_npz(**arrays))
    with pytest.warns(UserWarning, match="Duplicate name"), zipfile.ZipFile(content, "a") as archive:
        archive.writestr("weight.npy", b"")
    return content.getvalue()


def pickled(arrays):
    """A pickle padded to the size that the array's shape needs still meets no unpickler."""
    content = npy(np.array([None] * len(arrays["weight"])), pickled=True)
    return with_weight(arrays, content.ljust(arrays["weight"].nbytes + 128, b"\0"))


ARCHIVES = {
    "foreign member": (lambda a: as_npz(**a, extra=np.zeros(3)), "the file holds .*extra.npy"),
    "member given twice": (twice, "the file holds"),
    "one measure without the other": (lambda a: as_npz(**{n: x for n, x in a.items() if n != "counted"}), "holds"),
    "python objects": (lambda a: as_npz(**a | {"weight": np.array([None] * len(a["weight"]))}), "'weight'|cannot be read"),
    "pickle of the right size": (pickled, "'weight' is object"),
    "bomb": (lambda a: with_weight(a, npy(np.zeros(10**6)), zipfile.ZIP_DEFLATED), "'weight' is not of the size"),
    **{
        f"compressed by {method}": (lambda a, method=method: with_weight(a, npy(a["weight"]), method), "'weight' is compressed")
        for method in (zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA)
    },
    "member of a folder": (lambda a: as_npz(**a, **{"../evil": np.zeros(3)}), "the file holds .*evil"),
    "capital letters": (lambda a: as_npz(**{n.upper(): x for n, x in a.items()}), "the file holds"),
    "empty member": (lambda a: with_weight(a, b""), "'weight' is not of the size|does not hold what the model's"),
    "empty": (lambda _: b"", "does not hold what the model's"),
    "no archive": (lambda a: b"not a zip file" * 5000, "cannot be read|does not hold what the model's"),
    **{
        f"without {name}": (lambda a, name=name: as_npz(**{n: x for n, x in a.items() if n != name}), "holds|does not hold")
        for name in RiskDraws.ARRAYS
    },
}


@pytest.mark.parametrize("case", ARCHIVES)
def test_archive_that_is_none_of_ours(copy, case):
    make, message = ARCHIVES[case]
    forge(copy, "scoring", make(arrays_of(copy)))
    refused(copy, message)


def at(place, value):
    return lambda array: array.__setitem__(place, value) or array


def above_its_parent(draws):
    """Rash, place 4, lies in any toxicity, place 0."""
    draws[3, 2, 4, 0] = draws[3, 2, 0, 0] + 1e-4
    return draws


SIZE = "the array '{}'|does not hold what the model's"
ARRAYS = [
    ("draws", lambda x: x.astype(np.float64), SIZE),
    ("draws", lambda x: x[:-1], SIZE),
    ("draws", lambda x: x.transpose(0, 2, 1, 3), SIZE),
    ("draws", lambda x: x.astype(">f4"), "'draws' is >f4"),
    ("draws", np.asfortranarray, "'draws' is float32 .* by columns"),
    *(("weight", lambda x, kind=kind: x.astype(kind), "'weight' is") for kind in ([("x", float)], "datetime64[s]")),
    ("levels", lambda x: x.astype(np.float64), SIZE),
    ("weight", lambda x: x[None], SIZE),
    ("published", lambda x: x.astype(np.int8), SIZE),
    *(("draws", at((3, 2, 1, 0), value), "not all probabilities") for value in (np.nan, np.inf, -0.1, 1.1)),
    *(("levels", at((0, 0), value), "not all levels") for value in (99, -1)),
    *(("weight", at(0, value), "not all positive numbers") for value in (np.nan, -1.0)),
    *(("source", at((0, 0, 0), value), "not all places in the list of sources") for value in (7, -5)),
    ("weight", at(0, 1e308), r"'weight' has 1e\+308 patients, the publication 240"),
    ("weight", at(slice(None), 1e308), "'weight' has inf patients, the publication 240"),
    ("weight", lambda x: x + 0.01 * np.eye(len(x))[0], r"'weight' has 240\.01 patients, the publication 240"),
    ("weight", lambda x: x * 2, "'weight' has 480 patients, the publication 240"),
    ("weight", at(-1, 9), "'weight' of a new region is not the sum over its levels"),
    ("movement", lambda x: x * np.float32(1e6), "'movement' holds values that are .* beyond reason"),
    ("draws", at((3, 2, 5, 1), 0.99), "'draws' has risks above those of a lower grade"),
    ("draws", above_its_parent, "'draws' has risks above those .* of the event they lie in"),
    ("logits", lambda x: x[:, :-1], "does not hold what the model's"),
    ("logits", lambda x: x.astype(np.float64), "does not hold what the model's"),
    ("logits", at((0, 0, 0), np.nan), "'logits' holds values that are not all finite"),
]


@pytest.mark.parametrize(("name", "change", "message"), ARRAYS, ids=range(len(ARRAYS)))
def test_array_that_no_fit_gives(copy, name, change, message):
    kind = "branches" if name == "logits" else "scoring"
    arrays = arrays_of(copy, kind)
    forge(copy, kind, as_npz(**arrays | {name: change(arrays[name])}))
    with pytest.raises(aemodel.SavedModelError, match=message.format(name)):
        read_all(copy)


def test_weights_of_other_levels(copy):
    """As many patients as there are, but of the first covariate's first two levels in each other's place."""
    arrays = arrays_of(copy)
    beside = arrays["levels"][0] + np.eye(arrays["levels"].shape[1], dtype=int)[0]
    other = np.flatnonzero((arrays["levels"] == beside).all(axis=1))[0]
    arrays["weight"][[0, other]] = arrays["weight"][[other, 0]]
    forge(copy, "scoring", as_npz(**arrays))
    refused(copy, "'weight' has .* patients of arm low stage .*, the publication ")


def test_rounding_of_nested_risks_is_no_matter(copy):
    arrays = arrays_of(copy)
    arrays["draws"][..., 0] = np.nextafter(arrays["draws"][..., 1], np.float32(0))
    arrays["draws"][..., 1:] = arrays["draws"][:, :, :1, 1:]
    arrays["draws"][..., :1] = np.nextafter(arrays["draws"][..., 1:], np.float32(0))
    forge(copy, "scoring", as_npz(**arrays))
    aemodel.load_model(copy)


def test_scoring_file_of_another_size_than_its_arrays_is_not_opened(copy, monkeypatch):
    """A manifest cannot have a file read that is larger than the model it describes."""
    manifest = manifest_of(copy)
    manifest["files"]["scoring"]["bytes"] = 1_999_999_999
    write_manifest(copy, manifest, sealed=True)
    monkeypatch.setattr(reader, "read_checked", lambda *_: pytest.fail("it was opened"))
    refused(copy, "does not hold what the model's .* bytes of arrays need")


# Damaged: the manifest.


TEXTS = {
    "nothing": (lambda _: b"", "not a manifest"),
    "cut": (lambda _: b"{", "not a manifest"),
    "a list": (lambda _: b"[]", "format None is not known"),
    "a number": (lambda _: b"3", "format None is not known"),
    "null": (lambda _: b"null", "format None is not known"),
    "no UTF-8": (lambda _: b"\xff\xfe", "not a manifest"),
    "deep": (lambda _: b"[" * 100_000, "not a manifest"),
    "deep object": (
        lambda text: text.replace(b'"seed": 1', b'"seed": ' + b'{"a":' * 100_000 + b"1" + b"}" * 100_000, 1),
        "not a manifest",
    ),
    "digits": (lambda text: text.replace(b'"seed": 1', b'"seed": ' + b"9" * 10_000, 1), "not a manifest"),
    "comment": (lambda text: text.replace(b"{", b"{ // comment\n", 1), "not a manifest"),
    "more after its end": (lambda text: text + b"{}", "not a manifest"),
    "UTF-16": (lambda text: text.decode().encode("utf-16"), "not a manifest"),
    "byte order mark": (lambda _: b"\xef\xbb\xbf{}", "not a manifest"),
    "without end": (lambda _: b" " * 16_000_001, "larger than"),
    "key given twice": (lambda text: text.replace(b'"format": 3,', b'"format": 3, "format": 3,', 1), "a key is given twice"),
    **{
        name: (lambda text, name=name: text.replace(b'"r_hat": 1.', f'"r_hat": {name}, "x": 1.'.encode(), 1), message)
        for name, message in [
            *((name, f"{name} is not a number of JSON") for name in ("NaN", "Infinity", "-Infinity")),
            *((name, f"{name} is too large a number") for name in ("1e999", "-1e999")),
        ]
    },
}


@pytest.mark.parametrize("case", TEXTS)
def test_text_that_is_no_manifest(copy, case):
    change, message = TEXTS[case]
    path = copy / "manifest.json"
    path.write_bytes(change(path.read_bytes()))
    refused(copy, rf"manifest\.json: .*{message}")


def deep(levels):
    return {"deeper": deep(levels - 1)} if levels else {}


DROP = object()
VALUES = [
    *((("format",), value, "format .* is not known") for value in (0, "1", None, True, 1.0)),
    (("format",), 99, "format 99 is not known; this version reads formats 1, 2 and 3. Upgrade aemodel or refit"),
    (("extra",), 1, "Object contains unknown field `extra`, in format 3"),
    (("extra" * 10_000,), 1, "Object contains unknown field"),
    (("settings", "seed"), "1", "settings.seed: Expected `int`, got `str`"),
    (("settings", "seed"), DROP, "settings: Object missing required field `seed`"),
    (("settings", "seed"), 2**64, "settings: seed: expected at most"),
    (("settings", "draws"), True, "settings.draws: Expected `int`, got `bool`"),
    (("settings",), {"seed": 1, "draws": 10**5, "chains": 3}, "settings: draws: 300,000 of all chains, at most"),
    (("settings", "ordering"), "neither", "settings.ordering: Invalid enum value 'neither'"),
    (("settings", "selection"), 1, "settings.selection: Expected `bool`"),
    (("settings", "prior_scale"), 0.0, "settings.prior_scale: Expected `float` >= 0.001"),
    (("settings", "prior_scale"), "1", "settings.prior_scale: Expected `float`"),
    (("settings", "power"), 2.0, "settings.power: Expected `float` <= 1"),
    (("settings", "overlap"), "some", "settings.overlap: Invalid enum value"),
    (("settings", "patients"), -3, "settings.patients: Expected `int` >= 0"),
    (("settings", "patients"), 3, "settings: overlap: patients, but not how they overlap"),
    (("settings", "failed_attempts"), [1], r"settings.failed_attempts\[0\]: Expected `str`"),
    (("settings", "failed_attempts"), "worse", "settings.failed_attempts: Expected `array`"),
    (("settings", "priors"), ["normal"], "settings.priors: Expected `object`"),
    (("settings", "priors"), {"scale": [None]}, r"settings.priors\[...\]\[0\]: Expected `float`"),
    (("settings", "priors"), deep(30), r"settings.priors\[...\]\[...\]\[...\]: Expected `float | str | array`"),
    (("settings", "expected_slopes"), {"3-5": "x"}, "settings.expected_slopes: Object"),
    (
        ("settings", "expected_slopes"),
        {"central90": {"3-5": ["low", 1.0]}, "median": {}, "refits": 20, "seed": 1},
        r"settings.expected_slopes.central90\[...\]\[0\]: Expected `float`",
    ),
    (("settings", "more"), "x" * 20_000, "settings: Object contains unknown field `more`"),
    (("diagnostics",), {}, "diagnostics: Object missing required field"),
    (("diagnostics", "r_hat"), "good", "diagnostics.r_hat: Expected `float`"),
    (("diagnostics", "r_hat"), 1e300, "diagnostics.r_hat: Expected `float` <="),
    (("diagnostics", "divergences"), -1, "diagnostics.divergences: Expected `int` >= 0"),
    (("diagnostics", "worst"), "x" * 10_000, "diagnostics.worst: Expected `str` of length"),
    (("diagnostics", "approximation"), -1.0, "diagnostics.approximation: Expected `float` >= 0"),
    (("diagnostics", "unheard_of"), 1, "diagnostics: unheard_of is none of them"),
    (("performance", "rows"), -1, "performance.rows: Expected `int` >= 0"),
    (("performance", "within90"), 1.5, "performance.within90: Expected `float` <= 1"),
    (("versions", "numpy"), "x" * 1000, r"versions\[...\]: Expected `str` of length"),
    (("versions", "numpy"), 2, r"versions\[...\]: Expected `str`"),
    (("versions", "numpy"), "\ud800", r"manifest\.json: "),
    (("evidence", "counts", 0, 4), -1, r"evidence.counts\[0\]\[4\]: Expected `int` >= 0"),
    (("evidence", "nulls"), None, "evidence.nulls: Expected `array`"),
    (("files", "extra"), {}, "files: Object contains unknown field `extra`"),
    *((("files", "scoring"), entry, r"files.scoring: ") for entry in (None, [], {}, {"name": "x"}, "scoring")),
    *((("files", "scoring", "bytes"), value, r"files.scoring.bytes: Expected `int`") for value in (1.5, True, -1)),
    (("files", "scoring", "sha256"), "0" * 64, "files.scoring: .* is not the name that its digest gives it"),
    (("files", "scoring", "sha256"), 1, "files.scoring.sha256: Expected `str`"),
    *(
        (("files", kind, "name"), name, rf"files.{kind}[.:].* (is not the name that its digest|Expected)")
        for kind in KINDS
        for name in (f"../{kind}-0123456789abcdef.npz", "/etc/passwd", f"{kind}.npz", "", None, 3)
    ),
    (("samples",), 7, "7 samples cannot come from 2 chains"),
    (("samples",), -1, "samples: Expected `int` >= 1"),
    (("samples",), 10**30, "samples: Expected `int` <="),
    (("samples",), 20, "does not hold what the model's"),
    (("chains",), 0, "chains: Expected `int` >= 1"),
    (("name",), "other", r"not those of the publication inside: \['name'\]"),
    (("events",), ["a", "b"], r"not those of the publication inside: \['events'\]"),
    (("events",), [1] * 11, r"events\[0\]: Expected `str`"),
    (("grades",), [], r"not those of the publication inside: \['grades'\]"),
    (("grades",), ["4-5", "3-5"], r"not those of the publication inside: \['grades'\]"),
    (("publications",), [], "of 0 publications; this version reads models of one. Upgrade aemodel"),
    (("publications", 0, "files"), {}, "publication must hold the texts of"),
    (("publications", 0, "files", "publication.toml"), 3, r"publications\[0\].files\[...\]: Expected `str`"),
    *(
        (("publications", 0, "files", file), "covariates = 3", "the publication inside is not the one of its digest")
        for file in ("publication.toml", "events.csv", "discrepancies.csv")
    ),
    *(((field,), DROP, f"missing required field `{field}`") for field in DECLARED[3].__struct_fields__ if field != "format"),
    *(((field,), None, rf"{field}: Expected .*got `null`") for field in DECLARED[3].__struct_fields__ if field != "format"),
]


def put(manifest, path, value):
    for key in path[:-1]:
        manifest = manifest[key]
    if value is DROP:
        del manifest[path[-1]]
    else:
        manifest[path[-1]] = value


@pytest.mark.parametrize(("path", "value", "message"), VALUES, ids=range(len(VALUES)))
def test_value_that_no_manifest_has(copy, path, value, message):
    manifest = manifest_of(copy)
    put(manifest, path, value)
    try:
        seal = {} if path == ("sha256",) else {"sha256": manifest_digest(manifest)}
    except UnicodeEncodeError:  # half a surrogate pair is a text to JSON, and no UTF-8
        seal = {}
    write_manifest(copy, manifest | seal)
    refused(copy, message)


LOOSE = {
    "settings": {"seed": 2},
    "versions": {"numpy": "0.0"},
    "diagnostics": {"r_hat": 1.0, "ess_bulk": 9e9, "ess_tail": 9e9, "divergences": 0, "bfmi": 1.0, "worst": ""},
    "performance": {"rows": 1, "within50": 1.0, "within90": 1.0},
    "evidence": {"counts": [], "unseen": [], "orderings": [], "nulls": []},
    "samples": 20,
    "chains": 1,
    "name": "someone_else",
}


@pytest.mark.parametrize("field", LOOSE)
def test_edited_field_is_found_by_the_digest(copy, field):
    """Each would pass for a value of its own."""
    write_manifest(copy, manifest_of(copy) | {field: LOOSE[field]})
    refused(copy, "its SHA-256 is not that of its contents")


# Saving where something is.


def test_model_that_could_not_be_read_back_replaces_nothing(few, copy):
    before = contents(copy)
    with pytest.raises(ValueError, match="settings.seed: Expected `int`, got `str`"):
        aemodel.save_model(replace(few, settings={**few.settings, "seed": "1"}), copy)
    assert contents(copy) == before


SOMEBODY_ELSES = {
    "a file": {"thesis.txt": "years of work"},
    "a manifest of another program": {"manifest.json": '{"manifest_version": 3}', "card.md": "mine"},
    "arrays with a manifest of another program": {"manifest.json": "{}", "posterior-0123456789abcdef.nc": "mine"},
    "a folder named as scratch is": {".saving-mine/thesis.txt": "years of work"},
    "a folder named as a card is": {"card.md/thesis.txt": "years of work"},
    "a folder named as draws are": {"posterior-0123456789abcdef.nc/thesis.txt": "years of work"},
}


@pytest.mark.parametrize("name", SOMEBODY_ELSES)
def test_folder_with_something_else_is_untouched(few, saved, tmp_path, name):
    """Neither by itself nor among the files of a model."""
    for path, text in SOMEBODY_ELSES[name].items():
        (tmp_path / path).parent.mkdir(exist_ok=True)
        (tmp_path / path).write_text(text)
    if name.endswith(("card is", "draws are")):
        shutil.copytree(saved, tmp_path, dirs_exist_ok=True, ignore=shutil.ignore_patterns("card.md"))
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    with pytest.raises(FileExistsError, match="holds something that is not a saved model"):
        aemodel.save_model(few, tmp_path)
    assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == before


def test_model_of_a_later_version_and_places_that_are_none_are_not_replaced(few, copy, tmp_path):
    write_manifest(copy, manifest_of(copy) | {"format": max(FORMATS) + 1}, sealed=True)
    (tmp_path / "link").symlink_to("nowhere")
    (tmp_path / "file").write_text("x")
    before = contents(copy)
    for folder in (copy, tmp_path / "link", tmp_path / "file"):
        with pytest.raises(FileExistsError, match=f"^folder: .*{folder.name}.* not a saved model"):
            aemodel.save_model(few, folder)
    assert contents(copy) == before


def test_overwriting_leaves_no_files_of_the_old_model_but_the_users_own(few, copy):
    old = {file_of(copy, "scoring").name, file_of(copy, "posterior").name}
    (copy / "notes.txt").write_text("mine")
    (copy / "scoring-0123456789abcdef.npz").write_bytes(b"left behind by an interrupted save")
    aemodel.save_model(changed(few), copy)
    files = [entry["name"] for entry in manifest_of(copy)["files"].values()]
    assert not old <= set(files)
    assert set(contents(copy)) == {"manifest.json", "card.md", "notes.txt", *files}
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


def test_a_folder_named_as_what_is_shipped_is_meant_only_as_a_path(tmp_path, monkeypatch, shipped):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "aall1331").mkdir()
    assert aemodel.load_model("aall1331").digest == shipped.digest
    assert aemodel.load_tables("aall1331").digest == shipped.tables.digest
    for path in ("./aall1331", Path("aall1331")):
        with pytest.raises(aemodel.SavedModelError, match="no saved model, or an incomplete copy"):
            aemodel.load_model(path)
        with pytest.raises(FileNotFoundError):
            aemodel.load_tables(path)


@pytest.mark.parametrize(
    "answer",
    [
        *(aemodel.identification_table, aemodel.calibration_table, aemodel.differences_table, aemodel.odds_ratio_table),
        *(aemodel.sensitivity_table, aemodel.selection_table),
        lambda model: aemodel.posterior_epred(model, pd.DataFrame({"sex": ["male"]})),
        lambda model: aemodel.profile_table(model, ["sex"]),
        lambda model: aemodel.contrast_table(model, {"sex": "male"}, {"sex": "female"}),
        lambda model: aemodel.calibration_slopes(model, seed=1),
    ],
)
def test_what_is_no_model_is_said_to_be_none(answer):
    with pytest.raises(TypeError, match=r"model: expected what load_model or fit returns, not str: load_model\('aall1331'\)\?"):
        answer("aall1331")
