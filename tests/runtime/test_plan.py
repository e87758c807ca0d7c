"""Plans: equal to the load that follows, chosen to fit, refused in plain words."""

from __future__ import annotations

import struct
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from localllm.errors import BadModelFile, DoesNotFit, ModelNotFound, UnsupportedModel
from localllm.gguf_file import Header, read_header
from localllm.native import accelerators, devices, ledger, machine, quants
from localllm.runtime import estimate, parts
from localllm.runtime.describing import display_name
from localllm.runtime.model import Model
from localllm.runtime.options import KV_TYPES, Options
from localllm.runtime.plan import DEFAULT_CTX, check_fits, make_plan, plan_quickly
from localllm.runtime.simulate import layers_by_device
from localllm.runtime.types import DeviceMemory, Plan, mib, needs


def _free(monkeypatch: pytest.MonkeyPatch, free: int) -> None:
    """Make the CPU report `free` bytes."""
    monkeypatch.setattr(machine, "system_memory", lambda: (free, 64 << 30))


@pytest.mark.slow
@pytest.mark.parametrize("options", [Options(n_ctx=512), Options(n_ctx=2000, kv_type="q8_0", mmap=False)])
def test_the_plan_is_what_the_load_takes(smollm2: Path, options: Options) -> None:
    plan = make_plan(smollm2, options)
    with Model.load(smollm2, options) as model:
        sample = model.memory()
        (real,) = sample.devices
        assert model.info.n_ctx == plan.n_ctx
    (planned,) = plan.devices
    assert plan.exact
    assert (planned.weights, planned.kv, planned.compute) == (real.weights, real.kv, real.compute)
    assert planned.layers == real.layers == 31
    assert model.plan.fits


@pytest.mark.slow
def test_weights_that_are_repacked_are_counted_once(smollm2: Path, tmp_path: Path) -> None:
    repacked = tmp_path / "q4_0.gguf"
    quants.quantize_file(smollm2, repacked, "Q4_0", requantize=True)
    plan = make_plan(repacked, Options(n_ctx=512))
    with Model.load(repacked, Options(n_ctx=512)) as model:
        assert model.plan.devices[0].weights == plan.devices[0].weights
        sample = model.memory()
        assert sample.devices[0].weights == plan.devices[0].weights
        assert 0 <= sample.weights_copied <= sample.devices[0].weights


@pytest.mark.slow
def test_the_context_is_chosen_below_what_the_model_knows(smollm2: Path) -> None:
    assert make_plan(smollm2).n_ctx == min(DEFAULT_CTX, read_header(smollm2).context_length)


@pytest.mark.parametrize(("kind", "fits"), [("gpu", False), ("worker", True)])
def test_a_gpu_needs_memory_for_its_kernels(kind: str, fits: bool) -> None:
    device = DeviceMemory("GPU0", kind, weights=300 << 20, kv=0, compute=0, free=400 << 20, total=8 << 30, layers=3)
    plan = Plan(Path("model.gguf"), Options(n_ctx=512, gpu_layers=3), (device,), exact=True)
    assert plan.fits is fits
    if fits:
        check_fits(plan)
        return
    with pytest.raises(
        DoesNotFit, match=r"needs 300\.0 MiB on GPU0 .*, and 192\.0 MiB for the device's own kernels; 400\.0"
    ):
        check_fits(plan)
    assert plan.fits_instead_of(plan)


