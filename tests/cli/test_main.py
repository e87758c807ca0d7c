"""The command line as a whole: help, completion, and flags that agree with the runtime."""

from __future__ import annotations

import argparse
import shutil
import subprocess
import sys
from pathlib import Path
from typing import get_args

import pytest

from localllm import __version__, paths
from localllm.cli import options, sampling_flags, values
from localllm.cli.from_settings import fill
from localllm.cli.main import build_parser, main
from localllm.native.handles import KV_TYPE_IDS
from localllm.runtime.options import KV_TYPES, MAX_THREADS, Options, Window
from localllm.runtime.sampling import LARGEST_SEED, Sampling


def _commands() -> dict[str, argparse.ArgumentParser]:
    (action,) = [a for a in build_parser()._actions if isinstance(a, argparse._SubParsersAction)]
    return dict(action.choices)


def test_every_command_has_help_that_teaches() -> None:
    commands = _commands()
    assert {"chat", "run", "convert", "plan"} <= set(commands)
    for name, parser in commands.items():
        text = parser.format_help()
        assert f"localllm {name}" in (parser.epilog or ""), name
        assert parser.description
        assert len(text.splitlines()) > 5


def test_every_flag_has_help() -> None:
    for name, parser in _commands().items():
        for action in parser._actions:
            assert action.help or action.dest == "shell", f"{name} {action.dest}"


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main(["--version"])
    assert caught.value.code == 0
    assert capsys.readouterr().out == f"localllm {__version__}\n"


def test_flags_default_to_what_the_runtime_defaults_to() -> None:
    args = fill(build_parser().parse_args(["run", "Hi"]))
    assert options.engine_options(args) == Options()
    assert sampling_flags.sampling(args) == Sampling()
    assert values.KV_TYPES == KV_TYPES
    assert get_args(Window) == values.WINDOWS
    assert set(KV_TYPES) == set(KV_TYPE_IDS)
    assert (values.MAX_THREADS, values.LARGEST_SEED) == (MAX_THREADS, LARGEST_SEED)


