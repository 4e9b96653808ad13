"""A ComfyUI workflow for an exported LoRA: open it (or drop it on the canvas) and press Run.

It uses stock nodes only, on the model that LoRAs of the trained one are used on (its sibling), with
the steps, the guidance and the shift of sample pictures. presets/workflows.toml says what differs
between families.
"""

from __future__ import annotations

from pathlib import Path

from pydantic.dataclasses import dataclass

from blockskip.core import presets
from blockskip.core.presets import STRICT, ModelRow
from blockskip.models.lora.litegraph import Canvas, ModelFile, Node, Output, Widget

Source = Node | Output
_TOKEN_PX = 16  # side of an image token in all families here
_ENCODER_LOADERS = {1: "CLIPLoader", 2: "DualCLIPLoader", 3: "TripleCLIPLoader"}


@dataclass(frozen=True, kw_only=True, config=STRICT)
class Recipe:
    """What presets/workflows.toml says of a model, as documented there."""

    transformer: str
    encoders: tuple[str, ...]
    encoder_type: str = ""
    vae: str = ""
    latent: str = "EmptySD3LatentImage"
    prompt_node: str = "CLIPTextEncode"
    min_padding: int = 0
    shift_node: str = ""
    scheduler: str = "simple"
    sigmas_node: str = ""


def has_workflow(row: ModelRow) -> bool:
    """Return whether presets/workflows.toml knows how ComfyUI runs the model."""
    family = presets.workflow_table()["families"].get(row.family, {})
    return row.name in family.get("models", {})


def workflow(lora_file: str, prompt: str, row: ModelRow) -> dict | None:
    """Return a ComfyUI workflow with the LoRA, None for a model that presets/workflows.toml lacks.

    row: of the trained model. ComfyUI cannot load the demo model, as the note says; its workflow
    is FLUX.1-dev's.
    """
    demo = row.demo
    if demo and row.family in presets.workflow_table()["families"]:
        row = presets.model_row("flux-dev")
    if not has_workflow(row):
        return None
    recipe, used = _recipe(row), row.sibling_row or row
    canvas = Canvas()
    canvas.column("", 460)
    note = canvas.add("MarkdownNote", title="Read me", height=480)
    canvas.column("Files", 420)
    model, clip, vae = _loaders(canvas, recipe)
    canvas.column("LoRA", 360)
    model = _adapted(canvas, recipe, row, model, lora_file)
    if recipe.min_padding:
        clip = canvas.add("T5TokenizerOptions", "CLIP", [recipe.min_padding, 0], {"clip": clip})
    canvas.column("Prompt", 420)
    positive, negative = _prompts(canvas, recipe, used, clip, prompt)
    canvas.column("Sampling", 320)
    prompts = {"model": model, "positive": positive, "negative": negative}
    if recipe.sigmas_node:
        sampler = _custom_sampler(canvas, recipe, used, prompts)
    else:
        sampler = _sampler(canvas, recipe, used, prompts)
    picture = canvas.add("VAEDecode", "IMAGE", [], {"samples": sampler, "vae": vae})
    canvas.add("SaveImage", "", [Path(lora_file).stem], {"images": picture}, height=420)
    note.widgets.append(_note(canvas, used, demo))
    return canvas.to_json()


def _recipe(row: ModelRow) -> Recipe:
    family = dict(presets.workflow_table()["families"][row.family])
    models = family.pop("models")
    return Recipe(**{**family, **models[row.name]})


def _file(key: str, folder: str) -> ModelFile:
    owner, name, path = presets.workflow_table()["files"][key].split("/", 2)
    return ModelFile(f"{owner}/{name}", path, folder)


def _loaders(canvas: Canvas, recipe: Recipe) -> tuple[Source, Source, Source]:
    """Add the nodes that load files; return the transformer, the text encoders and the VAE."""
    encoders = [_file(key, "text_encoders") for key in recipe.encoders]
    kind = _ENCODER_LOADERS[len(encoders)]
    types = [recipe.encoder_type] if recipe.encoder_type else []
    widgets = [*(file.name for file in encoders), *types, "default"]
    if not recipe.vae:
        file = _file(recipe.transformer, "checkpoints")
        model = canvas.add("CheckpointLoaderSimple", "", [file.name], files=[file])
        return model, canvas.add(kind, "CLIP", widgets, files=encoders), model.output("VAE")
    file = _file(recipe.transformer, "diffusion_models")
    model = canvas.add("UNETLoader", "MODEL", [file.name, "default"], files=[file])
    clip = canvas.add(kind, "CLIP", widgets, files=encoders)
    file = _file(recipe.vae, "vae")
    return model, clip, canvas.add("VAELoader", "VAE", [file.name], files=[file])


