"""Environment and fixtures of every test. The environment is set before torch is imported anywhere."""

import os

os.environ.update(
    # with a second busy process on two cores, OpenMP's busy waiting makes a forward pass sixteen times slower
    OMP_NUM_THREADS="1",
    OMP_WAIT_POLICY="passive",
    HF_HUB_OFFLINE="1",
    HF_HUB_DISABLE_TELEMETRY="1",
    TOKENIZERS_PARALLELISM="false",
    WANDB_MODE="disabled",
)

from jaxtyping import install_import_hook

# shapes and types in annotations are checked in everything the tests run
install_import_hook(["interp", "training", "analyses"], "beartype.beartype")

import pytest  # noqa: E402

from tests.families import FAMILIES, build  # noqa: E402


@pytest.fixture(params=FAMILIES)
def family_lm(request):
    """A fresh tiny model of each of the eight families."""
    return build(request.param)


@pytest.fixture
def lm():
    """A fresh tiny Llama model."""
    return build("llama")
