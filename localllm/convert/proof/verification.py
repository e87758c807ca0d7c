"""What was proven of a conversion, and as a document for programs. Knows no file and computes nothing."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from localllm.convert.proof.chats import TemplateProof
from localllm.convert.proof.roundtrip import TensorLoss, by_role, total
from localllm.convert.verify import TokenizerProof


@dataclass(frozen=True)
class Verification:
    """The proof. `count` tensors are in the file as planned.

    `losses` is empty and `template` None when nobody looked; `tokenizer` and `template` are None when there is nothing
    to compare with as well. `bytes_read` of the finished file were compared with what was in memory.
    """

    count: int
    tokenizer: TokenizerProof | None = None
    losses: Sequence[TensorLoss] = ()
    bytes_read: int = 0
    template: TemplateProof | None = None

    @property
    def rmse(self) -> float:
        """What the weights lost, all together, judged by those that were looked at."""
        return total(loss.whole for loss in self.losses).rmse

    @property
    def looked_at(self) -> float:
        """The part of the weights that was looked at, from 0 to 1."""
        count = sum(loss.count for loss in self.losses)
        return sum(loss.looked_at for loss in self.losses) / count if count else 0.0

    def document(self) -> dict[str, Any]:
        """All of it as JSON has it. Errors are root mean squares in units of that of the weights."""
        return {
            "tokenizer": tokenizer_document(self.tokenizer),
            "tensors": {"count": self.count, "bytes_read": self.bytes_read, **tensors_document(self.losses)},
            "template": template_document(self.template),
        }


def tokenizer_document(proof: TokenizerProof | None) -> dict[str, Any] | None:
    """On how many texts ids were compared and on how many they differ; the first that nothing excuses."""
    if proof is None:
        return None
    return {
        "texts": proof.texts,
        "different": proof.different,
        "equal": proof.different == 0,
        "mismatch": str(proof.mismatch) if proof.mismatch else None,
        "notes": list(proof.notes),
    }


def template_document(proof: TemplateProof | None) -> dict[str, Any] | None:
    """How many conversations are equal, and what differs."""
    if proof is None:
        return None
    return {
        "conversations": proof.conversations,
        "refused": proof.refused,
        "equal": proof.equal,
        "differences": list(proof.differences),
        "notes": list(proof.notes),
    }


def tensors_document(losses: Sequence[TensorLoss]) -> dict[str, Any]:
    """What was lost, by role and by tensor."""
    if not losses:
        return {}
    return {
        "weights": sum(loss.count for loss in losses),
        "looked_at": sum(loss.looked_at for loss in losses),
        "rmse": rounded(total(loss.whole for loss in losses).rmse),
        "roles": {
            role.role: {
                "tensors": role.tensors,
                "types": dict(role.types),
                "weights": role.count,
                "looked_at": role.looked_at,
                "rmse": rounded(role.rmse),
                "worst_tensor": {"name": role.worst_tensor, "rmse": rounded(role.worst_tensor_rmse)},
                "worst_block": rounded(role.worst_block),
            }
            for role in by_role(losses)
        },
    }


def each_tensor(losses: Sequence[TensorLoss]) -> dict[str, dict[str, Any]]:
    """What every single tensor lost."""
    return {
        loss.name: {
            "type": loss.type,
            "weights": loss.count,
            "looked_at": loss.looked_at,
            "copied": loss.copied,
            "rmse": rounded(loss.loss.rmse),
            "worst_block": rounded(loss.loss.worst_block),
        }
        for loss in losses
    }


def rounded(value: float) -> float | None:
    """Four digits; None for what JSON has no number for."""
    return float(f"{value:.4g}") if math.isfinite(value) else None
