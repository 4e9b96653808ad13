"""The Gradio app. It may import anything; nothing imports it."""
