"""Larger patches: coarse passes see the middles of cells, and adapters do nothing to a model that they are
not asked to."""

from __future__ import annotations

import pytest
import torch
from diffusers import FluxPipeline
from diffusers.models.transformers.transformer_flux import FluxPosEmbed
from helpers.family_cases import CASES
from helpers.patch_adapters import MERGING_FAMILIES, adapters, model_inputs
from helpers.tiny import randomise
from peft.tuners.tuners_utils import BaseTunerLayer
from torch.nn.functional import interpolate, pixel_shuffle, pixel_unshuffle

from blockskip.core.errors import UserError
from blockskip.memory import layerwise
from blockskip.models.families.patches import mean_positions, merge, split
from blockskip.sampling import dynamic_patches, patch_adapters
from blockskip.training.lora import add_lora
from blockskip.training.residuals import Span


def test_merged_tokens_come_apart_as_they_were():
    for latents in (torch.randn(2, 144, 5), torch.randn(2, 5, 12, 8)):
        for factor in (2, 4):
            assert torch.equal(split(merge(latents, factor), factor), latents)
    places = torch.cartesian_prod(torch.arange(8.0), torch.arange(8.0))
    found = mean_positions(places, 4)
    assert torch.equal(found, torch.cartesian_prod(*[torch.tensor([1.5, 5.5])] * 2))
    assert torch.equal(mean_positions(places.expand(3, -1, -1), 4), found.expand(3, -1, -1))


