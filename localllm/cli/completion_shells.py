"""What the completion scripts add to what is made from the parser: names of models, asked for when they are wanted."""

from __future__ import annotations

from collections.abc import Iterable

MODELS = {"bash": "_localllm_models", "zsh": "_localllm_models", "tcsh": "f"}
"""What completes the name of a model on this machine, or a file."""

CATALOGUE = {"bash": "_localllm_catalogue", "zsh": "_localllm_catalogue", "tcsh": "x:name of a model"}
"""What completes a name of the catalogue."""

_BASH = """
# A name is compared and never expanded: the name of a file may be anything.
_localllm_beginning() {
  local name
  while IFS= read -r name; do [[ $name == "$1"* ]] && printf '%s\\n' "$name"; done
}
_localllm_models() {
  localllm list --names 2>/dev/null | _localllm_beginning "$1"
  compgen -f -- "$1"
}
_localllm_catalogue() {
  printf '%s\\n' NAMES | _localllm_beginning "$1"
}
"""

BASH_END = """
# Bash takes `qwen3:0.6b` for three words. They are put together before the rest looks at them.
_localllm() {
  local -a words=()
  local index last=-1 current=0 glue=0 piece
  for ((index = 0; index < ${#COMP_WORDS[@]}; index++)); do
    piece=${COMP_WORDS[index]}
    if [[ $glue == 1 || $piece == : ]] && ((last >= 0)); then words[last]+=$piece; else words[++last]=$piece; fi
    [[ $piece == : ]] && glue=1 || glue=0
    ((index == COMP_CWORD)) && current=$last
  done
  local -a COMP_WORDS=("${words[@]}")
  local COMP_CWORD=$current
  local word=${words[current]}
  _shtab_localllm
  local before=${word%"${word##*:}"}
  ((${#before} > 0)) && COMPREPLY=("${COMPREPLY[@]#"$before"}")
  return 0
}
complete -o bashdefault -F _localllm localllm
"""

_ZSH = """
_localllm_models() {
  local -a names
  names=("${(@f)$(localllm list --names 2>/dev/null)}")
  compadd -a names
  _files
}
_localllm_catalogue() {
  compadd -- NAMES
}
"""


def preamble(names: Iterable[str]) -> dict[str, str]:
    """The functions that the scripts need, by shell. `names` are those of the catalogue."""
    said = " ".join(names)
    return {"bash": _BASH.replace("NAMES", said), "zsh": _ZSH.replace("NAMES", said), "tcsh": ""}
