"""Read a configuration, and say in sentences what is wrong with it."""

from __future__ import annotations

import difflib
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from triaxis.config.keys import walk_keys
from triaxis.config.tasks import SegmentationConfig
from triaxis.config.tree import FINETUNE_RECIPE, CollectConfig, Config, DataConfig
from triaxis.errors import ConfigError


class _UniqueKeyLoader(yaml.SafeLoader):
    """YAML as PyYAML reads it safely, except that a key given twice is an error instead of silently the last one."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        keys = [self.construct_object(key, deep=True) for key, _ in node.value if key.tag != "tag:yaml.org,2002:merge"]
        if repeated := [key for key in keys if keys.count(key) > 1]:
            raise yaml.MarkedYAMLError(None, None, f"the key {repeated[0]!r} is given twice", node.start_mark)
        return super().construct_mapping(node, deep)


def load_config(path: str | Path) -> Config:
    """Read a configuration file.

    Raises:
        ConfigError: The file is missing, is no YAML mapping, or has unknown or wrong settings; all are named.
    """
    try:
        text = Path(path).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or error
        raise ConfigError(f"The configuration must be a readable YAML file, got {path}: {reason}.") from None
    try:
        data = yaml.load(text, _UniqueKeyLoader)
    except yaml.YAMLError as error:
        raise ConfigError(f"{path} must be YAML; {' '.join(str(error).split())}.") from None
    return config_from_plain({} if data is None else data, source=str(path))


def config_from_plain(data: Any, source: str = "The configuration") -> Config:
    """Return the configuration that plain data describe; missing keys take their defaults.

    Raises:
        ConfigError: A key is unknown, or a value has the wrong type or range; all are named, with `source`.
    """
    if not isinstance(data, dict):
        raise ConfigError(f"{source} must hold a mapping of settings such as 'seed: 0', got {type(data).__name__}.")
    try:
        return Config.model_validate(data)
    except ValidationError as error:
        mistakes = [_sentence(dict(found)) for found in error.errors()]
    head = f"{source} has {len(mistakes)} wrong settings:\n  " if len(mistakes) > 1 else f"{source}: "
    raise ConfigError(head + "\n  ".join(mistakes))


def _sentence(found: dict[str, Any]) -> str:
    """Turn one pydantic error into: the key path, what must hold, what was got."""
    path = ".".join(str(part) for part in found["loc"])
    if found["type"] in ("extra_forbidden", "unexpected_keyword_argument"):
        return _unknown_key(tuple(str(part) for part in found["loc"]))
    if found["type"] == "value_error":
        return f"{path}: {found['ctx']['error']}"
    must = found["msg"].replace("Input should be", "must be").replace("Input should have", "must have")
    if found["type"] == "string_pattern_mismatch":
        return f"{path} must be {_description(path)}, got {found['input']!r}."
    return f"{path} {must[0].lower() + must[1:]}, got {found['input']!r}."


def _unknown_key(location: tuple[str, ...]) -> str:
    path, parent = ".".join(location), ".".join(location[:-1])
    known = dict(walk_keys())
    siblings = [key.rpartition(".")[2] for key in known if key.rpartition(".")[0] == parent]
    near = difflib.get_close_matches(location[-1], siblings, n=1, cutoff=0.6)
    elsewhere = [key for key in known if key.rpartition(".")[2] == location[-1]]
    below = [key for key in elsewhere if key.startswith(f"{parent}.")]
    nearest = [f"{parent}.{near[0]}".lstrip(".")] if near else below or elsewhere or difflib.get_close_matches(path, known, n=1)
    hint = f"did you mean {' or '.join(nearest)}?" if nearest else f"the keys here are {', '.join(siblings)}."
    return f"{path} is not a setting; {hint}"


def _description(path: str) -> str:
    return dict(walk_keys()).get(path, "of the right form")


def idle_settings(config: Config) -> list[str]:
    """Return one sentence for each setting that was changed but has no effect, so that nobody waits for one."""
    own = DataConfig(source=config.data.source, mean=config.data.mean, std=config.data.std)
    known_here = config.data.source.startswith(("digit", "imagefolder", "masks", "coco"))
    side_px = config.model.side_px
    collect, plain = config.collect, CollectConfig()
    is_elastic = collect.method == "elastic"
    cases = (
        (config.effort and config.finetune.epochs != FINETUNE_RECIPE.epochs, "finetune.epochs has no effect: effort is set"),
        (not is_elastic and collect.effort != plain.effort, "collect.effort has no effect: collect.method is chains"),
        (not is_elastic and collect.num_cuts != plain.num_cuts, "collect.num_cuts has no effect: collect.method is chains"),
        (not is_elastic and collect.shared != plain.shared, "collect.shared has no effect: collect.method is chains"),
        (is_elastic and collect.recipe != plain.recipe, "collect.recipe has no effect: collect.method is elastic"),
        (is_elastic and collect.num_trials != plain.num_trials, "collect.num_trials has no effect: collect.method is elastic"),
        (is_elastic and collect.off_axis, "collect.off_axis has no effect: collect.method is elastic"),
        (side_px and config.data.side_px not in (None, side_px), "model.side_px has no effect: data.side_px is set"),
        (collect.executor == "serial" and (collect.workers or 1) > 1, "collect.workers has no effect: collect.executor is serial"),
        (collect.executor == "serial" and collect.cluster != plain.cluster, "collect.cluster has no effect: collect.executor is serial"),
        (is_elastic and collect.executor != "serial", "collect.executor has no effect: collect.method is elastic, which is one training"),
        (config.data.download and known_here, "data.download has no effect on this data.source"),
        (config.data.has_function and config.data != own, "data has no effect but for source, mean and std: the function makes the splits"),
        (
            config.task != "segmentation" and config.segmentation != SegmentationConfig(),
            f"segmentation has no effect: task is {config.task}",
        ),
        (config.data.workers > 0 and config.data.memory == "resident", "data.workers has no effect: data.memory is resident"),
    )
    return [sentence + "." for holds, sentence in cases if holds]