def test_rotary_phases_of_a_coarse_pass_are_those_of_the_middles_of_its_cells():
    """As numbers on the circle: what the phases of a cell's tokens multiply to is the coarse one's
    power."""
    phases = FluxPosEmbed(theta=10_000, axes_dim=[4, 8, 8])
    places = FluxPipeline._prepare_latent_image_ids(1, 8, 8, "cpu", torch.float32)
    fine, *larger = (
        torch.complex(*phases(where))
        for where in (places, mean_positions(places, 2), mean_positions(places, 4))
    )
    for factor, found in zip((2, 4), larger, strict=True):
        assert len(found) == 64 // factor**2
        whole = fine.unflatten(0, (8 // factor, factor, 8 // factor, factor)).prod(3).prod(1)
        torch.testing.assert_close(found**factor**2, whole.flatten(0, 1), atol=1e-4, rtol=1e-4)


@pytest.fixture(params=MERGING_FAMILIES)
def case(request):
    return CASES[request.param]


@torch.no_grad()
def passed(model, dynamic, inputs, factor):
    """Velocity of a pass of that size, alone."""
    if factor > 1:
        return dynamic.coarse_velocity(model.forward, inputs, 0.7, factor)
    with dynamic.installed():
        return dynamic.family.velocity(model(**inputs))


def test_a_fine_step_is_the_models_own_to_the_bit(case):
    model, inputs = case.model(), model_inputs(case)
    with torch.no_grad():
        alone = case.family.velocity(model(**inputs))
    dynamic = dynamic_patches.PatchScheduler(
        model, case.family, adapters(model, case.family, True), dynamic_patches.PatchSchedule({})
    )
    for factor in (2, 4):
        larger = passed(model, dynamic, inputs, factor)
        assert larger.shape == alone.shape and not torch.equal(larger, alone)
        assert torch.equal(passed(model, dynamic, inputs, 1), alone)  # nothing is left behind
    with torch.no_grad():
        assert torch.equal(case.family.velocity(model(**inputs)), alone)


def test_larger_patches_pass_the_same_some_rows_at_a_time(case):
    """As where previews wait in RAM beside a small card: the embedder, which may lie inside another
    module, works apart."""
    model, inputs = case.model(), model_inputs(case)
    schedule = dynamic_patches.PatchSchedule({})
    dynamic = dynamic_patches.PatchScheduler(
        model, case.family, adapters(model, case.family, True), schedule
    )
    for factor in (2, 4):
        whole = passed(model, dynamic, inputs, factor)
        with layerwise.in_host_memory(model, 1, torch.device("cpu")):
            apart = passed(model, dynamic, inputs, factor)
        torch.testing.assert_close(apart, whole, rtol=1e-4, atol=1e-4)


def test_a_new_adapter_sees_a_smooth_picture_as_the_model_sees_the_small_one(case):
    """The embedding of a patch that is interpolated is the patch's own; what the head makes of a
    token is the model's patch, interpolated."""
    model, family = case.model(), case.family
    embed, head = (model.get_submodule(name) for name in family.patch_modules)
    for factor in (2, 4):
        adapter = patch_adapters.PatchAdapter(model, family, factor, rank=3)
        side = 4 // family.patch_size
        small = torch.randn(2, embed.weight[0].numel() // family.patch_size**2, 4, 4)
        # each patch by itself: interpolation must not look across its border
        alone = small.unflatten(2, (side, -1)).unflatten(4, (side, -1)).permute(0, 2, 4, 1, 3, 5)
        larger = interpolate(
            alone.flatten(0, 2), scale_factor=factor, mode="bilinear", align_corners=False
        )
        large = larger.unflatten(0, (2, side, side)).permute(0, 3, 1, 4, 2, 5)
        large = large.flatten(4, 5).flatten(2, 3)

        def tokens(picture, factor=1):
            x = pixel_unshuffle(picture, family.patch_size)
            return merge(x.flatten(2).mT if len(case.latent) == 2 else x, factor)

        torch.testing.assert_close(
            adapter.embed(tokens(large, factor)), embed(tokens(small)), atol=1e-4, rtol=1e-4
        )
        token = torch.randn(1, 1, embed.weight.shape[0])
        fine = head(token)[0, 0]
        found = adapter.head(token)[0, 0, : len(fine) * factor**2]
        picture = pixel_shuffle(fine[None, :, None, None], family.patch_size)
        expected = interpolate(picture, scale_factor=factor, mode="bilinear", align_corners=False)
        apart = pixel_shuffle(split(found[None, :, None, None], factor), family.patch_size)
        torch.testing.assert_close(apart, expected, atol=1e-4, rtol=1e-4)


def test_pictures_and_places_do_not_mix(case):
    """A coarse pass over a picture turned over is the pass turned over; rows do not see each other."""
    model, inputs, family = case.model(), model_inputs(case), case.family
    dynamic = dynamic_patches.PatchScheduler(
        model, family, adapters(model, family, True), dynamic_patches.PatchSchedule({})
    )
    both = passed(model, dynamic, inputs, 2)
    own = {*family.per_sample_args, "timestep", "pooled_projections"}
    for row in range(2):
        one = {
            name: value[row : row + 1]
            if (name.startswith("encoder_") or name in own)
            and torch.is_tensor(value)
            and len(value) == 2
            else value
            for name, value in inputs.items()
        }
        torch.testing.assert_close(
            passed(model, dynamic, one, 2)[0], both[row], atol=1e-5, rtol=1e-4
        )


def test_adapters_are_read_as_they_were_written(case, tmp_path):
    model, inputs, family = case.model(), model_inputs(case), case.family
    made = adapters(model, family, True)
    for adapter in made.values():
        for parameter in adapter.parameters():
            parameter.copy_(parameter.half().float())
    patch_adapters.save(tmp_path / "a.safetensors", made, {"tau": 0.25})
    read, facts = patch_adapters.load(tmp_path / "a.safetensors", model, family)
    assert facts["tau"] == 0.25 and list(read) == [4, 2]
    for factor in read:
        before = passed(
            model,
            dynamic_patches.PatchScheduler(model, family, made, dynamic_patches.PatchSchedule({})),
            inputs,
            factor,
        )
        assert torch.equal(
            passed(
                model,
                dynamic_patches.PatchScheduler(
                    model, family, read, dynamic_patches.PatchSchedule({})
                ),
                inputs,
                factor,
            ),
            before,
        )
    other = CASES["flux" if case.name != "flux" else "chroma"]
    with pytest.raises(UserError, match="no patch schedule for this model"):
        patch_adapters.load(tmp_path / "a.safetensors", other.model(), other.family)


def test_larger_patches_go_with_a_users_lora(case):
    """A coarse pass of a model with a LoRA is that of the model into whose weights it was merged."""
    model, inputs, family = case.model(), model_inputs(case), case.family
    lora = add_lora(model, family, Span(1, 1), 3, "attention+ff", 0)
    randomise(lora)
    made = adapters(model, family, True)
    plain = passed(
        model,
        dynamic_patches.PatchScheduler(model, family, made, dynamic_patches.PatchSchedule({})),
        inputs,
        2,
    )
    for layer in [m for m in model.modules() if isinstance(m, BaseTunerLayer)]:
        layer.lora_variant.clear()  # peft cannot merge another forward; that of the product is equal
        layer.merge()
    merged = passed(
        model,
        dynamic_patches.PatchScheduler(model, family, made, dynamic_patches.PatchSchedule({})),
        inputs,
        2,
    )
    torch.testing.assert_close(plain, merged, atol=1e-4, rtol=1e-3)
    without = case.model()
    alone = passed(
        without,
        dynamic_patches.PatchScheduler(without, family, made, dynamic_patches.PatchSchedule({})),
        inputs,
        2,
    )
    assert (plain - alone).abs().max() > 1e-3