def test_an_unknown_flag_is_told_by_its_command(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main(["rm", "a", "--dry-run"])
    assert caught.value.code == 2
    told = "localllm rm: error: unrecognized arguments: --dry-run\n  usage: `localllm rm --help` shows all flags.\n"
    assert capsys.readouterr().err == told


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        ("--kv-type q8_0 --flash-attention off", "needs flash attention"),
        ("--worker a:1 --worker a:1", "a worker is named twice"),
        ("--lora a.gguf=nan", "the scale of a LoRA adapter"),
    ],
)
def test_flags_that_do_not_go_together_are_wrong_usage(
    wrong: str, told: str, smollm2: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as caught:
        main(["plan", str(smollm2), *wrong.split()])
    assert caught.value.code == 2
    assert told in capsys.readouterr().err


def test_flags_of_several_devices_arrive() -> None:
    words = (
        "plan --worker a:1 --worker b:2 --split 3,1 --cpu-moe 4 --kv-type q8_0/f16 --retry-locally --gpu-layers auto"
    )
    found = options.engine_options(fill(build_parser().parse_args(words.split())))
    wanted = Options(kv_type="q8_0/f16", workers=("a:1", "b:2"), split=(3, 1), cpu_moe=4, retry_locally=True)
    assert found == wanted


@pytest.mark.parametrize(
    "wrong",
    ["--split 0,0", "--split 1,-1", "--split x", "--kv-type q9", "--kv-type f16/q9", "--cpu-moe -1", "--worker a"],
)
def test_wrong_flags_of_several_devices_are_wrong_usage(wrong: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main(["plan", *wrong.split()])
    assert caught.value.code == 2
    assert wrong.split()[0] in capsys.readouterr().err


@pytest.mark.parametrize(
    "words", ["m.gguf --ctx 9 Hi", "--ctx 9 m.gguf Hi", "m.gguf Hi --ctx 9", "m.gguf --ctx 9 -- Hi"]
)
def test_flags_may_stand_anywhere(words: str) -> None:
    args = fill(build_parser().parse_args(["run", *words.split()]))
    assert (args.model, args.prompt, args.ctx) == ("m.gguf", "Hi", 9)


def test_a_prompt_may_begin_like_a_flag() -> None:
    args = fill(build_parser().parse_args(["run", "m.gguf", "--ctx", "9", "--", "--seed"]))
    assert (args.model, args.prompt, args.seed) == ("m.gguf", "--seed", None)


def test_flags_arrive() -> None:
    words = "run Hi --ctx 512 --threads 1 --gpu-layers 3 --kv-type q8_0 --batch 64 --ubatch 128 --flash-attention on"
    args = fill(
        build_parser().parse_args([*words.split(), "--mlock", "--no-mmap", "--kv-ram", "0", "--kv-disk", "1GiB"])
    )
    wanted = Options(512, 1, 3, "q8_0", 64, 64, True, mmap=False, mlock=True, kv_ram=0, kv_disk=1 << 30)
    assert options.engine_options(args) == wanted
    assert options.engine_options(fill(build_parser().parse_args(["run", "--gpu-layers", "auto"]))).gpu_layers is None


def test_sampling_flags_arrive() -> None:
    words = """run Hi --temperature 0.5 --top-k 3 --top-p 0.9 --min-p 0.1 --typical 0.8 --top-nsigma -1 --mirostat 2
        --xtc-probability 0.5 --xtc-threshold 0.2 --dynatemp-range 0.3 --dynatemp-exp 2 --repeat-penalty 1.1
        --presence-penalty -0.5 --frequency-penalty 0.25 --repeat-last-n -1 --dry-multiplier 0.8 --dry-base 2
        --dry-allowed-length 3 --dry-penalty-last-n 100 --mirostat-ent 4 --mirostat-lr 0.2 --adaptive-target 0.6
        --adaptive-decay 0.5 --seed 7 --samplers top_k;temperature --dry-sequence-breaker none"""
    biases = ["--stop", "a b", "--stop", "\n", "--logit-bias", " Hello-inf", "--logit-bias", "15043+1.5"]
    args = fill(build_parser().parse_args([*words.split(), *biases]))
    assert sampling_flags.sampling(args) == Sampling(
        temperature=0.5,
        dynatemp_range=0.3,
        dynatemp_exponent=2,
        top_k=3,
        top_p=0.9,
        min_p=0.1,
        typical_p=0.8,
        top_n_sigma=-1,
        xtc_probability=0.5,
        xtc_threshold=0.2,
        repeat_last_n=-1,
        repeat_penalty=1.1,
        frequency_penalty=0.25,
        presence_penalty=-0.5,
        dry_multiplier=0.8,
        dry_base=2,
        dry_allowed_length=3,
        dry_penalty_last_n=100,
        dry_sequence_breakers=(),
        mirostat=2,
        mirostat_tau=4,
        mirostat_eta=0.2,
        adaptive_target=0.6,
        adaptive_decay=0.5,
        samplers=("top_k", "temperature"),
        logit_bias=((" Hello", float("-inf")), (15043, 1.5)),
        seed=7,
        stop=("a b", "\n"),
    )


@pytest.mark.parametrize("shell", ["bash", "zsh", "tcsh"])
def test_completion_scripts_are_valid(shell: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["completion", shell]) == 0
    script = capsys.readouterr().out
    assert "convert" in script
    assert "verify" in script
    if shutil.which(shell):
        subprocess.run([shell, "-n"], input=script, text=True, check=True)


def _completed(script: str, *words: str) -> list[str]:
    """What bash offers for the last of the words, which it splits at colons."""
    line = " ".join(f"'{word}'" for word in ("localllm", *words))
    calls = f'COMP_WORDS=({line}); COMP_CWORD={len(words)}; _localllm; printf "%s\\n" "${{COMPREPLY[@]}}"'
    own = f'localllm() {{ "{sys.executable}" -m localllm "$@"; }}'
    done = subprocess.run(["bash"], input=f"{script}\n{own}\n{calls}\n", capture_output=True, text=True, check=True)
    assert done.stderr == ""
    return done.stdout.splitlines()


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("bash") is None, reason="there is no bash")
def test_completion_knows_the_models(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    models = paths.home() / "models"
    models.mkdir()
    for name in ("my-model.gguf", "Qwen3-4B-Q8_0.gguf", "$(touch evil).gguf"):
        (models / name).write_bytes(b"GGUF")
    assert main(["completion", "bash"]) == 0
    script = capsys.readouterr().out
    for command in ("run", "chat", "plan", "tune", "verify", "show", "rm", "import"):
        assert _completed(script, command, "my-") == ["my-model"], command
    assert _completed(script, "show", "qwen3") == ["qwen3:4b:Q8_0"]
    assert _completed(script, "show", "qwen3", ":", "4b", ":") == ["Q8_0"]
    assert _completed(script, "rm", "qwen3", ":", "4b", ":", "Q8_0", "my-") == ["my-model"]
    assert _completed(script, "pull", "qwen3", ":", "3") == ["30b-a3b", "32b"]
    assert _completed(script, "show", "$(t") == ["$(touch evil)"]
    assert not Path("evil").exists()


def test_completion_offers_files_where_a_file_is_meant(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["completion", "bash"]) == 0
    script = capsys.readouterr().out
    assert "_shtab_localllm_convert_pos_0_COMPGEN=_shtab_compgen_files" in script
    assert "_shtab_localllm_verify___against_COMPGEN=_shtab_compgen_files" in script
    assert "_shtab_localllm_verify___threads_COMPGEN" not in script


def test_the_module_runs_like_the_command() -> None:
    done = subprocess.run([sys.executable, "-m", "localllm", "--version"], capture_output=True, text=True, check=True)
    assert done.stdout == f"localllm {__version__}\n"


# Presses Ctrl-C when the named module is looked for.
INTERRUPTED = """
import os, signal, sys
module = sys.argv[1]
class Finder:
    def find_spec(self, name, path, target=None):
        if name == module:
            os.kill(os.getpid(), signal.SIGINT)
sys.meta_path.insert(0, Finder())
from localllm.__main__ import main
sys.argv = ["localllm", "config", "path"]
sys.exit(main())
"""


def test_ctrl_c_while_the_commands_are_imported_is_no_error() -> None:
    command = [sys.executable, "-c", INTERRUPTED, "localllm.cli.catalog"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert (done.returncode, done.stdout, done.stderr) == (130, "", "interrupted\n")


@pytest.mark.parametrize(
    ("word", "nearest"), [("lst", "the nearest: list"), ("xyzzy", "there is no command 'xyzzy'; `loc")]
)
def test_a_command_that_is_none_is_told_the_nearest(
    word: str, nearest: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as caught:
        main([word])
    assert caught.value.code == 2
    err = capsys.readouterr().err
    assert nearest in err
    assert "completion" not in err
