"""What many tests start from, made once."""

from __future__ import annotations

import os
import shutil
from urllib.parse import urlencode

import pytest

import aemodel
from aemodel.inference.forward import make_model_forward
from aemodel.publication.cells import make_cells
from aemodel.publication.families import make_families
from aemodel.publication.margins import family_margins
from aemodel.publication.tables import load_tables, read_tables
from tests.browser import DESK, chromium
from tests.publications import EVIDENCE, publication_texts, simulate_patients, write_publication

# What tests print is as wide as where there is no terminal; pytest's workers are told of one.
os.environ.pop("COLUMNS", None)


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items):
    """A module's tests share a process, and what its fixtures make, where no mark says otherwise."""
    for item in items:
        if item.get_closest_marker("xdist_group") is None:
            item.add_marker(pytest.mark.xdist_group(item.path.stem))


@pytest.fixture(scope="session")
def aall1331():
    return load_tables("aall1331")


@pytest.fixture(scope="session")
def aall1331_cells(aall1331):
    return make_cells(aall1331)


@pytest.fixture(scope="session")
def aall1331_families(aall1331):
    return {family.root: family for family in make_families(aall1331.events)}


@pytest.fixture(scope="session")
def aall1331_margins(aall1331, aall1331_cells, aall1331_families):
    """`FamilyMargins` by the name of the family's root event."""
    families = aall1331_families.items()
    return {root: family_margins(family, aall1331_cells, aall1331.frequencies) for root, family in families}


@pytest.fixture(scope="session")
def invented_patients():
    """Rows of patients behind the invented publication."""
    return simulate_patients(seed=11, patients=240)


@pytest.fixture(scope="session")
def invented_folder(invented_patients, tmp_path_factory):
    return write_publication(tmp_path_factory.mktemp("publication") / "invented", invented_patients)


@pytest.fixture(scope="session")
def invented(invented_folder):
    return load_tables(invented_folder)


@pytest.fixture(scope="session")
def spark():
    """A real Spark session. In CI a machine without Java fails; elsewhere its tests are left out."""
    if shutil.which("java") is None:
        if os.environ.get("CI"):
            pytest.fail("PySpark needs Java, which is not on this machine's path: install a JRE, version 17 or later")
        pytest.skip("PySpark needs Java, which is not on this machine's path")
    from pyspark.sql import SparkSession

    builder = SparkSession.builder.master("local[2]").config("spark.ui.enabled", "false")
    session = builder.config("spark.sql.shuffle.partitions", "1").config("spark.log.level", "ERROR").getOrCreate()
    yield session
    session.stop()


@pytest.fixture(scope="session")
def invented_evidence(invented_patients):
    """The invented publication with an ordering and nulls."""
    return read_tables(publication_texts(invented_patients, evidence=EVIDENCE))


@pytest.fixture(scope="session")
def model():
    """A model of the invented publication whose draws nobody sampled."""
    from tests.reports import drawn_model, invented_texts

    return drawn_model(invented_texts())


@pytest.fixture(scope="session")
def other():
    """Another fit of the same counts, without what is assumed of the order of groups and of what is left out."""
    from tests.reports import drawn_model, invented_texts

    return drawn_model(invented_texts(), seed=2, ordering=None, selection=False)


@pytest.fixture(scope="session")
def hostile():
    """A model of hostile texts, whose sampler failed."""
    from tests.reports import drawn_model, hostile_texts

    return drawn_model(hostile_texts(), divergences=7)


@pytest.fixture(scope="module")
def browser():
    with chromium() as browser:
        yield browser


@pytest.fixture
def show(browser, written):
    """Opens one of a module's pages, offline; whatever it asks for, and whatever goes wrong in it, ends the test."""
    contexts, wrong, first = [], [], next(iter(written))

    def open_page(name=first, chosen=(), *, size=DESK, scheme="light"):
        address = written[name].as_uri()
        context = browser.new_context(
            viewport={"width": size[0], "height": size[1]}, color_scheme=scheme, offline=True, reduced_motion="reduce"
        )
        contexts.append(context)
        page = context.new_page()
        page.on("pageerror", lambda error: wrong.append(str(error)))
        page.on("console", lambda message: wrong.append(message.text))
        page.on("dialog", lambda dialog: wrong.append(dialog.message))
        page.on("request", lambda request: wrong.append(request.url) if request.url.split("#")[0] != address else None)
        page.goto(address + (f"#{urlencode(chosen)}" if chosen else ""))
        return page

    yield open_page
    for context in contexts:
        context.close()
    assert wrong == []


@pytest.fixture(scope="session")
def shipped():
    return aemodel.load_model("aall1331")


@pytest.fixture(scope="session")
def shipped_states(shipped):
    """State probabilities (state, cell) at 20 posterior draws, and at the same with all effects larger."""
    forward, draws, seed = make_model_forward(shipped)
    few = draws.isel(draw=slice(None, None, draws.sizes["draw"] // 5)).isel(draw=slice(0, 5))
    cells = len(forward.design.cells.n)
    both = few, few.assign({name: 1.4 * few[name] for name in ("own", "shared")})
    return [p[:, :cells] for some in both for p in forward.states(some, seed)]