def _adapted(
    canvas: Canvas, recipe: Recipe, row: ModelRow, model: Source, lora_file: str
) -> Source:
    """Add the LoRA, the sibling's if it is a LoRA too, and the shift of the row's schedule."""
    loader, sibling = "LoraLoaderModelOnly", row.sibling
    model = canvas.add(
        loader, "MODEL", [lora_file, 1.0], {"model": model}, title="The trained LoRA"
    )
    if sibling is not None and sibling.lora:
        file = ModelFile(sibling.source, sibling.lora, "loras")
        widgets: list[Widget] = [file.name, 1.0]
        title = sibling.title
        model = canvas.add(loader, "MODEL", widgets, {"model": model}, title=title, files=[file])
    if recipe.shift_node:
        tokens = (row.native_px // _TOKEN_PX) ** 2
        shift = sibling.shift if sibling is not None else row.shift_at(tokens)
        model = canvas.add(recipe.shift_node, "MODEL", [round(shift, 2)], {"model": model})
    return model


def _prompts(
    canvas: Canvas, recipe: Recipe, used: ModelRow, clip: Source, prompt: str
) -> tuple[Source, Source]:
    """Add the prompts; return the positive and the negative one."""
    kind, type = recipe.prompt_node, "CONDITIONING"
    positive: Node = canvas.add(kind, type, [prompt], {"clip": clip}, title="Prompt", height=120)
    if len(positive.outputs) > 1:  # it encodes both
        positive.widgets += ["", used.native_px]
        return positive.output("positive"), positive.output("negative")
    if _cfg(used) > 1:
        negative = canvas.add(kind, type, [""], {"clip": clip}, title="Negative prompt", height=60)
    else:
        negative = canvas.add("ConditioningZeroOut", type, [], {"conditioning": positive})
    if used.guidance_embedding:
        strength = [used.preview_guidance]
        positive = canvas.add("FluxGuidance", type, strength, {"conditioning": positive})
    return positive, negative


def _sampler(canvas: Canvas, recipe: Recipe, used: ModelRow, prompts: dict[str, Source]) -> Source:
    """Add the empty latent and the sampler, and begin the column of the picture."""
    latent = canvas.add(recipe.latent, "LATENT", [used.native_px, used.native_px, 1])
    steps, cfg = used.preview_steps, _cfg(used)
    widgets: list[Widget] = [0, "fixed", steps, cfg, "euler", recipe.scheduler, 1.0]
    sampler = canvas.add("KSampler", "LATENT", widgets, {**prompts, "latent_image": latent})
    canvas.column("Picture", 440)
    return sampler


def _custom_sampler(
    canvas: Canvas, recipe: Recipe, used: ModelRow, prompts: dict[str, Source]
) -> Source:
    """Add a sampler with the steps of `sigmas_node`; otherwise as `_sampler`."""
    side = used.native_px
    noise = canvas.add("RandomNoise", "NOISE", [0, "fixed"])
    guider = canvas.add("CFGGuider", "GUIDER", [_cfg(used)], prompts)
    euler = canvas.add("KSamplerSelect", "SAMPLER", ["euler"])
    sigmas = canvas.add(recipe.sigmas_node, "SIGMAS", [used.preview_steps, side, side])
    latent = canvas.add(recipe.latent, "LATENT", [side, side, 1])
    canvas.column("Picture", 440)
    links = {"noise": noise, "guider": guider, "sampler": euler, "sigmas": sigmas}
    return canvas.add("SamplerCustomAdvanced", "", [], {**links, "latent_image": latent})


def _cfg(used: ModelRow) -> float:
    """Return the scale of classifier-free guidance, 1 for none."""
    return 1.0 if used.guidance_embedding else used.preview_guidance


def _note(canvas: Canvas, used: ModelRow, demo: bool) -> str:
    """Return the text that explains the workflow, in Markdown."""
    files = [file for column in canvas.columns for node in column.nodes for file in node.files]
    lines = [f"- `models/{f.folder}`: {f.name}, from [{f.repository}]({f.page})" for f in files]
    parts = [
        f"## {used.title}",
        "1. Put the LoRA into ComfyUI's `models/loras` folder and press R.\n"
        "2. Choose your own files in the nodes under **Files** if they are called otherwise, or "
        "have another precision.\n"
        "3. Press Run.",
        "**Files that it needs**\n\n" + "\n".join(lines),
        f"The {used.preview_steps} steps and the guidance are those of the studio's pictures. If "
        "ComfyUI does not know a node, update it.",
    ]
    if used.gated:
        parts.insert(-1, f"Accept the [{used.licence}]({used.licence_url}) before you download.")
    if demo:
        parts.insert(
            0,
            "**This LoRA belongs to the studio's small demo model, which ComfyUI cannot load: it "
            "only shows what a workflow looks like.**",
        )
    return "\n\n".join(parts)
