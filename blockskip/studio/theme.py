"""The studio's colours and type: a paper-like light theme, a dark theme, one warm accent.

It uses system fonts only, so that nothing is fetched. studio.css uses the same variables.
"""

from __future__ import annotations

from gradio.themes import Base, Color, sizes

PAPER = Color(
    "#faf9f7",
    "#f5f3f0",
    "#e9e5e0",
    "#d8d2ca",
    "#a8a199",
    "#857d74",
    "#635c54",
    "#4a443e",
    "#2e2a26",
    "#1d1b19",
    "#141312",
    name="paper",
)
RUST = Color(
    "#fdf3ec",
    "#fae3d3",
    "#f4c6a6",
    "#efa877",
    "#e8935a",
    "#c8662c",
    "#a94d1a",
    "#8a3e14",
    "#6e3211",
    "#4d240d",
    "#2c1508",
    name="rust",
)
SANS = (
    "system-ui",
    "-apple-system",
    "Segoe UI",
    "Roboto",
    "Helvetica Neue",
    "Noto Sans",
    "sans-serif",
)
MONO = ("ui-monospace", "SFMono-Regular", "Consolas", "Liberation Mono", "monospace")


def theme() -> Base:
    """Return the theme. Text and background have a contrast of at least 4.5 : 1."""
    base = Base(
        primary_hue=RUST,
        secondary_hue=PAPER,
        neutral_hue=PAPER,
        font=list(SANS),
        font_mono=list(MONO),
        radius_size=sizes.radius_lg,
        text_size=sizes.text_md,
        spacing_size=sizes.spacing_md,
    )
    return base.set(**_surfaces(), **_fields(), **_buttons())


def _surfaces() -> dict[str, str]:
    return {
        "body_background_fill": "*neutral_100",
        "body_background_fill_dark": "#141312",
        "body_text_color": "#211e1b",
        "body_text_color_dark": "#ece8e2",
        "body_text_color_subdued": "#5f5850",
        "body_text_color_subdued_dark": "#b3aba1",
        "background_fill_primary": "#ffffff",
        "background_fill_primary_dark": "#1d1b19",
        "background_fill_secondary": "#faf9f7",
        "background_fill_secondary_dark": "#242120",
        "border_color_primary": "#e0dbd4",
        "border_color_primary_dark": "#38342f",
        "block_background_fill": "transparent",
        "block_background_fill_dark": "transparent",
        "block_border_width": "0px",
        "block_border_width_dark": "0px",
        "block_shadow": "none",
        "block_shadow_dark": "none",
        "block_padding": "0px",
        "block_label_text_color": "#4a443e",
        "block_label_text_color_dark": "#cfc8bf",
        "block_title_text_color": "#211e1b",
        "block_title_text_color_dark": "#ece8e2",
        "block_title_text_weight": "600",
        "block_title_text_size": "*text_md",
        "block_info_text_color": "#5f5850",
        "block_info_text_color_dark": "#b3aba1",
        "panel_border_width": "0px",
        "layout_gap": "16px",
        "color_accent_soft": "*primary_50",
        "color_accent_soft_dark": "#33261d",
    }


def _fields() -> dict[str, str]:
    return {
        "input_background_fill": "#ffffff",
        "input_background_fill_dark": "#262321",
        "input_border_color": "#c9c2b9",
        "input_border_color_dark": "#4a443e",
        "input_border_width": "1px",
        "input_border_width_dark": "1px",
        "input_shadow": "none",
        "input_shadow_focus": "0 0 0 3px rgb(200 102 44 / .25)",
        "input_border_color_focus": "*primary_500",
        "input_placeholder_color": "#6f675f",
        "input_placeholder_color_dark": "#a39b91",
        "checkbox_background_color": "#ffffff",
        "checkbox_background_color_dark": "#262321",
        "checkbox_border_color": "#a8a199",
        "checkbox_border_color_dark": "#6e665d",
        "checkbox_background_color_selected": "*primary_600",
        "checkbox_background_color_selected_dark": "*primary_500",
        "checkbox_label_background_fill": "#ffffff",
        "checkbox_label_background_fill_dark": "#262321",
        "checkbox_label_background_fill_hover": "#faf9f7",
        "checkbox_label_background_fill_hover_dark": "#2e2a26",
        "checkbox_label_background_fill_selected": "*primary_50",
        "checkbox_label_background_fill_selected_dark": "#33261d",
        "checkbox_label_border_color": "#d8d2ca",
        "checkbox_label_border_color_dark": "#4a443e",
        "checkbox_label_border_width": "1px",
        "checkbox_label_shadow": "none",
        "checkbox_label_text_color_selected": "#211e1b",
        "checkbox_label_text_color_selected_dark": "#ece8e2",
    }


def _buttons() -> dict[str, str]:
    return {
        "button_primary_background_fill": "*primary_600",
        "button_primary_background_fill_hover": "*primary_700",
        "button_primary_background_fill_dark": "*primary_400",
        "button_primary_background_fill_hover_dark": "*primary_300",
        "button_primary_text_color": "#ffffff",
        "button_primary_text_color_dark": "#1d1206",
        "button_secondary_background_fill": "#ffffff",
        "button_secondary_background_fill_dark": "#2a2725",
        "button_secondary_background_fill_hover": "#f5f3f0",
        "button_secondary_background_fill_hover_dark": "#363230",
        "button_secondary_text_color": "#211e1b",
        "button_secondary_text_color_dark": "#ece8e2",
        "button_secondary_border_color": "#c9c2b9",
        "button_secondary_border_color_dark": "#4a443e",
        "button_border_width": "1px",
        "button_primary_border_color": "transparent",
        "button_large_radius": "10px",
        "button_medium_radius": "10px",
        "button_small_radius": "8px",
        "button_primary_shadow": "none",
        "button_secondary_shadow": "none",
        "button_transition": "background-color .12s ease",
    }
