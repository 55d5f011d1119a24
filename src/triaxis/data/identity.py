"""What images a run was made with, in a form that can be stored and compared: no picture is decoded, and test stays sealed."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from torch import Tensor

from triaxis.data.images import Images, Splits

SHOWN_NAMES = 10


def identity_of(splits: Splits) -> dict[str, Any]:
    """Return plain data that change when classes, labels, files or pixels do.

    Of files, names and bytes count, of images in memory the pixels. Of the test split only what is known while it is sealed.
    """
    found: dict[str, Any] = {"num_classes": splits.train.num_classes, "class_names": list(splits.class_names)}
    for name, images in (("train", splits.train), ("val", splits.val)):
        known = {} if images.labels is None else {"labels": _digest_of_labels(images.labels)}
        found[name] = {"images": len(images), **known, **_content(splits, name, images)}
    labels = splits.test.labels
    if labels is not None:
        found["test"] = {"images": len(labels), "labels": _digest_of_labels(labels), **_content(splits, "test", None)}
    return found


def differences(before: dict[str, Any], now: dict[str, Any]) -> list[str]:
    """Return in words what differs between two identities, as far as both know it: classes, numbers, files, labels, pixels."""
    said = _class_differences(before, now)
    for split in ("train", "val", "test"):
        old, new = before.get(split, {}), now.get(split, {})
        if old.get("images", 0) != new.get("images", 0) and old and new:
            said.append(f"the {split} split had {old['images']} images and has {new['images']}")
            continue
        # Other files have other labels at the same place, and labels are part of an image's digest: the first that differs says it.
        for key in ("files", "labels", "pixels"):
            if key in old and key in new and old[key] != new[key]:
                said.append(f"the {split} split has other {key}")
                break
    return said


def digest_of_files(paths: Sequence[Path], root: Path, digests: Mapping[Path, str]) -> str:
    """Return 16 hexadecimal characters over the files' names below `root`, in any order, and the digests of their bytes."""
    lines = sorted(f"{path.relative_to(root).as_posix()}\0{digests[path]}" for path in paths)
    return hashlib.sha256("\n".join(lines).encode(errors="surrogateescape")).hexdigest()[:16]


def _content(splits: Splits, name: str, images: Images | None) -> dict[str, str]:
    # What is decoded and what is streamed may change from one opening to the next; the files are the same.
    if name in splits.files:
        return {"files": splits.files[name]}
    return {} if images is None else {"pixels": images.fingerprint()}


def _digest_of_labels(labels: Tensor) -> str:
    # Whole numbers of classes may come in any type; labels of more dimensions have one type, and masks are many.
    plain = labels.cpu() if labels.ndim > 1 else labels.cpu().long()
    return hashlib.sha256(plain.contiguous().numpy().tobytes()).hexdigest()[:16]


def _class_differences(before: dict[str, Any], now: dict[str, Any]) -> list[str]:
    old, new = before.get("class_names", []), now.get("class_names", [])
    gone, come = [n for n in old if n not in new], [n for n in new if n not in old]
    said = [f"{verb} {', '.join(names[:SHOWN_NAMES])}" for verb, names in (("without", gone), ("with", come)) if names]
    if said:
        return [f"the classes are {' and '.join(said)} now"]
    if old != new:
        return ["the classes are in another order now"]
    if before.get("num_classes") != now.get("num_classes"):
        return [f"there were {before.get('num_classes')} classes and are {now.get('num_classes')}"]
    return []