@pytest.mark.slow
def test_an_open_context_shrinks_to_fit_and_says_so(smollm2: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    roomy = make_plan(smollm2)
    _free(monkeypatch, needs(roomy.devices[0]) - 1)
    plan = make_plan(smollm2)
    assert plan.fits
    assert roomy.n_ctx // 2 < plan.n_ctx < roomy.n_ctx
    assert not make_plan(smollm2, Options(n_ctx=plan.n_ctx + 256)).fits
    assert f"{roomy.n_ctx:,}" in plan.notes[0]


@pytest.mark.slow
def test_a_context_that_was_asked_for_never_shrinks(smollm2: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    small = make_plan(smollm2, Options(n_ctx=1024))
    _free(monkeypatch, needs(small.devices[0]))
    plan = make_plan(smollm2, Options(n_ctx=8192))
    assert plan.n_ctx == 8192
    assert not plan.fits
    with pytest.raises(DoesNotFit, match="KV cache") as caught:
        check_fits(plan)
    assert "--ctx 1024, n_ctx in Python" in caught.value.hint
    with pytest.raises(DoesNotFit):
        Model.load(smollm2, Options(n_ctx=8192))


@pytest.mark.slow
def test_weights_that_do_not_fit_are_named(smollm2: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _free(monkeypatch, 1 << 20)
    with pytest.raises(DoesNotFit) as caught:
        check_fits(make_plan(smollm2))
    assert "choose a smaller model" in caught.value.hint


def test_beyond_the_training_length_is_warned_of(smollm2: Path) -> None:
    (note,) = make_plan(smollm2, Options(n_ctx=10_240)).notes
    assert "10,240" in note
    assert "8,192" in note


@pytest.mark.slow
def test_beyond_the_training_length_that_length_is_offered_first(
    smollm2: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _free(monkeypatch, needs(make_plan(smollm2, Options(n_ctx=16_384)).devices[0]))
    advice = make_plan(smollm2, Options(n_ctx=32_768)).advice
    trained = "the context that the model was trained with, 8,192 tokens (--ctx 8192, n_ctx in Python)"
    assert advice.startswith(f"What would fit: {trained}, or up to 16,384, with worse answers past that (--ctx 16384)")


def test_a_context_that_is_rounded_up_is_told(smollm2: Path) -> None:
    plan = make_plan(smollm2, Options(n_ctx=1000))
    assert plan.n_ctx == 1024
    (note,) = plan.notes
    assert "1,024 tokens, not 1,000" in note
    assert make_plan(smollm2, Options(n_ctx=1024)).notes == ()


@pytest.mark.slow
@pytest.mark.parametrize("keys_too", [False, True])
def test_an_architecture_that_is_not_known_is_told_with_the_nearest(
    smollm2: Path, tmp_path: Path, keys_too: bool
) -> None:
    data = smollm2.read_bytes()
    name = b"general.architecture" + struct.pack("<iQ", 8, 5)
    assert name + b"llama" in data
    data = data.replace(name + b"llama", name + b"llcma")
    if keys_too:
        head, rest = data[: 1 << 20], data[1 << 20 :]
        data = head.replace(b"llama.", b"llcma.") + rest
    damaged = tmp_path / "damaged.gguf"
    damaged.write_bytes(data)
    with pytest.raises(UnsupportedModel, match="llcma") as caught:
        make_plan(damaged)
    assert "Nearest known: llama" in caught.value.hint


def test_layers_for_a_gpu_that_is_not_there_are_refused(smollm2: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if any(device.offloads for device in devices.devices()):
        pytest.skip("this machine has a GPU")
    monkeypatch.setattr(accelerators, "_makers", lambda: ["NVIDIA"])
    with pytest.raises(DoesNotFit, match="sees none") as caught:
        make_plan(smollm2, Options(gpu_layers=4))
    assert "An NVIDIA GPU is here" in caught.value.hint
    assert "runs on the CPU" in caught.value.hint
    assert make_plan(smollm2, Options(gpu_layers=0)).gpu_layers == 0


@pytest.mark.slow
def test_files_that_cannot_be_run(smollm2: Path, tmp_path: Path) -> None:
    with pytest.raises(ModelNotFound):
        make_plan(tmp_path / "none.gguf")
    cut = tmp_path / "cut.gguf"
    cut.write_bytes(smollm2.read_bytes()[:50_000_000])
    with pytest.raises(BadModelFile, match="cut short"):
        make_plan(cut)
    text = tmp_path / "text.gguf"
    text.write_text("hello")
    with pytest.raises(BadModelFile):
        make_plan(text)


@pytest.mark.slow
def test_the_formulas_agree_with_the_ledger(smollm2: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    options = Options(n_ctx=4096)
    exact = make_plan(smollm2, options).devices[0]
    monkeypatch.setattr(ledger, "supported", lambda: False)
    plan = make_plan(smollm2, options)
    guess = plan.devices[0]
    assert not plan.exact
    assert "cannot be read on this platform" in plan.estimate
    assert guess.kv == exact.kv
    assert guess.layers == exact.layers
    if not devices.has_matrix_unit():  # it has an order of its own for the weights, which no formula knows
        assert guess.weights == exact.weights
    assert exact.compute / 2 < guess.compute < exact.compute * 3


def test_the_formulas_split_layers_like_llama_cpp(smollm2: Path) -> None:
    header = read_header(smollm2)
    options = Options(n_ctx=1024, gpu_layers=11)
    uses, layers, _ = estimate.buffers(header, options, "CPU", ["GPU0"])
    cpu, gpu = uses
    apart, _, _ = estimate.buffers(header, replace(options, split=(3.0, 8.0)), "CPU", ["GPU0", "GPU1"])
    assert [use.kv * 10 for use in apart[1:]] == [gpu.kv * 3, gpu.kv * 7]
    assert sum(use.weights for use in apart[1:]) == gpu.weights
    assert layers == {"CPU": 20, "GPU0": 11}
    assert gpu.kv * 2 == cpu.kv  # ten of thirty layers have their KV cache there; the eleventh is the output
    tied = next(tensor.n_bytes for tensor in header.tensors if tensor.name == "token_embd.weight")
    assert cpu.weights + gpu.weights == header.tensor_bytes + tied


def test_layers_are_read_from_the_log() -> None:
    lines = [
        f"load_tensors: layer {i:3d} assigned to device {'CPU' if i < 2 else 'CUDA0'}, is_swa = 0\n" for i in range(5)
    ]
    assert layers_by_device([*lines, "load_tensors: offloading output layer\n"]) == {"CPU": 2, "CUDA0": 3}


@pytest.mark.slow
def test_every_kv_type_makes_a_context(smollm2: Path) -> None:
    sizes = {kind: make_plan(smollm2, Options(n_ctx=512, kv_type=kind)).devices[0].kv for kind in KV_TYPES}
    assert sizes["f32"] == 2 * sizes["f16"]
    assert sizes["q8_0"] == sizes["f16"] * 34 // 64
    assert sizes["q4_0"] == sizes["f16"] * 18 // 64


@pytest.mark.slow
def test_k_and_v_have_types_of_their_own(smollm2: Path) -> None:
    sizes = {kind: make_plan(smollm2, Options(n_ctx=512, kv_type=kind)).devices[0].kv for kind in ("f16", "q8_0")}
    for kind in ("q8_0/f16", "f16/q8_0"):
        options = Options(n_ctx=512, kv_type=kind)
        assert make_plan(smollm2, options).devices[0].kv == (sizes["f16"] + sizes["q8_0"]) // 2
    with Model.load(smollm2, Options(n_ctx=512, kv_type="q8_0/f16", flash_attention=False)) as model:
        assert model.plan.devices[0].kv == (sizes["f16"] + sizes["q8_0"]) // 2


@pytest.mark.slow
def test_what_would_fit_is_named(smollm2: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plan = make_plan(smollm2, Options(n_ctx=8192))
    assert plan.advice == ""
    (cpu,) = plan.devices
    _free(monkeypatch, needs(cpu) - cpu.kv // 3)
    advice = make_plan(smollm2, Options(n_ctx=8192)).advice
    assert "--kv-type q8_0" in advice
    assert "--ctx 5" in advice
    _free(monkeypatch, needs(cpu) - cpu.kv // 3)
    narrow = make_plan(smollm2, Options(n_ctx=8192, flash_attention=False)).advice
    assert "--kv-type" not in narrow
    _free(monkeypatch, needs(cpu) - cpu.weights // 4)
    assert "bits a weight" in make_plan(smollm2, Options(n_ctx=8192)).advice


@pytest.mark.slow
def test_a_load_that_takes_something_else_says_so(smollm2: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    honest = plan_quickly

    def wrong(header: Header, options: Options) -> tuple[Plan, Callable[[], Plan]]:
        plan = honest(header, options)[1]()
        (cpu,) = plan.devices
        less = replace(plan, exact=True, devices=(replace(cpu, kv=cpu.kv - (4 << 20)),))
        return less, lambda: less

    monkeypatch.setattr(parts, "plan_quickly", wrong)
    with Model.load(smollm2, Options(n_ctx=512)) as model:
        (note,) = model.notes
    assert note.startswith("CPU took")
    assert "were planned" in note


@pytest.mark.slow
def test_a_gpu_that_goes_to_waste_is_a_note(smollm2: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    gpu = accelerators.UnusedGPU("NVIDIA", "An NVIDIA GPU is here.", "tools/install --rebuild")
    monkeypatch.setattr(accelerators, "unused", lambda *_: [gpu])
    assert make_plan(smollm2).notes == (str(gpu),)
    assert plan_quickly(read_header(smollm2), Options(n_ctx=512))[1]().notes == (str(gpu),)
    assert make_plan(smollm2, Options(gpu_layers=0)).notes == ()


def test_bytes_are_for_people() -> None:
    assert mib(1 << 20) == "1.0 MiB"
    assert mib(3 << 29) == "1.50 GiB"


def test_options_have_nothing_open(smollm2: Path) -> None:
    plan = make_plan(smollm2, Options())
    assert plan.options.threads >= 1
    assert plan.options == replace(plan.options, n_ctx=plan.n_ctx, gpu_layers=plan.gpu_layers)


@pytest.mark.parametrize(
    ("file", "quantization", "name"),
    [
        ("SmolLM2-135M-Instruct.Q4_1.gguf", "Q4_1", "SmolLM2-135M-Instruct"),
        ("qwen3-0.6b-q8_0.gguf", "Q8_0", "qwen3-0.6b"),
        ("big-Q4_K_M-00001-of-00003.gguf", "Q4_K_M", "big"),
        ("model.gguf", "F16", "model"),
    ],
)
def test_models_are_called_by_their_file(file: str, quantization: str, name: str) -> None:
    assert display_name(Path(file), quantization, "Codename 7") == name


def test_a_file_that_is_named_by_its_hash_is_called_as_its_header_says() -> None:
    blob = Path("blobs") / f"sha256-{'0a' * 32}"
    assert display_name(blob, "Q4_K_M", "Gemma 3") == "Gemma 3"
    assert display_name(blob, "Q4_K_M") == blob.name


@pytest.mark.parametrize(
    "wrong",
    [
        {"kv_type": "q9"},
        {"kv_type": "q8_0/q9"},
        {"kv_type": "f16/q8_0", "flash_attention": False},
        {"split": (0.0, 0.0)},
        {"split": (-1.0, 2.0)},
        {"cpu_moe": -1},
        {"workers": ("nonsense",)},
        {"workers": ("127.0.0.1:5", "127.0.0.1:5")},
        {"threads": 100_000},
        {"threads": -1},
        {"n_ctx": -1},
        {"n_ctx": 1 << 31},
        {"gpu_layers": -2},
        {"n_batch": 64, "n_ubatch": 128},
        {"n_ubatch": -1},
        {"n_batch": 0},
        {"n_batch": 1 << 32},
    ],
)
def test_settings_that_would_abort_are_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(ValueError):
        Options(**wrong)  # type: ignore[arg-type]


@pytest.mark.slow
def test_small_batches_work(smollm2: Path) -> None:
    with Model.load(smollm2, Options(n_ctx=512, n_batch=64, n_ubatch=64)) as model:
        assert "".join(model.complete("word " * 200, max_tokens=2))


def test_what_a_loaded_model_holds_counts_as_free_for_the_one_after_it() -> None:
    def plan(kind: str, kv: int, free: int, *, mmap: bool = True) -> Plan:
        part = DeviceMemory("D", kind, weights=100, kv=kv, compute=10, free=free, total=1000)
        return Plan(Path("m.gguf"), Options(mmap=mmap), (part,), exact=True)

    small, large = plan("cpu", 50, 200), plan("cpu", 149, 200)
    assert not large.fits
    assert large.fits_instead_of(small)
    assert not plan("cpu", 151, 200).fits_instead_of(small)
    # The pages of a file that is mapped are not in use; those of a GPU, or of a file that was read, are.
    assert plan("cpu", 250, 200).fits_instead_of(plan("cpu", 50, 200, mmap=False))
    assert plan("gpu", 250, 200).fits_instead_of(plan("gpu", 50, 200))
    assert not plan("gpu", 251, 200).fits_instead_of(plan("gpu", 50, 200))
