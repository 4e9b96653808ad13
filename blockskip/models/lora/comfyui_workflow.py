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
from blockskip.models.lora.litegraph import Canvas, ModelFile, Output

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


def workflow(lora_file: str, prompt: str, row: ModelRow) -> dict | None:
    """Return a ComfyUI workflow with the LoRA, None if ComfyUI has no nodes for the family.

    row: of the trained model. ComfyUI cannot load the demo model, as the note says; its workflow
    is FLUX.1-dev's.
    """
    if row.family not in presets.workflow_table()["families"]:
        return None
    demo, row = row.demo, presets.model_row("flux-dev") if row.demo else row
    recipe, used = _recipe(row), row.sibling_row or row
    canvas = Canvas()
    canvas.column("", 460)
    note = canvas.add("MarkdownNote", title="Read me", height=430)
    model, clip, vae = _files(canvas, recipe)
    canvas.column("LoRA", 360)
    model = _loras(canvas, recipe, row, model, lora_file)
    if recipe.min_padding:
        clip = canvas.add("T5TokenizerOptions", "CLIP", [recipe.min_padding, 0], clip=clip).output(
            "CLIP"
        )
    canvas.column("Prompt", 420)
    positive, negative = _conditioning(canvas, recipe, used, clip, prompt)
    canvas.column("Sampling", 320)
    latent = _sampling(canvas, recipe, used, model, positive, negative)
    canvas.column("Picture", 440)
    picture = canvas.add("VAEDecode", "IMAGE", samples=latent, vae=vae).output("IMAGE")
    canvas.add("SaveImage", "", [Path(lora_file).stem], images=picture, height=420)
    note.widgets.append(_note(canvas, used, demo))
    return canvas.to_json()


def _recipe(row: ModelRow) -> Recipe:
    family = dict(presets.workflow_table()["families"][row.family])
    models = family.pop("models")
    return Recipe(**{**family, **models[row.name]})


def _file(key: str, folder: str) -> ModelFile:
    owner, name, path = presets.workflow_table()["files"][key].split("/", 2)
    return ModelFile(f"{owner}/{name}", path, folder)


def _files(canvas: Canvas, recipe: Recipe) -> tuple[Output, Output, Output]:
    """Add the nodes that load the model's files; return its transformer, encoders and VAE."""
    canvas.column("Files", 420)
    if recipe.vae:
        file = _file(recipe.transformer, "diffusion_models")
        model = canvas.add("UNETLoader", "MODEL", [file.name, "default"], files=[file])
    else:
        file = _file(recipe.transformer, "checkpoints")
        model = canvas.add("CheckpointLoaderSimple", "", [file.name], files=[file])
    encoders = [_file(key, "text_encoders") for key in recipe.encoders]
    types = [recipe.encoder_type] if recipe.encoder_type else []
    clip = canvas.add(
        _ENCODER_LOADERS[len(encoders)],
        "CLIP",
        [*(file.name for file in encoders), *types, "default"],
        files=encoders,
    )
    vae = model
    if recipe.vae:
        file = _file(recipe.vae, "vae")
        vae = canvas.add("VAELoader", "VAE", [file.name], files=[file])
    return model.output("MODEL"), clip.output("CLIP"), vae.output("VAE")


def _loras(canvas: Canvas, recipe: Recipe, row: ModelRow, model: Output, lora_file: str) -> Output:
    """Add the LoRA, the sibling's if it is a LoRA too, and the shift of the row's schedule."""
    loader, sibling = "LoraLoaderModelOnly", row.sibling
    model = canvas.add(
        loader, "MODEL", [lora_file, 1.0], title="The trained LoRA", model=model
    ).output("MODEL")
    if sibling is not None and sibling.lora:
        file = ModelFile(sibling.source, sibling.lora, "loras")
        model = canvas.add(
            loader, "MODEL", [file.name, 1.0], title=sibling.title, files=[file], model=model
        ).output("MODEL")
    if recipe.shift_node:
        tokens = (row.native_px // _TOKEN_PX) ** 2
        shift = sibling.shift if sibling is not None else row.shift_at(tokens)
        model = canvas.add(
            recipe.shift_node, "MODEL", [round(shift, 2)], model=model
        ).output("MODEL")
    return model


def _conditioning(
    canvas: Canvas, recipe: Recipe, used: ModelRow, clip: Output, prompt: str
) -> tuple[Output, Output]:
    """Add the prompts; return the positive and the negative one."""
    kind = recipe.prompt_node
    positive = canvas.add(kind, "CONDITIONING", [prompt], title="Prompt", height=120, clip=clip)
    if len(positive.outputs) > 1:  # it takes both
        positive.widgets += ["", used.native_px]
        first, second = positive.all_outputs("CONDITIONING")
        return first, second
    plain = positive.output("CONDITIONING")
    if _cfg(used) > 1:
        negative = canvas.add(
            kind, "CONDITIONING", [""], title="Negative prompt", height=60, clip=clip
        )
    else:
        negative = canvas.add("ConditioningZeroOut", "CONDITIONING", conditioning=plain)
    if used.guidance_embedding:
        plain = canvas.add(
            "FluxGuidance", "CONDITIONING", [used.preview_guidance], conditioning=plain
        ).output("CONDITIONING")
    return plain, negative.output("CONDITIONING")


def _sampling(
    canvas: Canvas,
    recipe: Recipe,
    used: ModelRow,
    model: Output,
    positive: Output,
    negative: Output,
) -> Output:
    """Add the empty latent and the sampler; return the sampled latent."""
    side, steps = used.native_px, used.preview_steps
    latent = canvas.add(recipe.latent, "LATENT", [side, side, 1]).output("LATENT")
    prompts = {"model": model, "positive": positive, "negative": negative}
    if not recipe.sigmas_node:
        widgets = [0, "fixed", steps, _cfg(used), "euler", recipe.scheduler, 1.0]
        sampler = canvas.add("KSampler", "LATENT", widgets, **prompts, latent_image=latent)
        return sampler.output("LATENT")
    noise = canvas.add("RandomNoise", "NOISE", [0, "fixed"])
    guider = canvas.add("CFGGuider", "GUIDER", [_cfg(used)], **prompts)
    euler = canvas.add("KSamplerSelect", "SAMPLER", ["euler"])
    sigmas = canvas.add(recipe.sigmas_node, "SIGMAS", [steps, side, side])
    sampler = canvas.add(
        "SamplerCustomAdvanced",
        noise=noise.output("NOISE"),
        guider=guider.output("GUIDER"),
        sampler=euler.output("SAMPLER"),
        sigmas=sigmas.output("SIGMAS"),
        latent_image=latent,
    )
    return sampler.output("LATENT")


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
        f"Size, {used.preview_steps} steps and guidance are as in the studio's pictures. If a node "
        "is unknown, update ComfyUI.",
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
