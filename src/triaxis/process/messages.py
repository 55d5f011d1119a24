"""What passes between ranks, as bytes: tensors, numbers, text, lists and mappings, and errors as their words. Nothing is unpickled."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING, Any

from triaxis import errors
from triaxis.errors import ConfigError, TrainingError, TriaxisError
from triaxis.process.interrupt import Stop

if TYPE_CHECKING:
    from torch import Tensor


def pack(message: Any) -> Tensor:
    """Return bytes that `unpack` reads; tensors come back on the CPU."""
    import torch

    buffer = io.BytesIO()
    torch.save(message, buffer)
    return torch.frombuffer(bytearray(buffer.getvalue()), dtype=torch.uint8)


def unpack(packed: Tensor) -> Any:
    """Return a message.

    Raises:
        ConfigError: It holds something else.
    """
    import torch

    try:
        return torch.load(io.BytesIO(packed.numpy().tobytes()), map_location="cpu", weights_only=True)
    except Exception as error:  # noqa: BLE001  (what is not allowed in a message makes torch raise several things)
        reason = str(error).partition("\n")[0]
        raise ConfigError(
            "What a task's observe returns must be tensors, numbers, text, lists and mappings where several ranks train together, "
            f"but it is something else: {reason}"
        ) from None


def error_told(plain: dict[str, Any]) -> BaseException:
    """Return the error that the leader ended with, to be raised on another rank."""
    return Stop() if plain["kind"] in ("Stop", "InterruptedRunError") else error_of(plain, "rank 0")


def plain_error(error: BaseException) -> dict[str, Any]:
    """Return the kind and the words of an error."""
    arguments = [part if isinstance(part, str | int | float | bool | None) else str(part) for part in error.args]
    return {"kind": type(error).__name__, "arguments": arguments, "text": " ".join(str(error).split())}


def error_of(plain: dict[str, Any], who: str) -> Exception:
    """Return the error that `who` has told of."""
    kind = getattr(errors, plain["kind"], None)
    if isinstance(kind, type) and issubclass(kind, TriaxisError):
        first, *more = plain["arguments"] or [plain["text"]]
        return kind(first if who == "rank 0" else f"{first} ({who} says so.)", *more)
    return TrainingError(f"A step that all ranks take together must succeed on each, but {who} got {plain['kind']}: {plain['text']}")
