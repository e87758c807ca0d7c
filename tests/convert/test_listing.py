"""The list of quantization types says what llama.cpp does."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from localllm.cli.main import main
from localllm.convert import convert
from localllm.convert.listing import TypeFacts, list_types
from localllm.convert.quantizations import TYPES
from localllm.gguf_file import read_header
from localllm.native import handles, ledger
from tests.convert.helpers import MakeTiny

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def facts() -> dict[str, TypeFacts]:
    return {fact.name: fact for fact in list_types()}


def test_the_installed_llama_cpp_writes_every_type(facts: dict[str, TypeFacts]) -> None:
    assert tuple(facts) == TYPES


def test_bits_per_weight_are_those_of_the_whole_file(facts: dict[str, TypeFacts]) -> None:
    assert facts["BF16"].bits_per_weight == pytest.approx(16, abs=0.01)
    assert facts["Q8_0"].bits_per_weight == pytest.approx(8.5, abs=0.01)
    # llama-quantize publishes 4.58 GiB for Llama 3 8B, which has 8.03e9 weights.
    assert facts["Q4_K_M"].bits_per_weight == pytest.approx(4.58 * 2**33 / 8.03e9, abs=0.01)


def test_what_needs_an_importance_matrix(facts: dict[str, TypeFacts]) -> None:
    assert facts["IQ2_XS"].needs_imatrix
    assert facts["Q2_K_S"].needs_imatrix
    assert not facts["Q2_K"].needs_imatrix
    assert not facts["IQ4_XS"].needs_imatrix


def test_odd_rows_are_what_a_conversion_makes_of_them(
    facts: dict[str, TypeFacts], tiny: MakeTiny, tmp_path: Path
) -> None:
    source = tiny(hidden=96, ffn=96, heads=1, kv_heads=1)
    for kind in ("Q4_K_S", "Q6_K", "IQ4_XS", "TQ2_0", "Q8_0"):
        header = read_header(convert(source, tmp_path / "x.gguf", type=kind, force=True).outfile)
        found = {tensor.name: tensor.type_name for tensor in header.tensors}
        assert facts[kind].odd_rows == found["blk.1.ffn_up.weight"], kind
    assert facts["Q1_0"].odd_rows is None


@pytest.mark.skipif(not ledger.supported(), reason="the ledger of this build cannot be read")
def test_what_is_repacked_is_what_a_load_repacks(facts: dict[str, TypeFacts], tiny: MakeTiny, tmp_path: Path) -> None:
    source = tiny()
    for kind in ("Q4_0", "Q4_1", "Q6_K", "IQ4_NL"):
        with handles.open_model(convert(source, tmp_path / f"{kind}.gguf", type=kind).outfile) as model:
            context = handles.open_context(model, n_ctx=256, n_batch=32, n_ubatch=32, threads=1)
            orders = ("CPU_REPACK", "AMX")
            arranged = [use for use in ledger.read(context.pointer) if use.weights and use.buffer in orders]
            context.close()
        assert bool(facts[kind].repacked) == bool(arranged), kind


def test_the_command_lists_types_without_a_checkpoint(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["convert", "--list-types"]) == 0
    lines = capsys.readouterr().out.splitlines()
    (usual,) = (line for line in lines if line.startswith("Q4_K_M"))
    assert "4.89" in usual
    assert "Q5_0" in usual
    assert main(["convert", "--list-types", "--json"]) == 0
    listed = json.loads(capsys.readouterr().out)["types"]
    assert [fact["name"] for fact in listed] == list(TYPES)
    assert {"bits_per_weight", "needs_imatrix", "repacked", "odd_rows", "phrase"} <= listed[0].keys()
