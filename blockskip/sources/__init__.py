"""Where a model's weights come from: a folder in diffusers' layout (the demo model is one), a
ComfyUI folder, single files, or the hub.

What was chosen is remembered in `models.json` in the data folder. Caches and runs are keyed by what
the weights are (`Source.fingerprint`), never by a name.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from blockskip import config, files, runs
from blockskip.config import ModelRow
from blockskip.events import UserError, command
from blockskip.sources import hub
from blockskip.sources.model import Source, layouts
from blockskip.sources.weights import Entry, bits

__all__ = ["Source", "check", "fetch", "find_model", "state", "use", "use_comfyui"]


def find_model(row: ModelRow) -> Source:
    """The model, where it was chosen, shipped or downloaded. Raises UserError when it is not on
    this machine."""
    if (chosen := _remembered().get(row.name)) is not None:
        return _restored(row, chosen)
    folder = config.ROOT / row.source  # an absolute source stays what it is
    if (folder / "model_index.json").exists():
        return Source(row, folder)
    if row.name == "demo":
        raise UserError(
            f"The demo model is missing ({row.source}).",
            "Download BlockSkip Studio again, or make the model anew: "
            + command("lab pretrain-demo"),
        )
    if (folder := hub.downloaded(row)) is not None:
        return Source(row, folder)
    raise UserError(
        f"{row.title} is not on this machine.",
        f"If ComfyUI has it: {command('models use-comfyui')} FOLDER. Else download it, after "
        f"accepting its licence at {hub.page(row)}: {command('models fetch')} {row.name}",
    )


def fetch(row: ModelRow) -> Source:
    """Download a model, or what is still missing of it. Raises UserError, also when what came is
    another model."""
    if (config.ROOT / row.source).exists():
        return Source(row, config.ROOT / row.source)
    source = Source(row, hub.fetch(row, lambda folder: check(Source(row, folder))))
    _remember(row, None)  # what was just asked for wins over what was chosen before
    return source


def use(row: ModelRow, paths: Sequence[Path]) -> Source:
    """Take a model from a folder in diffusers' layout, a ComfyUI folder or single files, from now
    on. Raises UserError when a part is missing."""
    from blockskip.sources.comfyui import gather

    paths = [Path(path).expanduser().resolve() for path in paths]
    if len(paths) == 1 and (paths[0] / "model_index.json").exists():
        source = Source(row, paths[0])
    else:
        source = gather(row, paths)
    check(source)
    _remember(row, source)
    return source


def use_comfyui(*folders: Path) -> list[Source]:
    """Take every model that these ComfyUI folders hold whole from there, from now on: one folder,
    or that of the models and that of the program, where they are apart.

    Raises UserError, about the first real model, when they hold none.
    """
    found, problems = [], {}
    for row in config.model_rows().values():
        try:
            found.append(use(row, folders))
        except UserError as error:
            problems[row.name] = error
    if not found:  # nobody looks for the demo model there
        raise next(error for name, error in problems.items() if name != "demo")
    return found


def state(row: ModelRow) -> dict:
    """For lists of models: model, title, licence, ready, where; problem when it is not ready."""
    said = {"model": row.name, "title": row.title, "licence": row.licence}
    try:
        return {**said, "ready": True, "where": find_model(row).where, "problem": ""}
    except UserError as error:
        return {**said, "ready": False, "where": "", "problem": f"{error.title} {error.remedy}"}


def check(source: Source) -> dict[str, dict]:
    """Read every file's header and find every weight: part → {files, gib, precision, bits, note}.

    bits: of a weight on average, scales and all. note: what its user should know of a packed GGUF,
    else "". Raises UserError when a file is missing, cut short or of another model.
    """
    said = {}
    for part in layouts(source.row.family).PARTS:
        weights = source.weights(part).values()
        stored = {weight.entry for weight in weights}
        said[part] = {
            "files": sorted({str(tensor.path) for tensor in stored}),
            "gib": round(sum(tensor.nbytes for tensor in stored) / 2**30, 3),
            "precision": "+".join(sorted({tensor.dtype.lower() for tensor in stored})),
            "bits": round(bits(stored), 2),
            "note": _note(stored),
        }
    return said


def _note(stored: set[Entry]) -> str:
    packed = next((tensor.path.name for tensor in stored if tensor.rounded), "")
    if not packed:
        return ""
    return (
        f"{packed} is a GGUF of {bits(stored):.1f} bits a weight: what is learnt on it starts from "
        "these rounded weights and is as good as they are. The processor unpacks them each time "
        "they pass: training, once a window; previews, once a step, unless NF4, int8 or RAM keeps "
        "them."
    )


def _places() -> Path:
    return runs.data_dir() / "models.json"


def _remembered() -> dict:
    if not _places().exists():
        return {}
    try:
        known = files.read_json(_places())
        if not all(map(_well_formed, known.values())):
            raise ValueError(known)
    except (OSError, ValueError, AttributeError) as error:
        raise UserError(
            f"{_places()} cannot be read.", "Delete it and choose your models again."
        ) from error
    return known


def _well_formed(chosen: object) -> bool:
    """Whether it is what `_remember` writes of a model."""
    if not isinstance(chosen, dict) or not isinstance(chosen.get("folder"), str):
        return False
    tables = chosen.get("files"), chosen.get("tokenizers")
    return all(isinstance(t, dict) and all(isinstance(p, str) for p in t.values()) for t in tables)


def _remember(row: ModelRow, source: Source | None) -> None:
    """None forgets."""
    known = {name: place for name, place in _remembered().items() if name != row.name}
    if source is not None:
        known[row.name] = {
            "folder": str(source.folder) if source.whole else "",
            "files": {part: str(path) for part, path in source.files.items()},
            "tokenizers": {name: str(path) for name, path in source.tokenizers.items()},
        }
    files.write_json(_places(), known)


def _restored(row: ModelRow, chosen: dict) -> Source:
    """Configurations are those of this version of the program, even if it was moved."""
    from blockskip.sources.model import configs_folder

    own = {part: Path(path) for part, path in chosen["files"].items()}
    texts = {name: Path(path) for name, path in chosen["tokenizers"].items()}
    folder = Path(chosen["folder"]) if chosen["folder"] else configs_folder(row)
    for path in (*own.values(), *texts.values(), folder):
        if not path.exists():
            raise UserError(
                f"{row.title} is no longer where it was: {path} is missing.",
                "Put it back or attach its drive, or choose again: "
                f"{command('models use-comfyui')} FOLDER, or {command('models use')} {row.name} …",
            )
    return Source(row, folder, own, texts)
