"""The same in German for texts of the program outside the studio: sentences that it joins."""

from __future__ import annotations

JOINED: dict[str, str] = {
    # what happened to a training and what follows, in one text
    "{why} Training continues from step {step} with less memory: {changes}.": (
        "{why} Das Training geht bei Schritt {step} mit weniger Speicher weiter: {changes}."
    ),
    "{why} Training continues from the beginning with less memory: {changes}.": (
        "{why} Das Training beginnt mit weniger Speicher von vorn: {changes}."
    ),
    "{problem} Pictures are made on {model} instead, which takes longer.": (
        "{problem} Stattdessen macht {model} die Bilder, was länger dauert."
    ),
    "{figures} Close other programs, then resume.": (
        "{figures} Schließe andere Programme und setze dann fort."
    ),
    "{figures} Close other programs, then resume; nothing saved is lost.": (
        "{figures} Schließe andere Programme und setze dann fort; nichts Gespeichertes ist "
        "verloren."
    ),
    "{figures} Close other programs that use the card, or start a run with another budget; then "
    "resume.": (
        "{figures} Schließe andere Programme, die die Grafikkarte benutzen, und setze dann fort, "
        "oder beginne ein Training mit einem anderen Budget."
    ),
    # problem and remedy in one text, as a model's status has them (models/sources/availability.py)
    "{problem} Download BlockSkip Studio again, or make the model anew: {command}": (
        "{problem} Lade BlockSkip Studio noch einmal herunter."
    ),
    "{problem} Delete it and choose your models again.": (
        "{problem} Lösche die Datei und wähle deine Modelle noch einmal."
    ),
    "{problem} Put it back or attach its drive, or choose again: {command} FOLDER, or "
    "{command_2} …": (
        "{problem} Lege es zurück, schließe das Laufwerk an oder trage „Dein ComfyUI-Ordner“ noch "
        "einmal ein."
    ),
    "{problem} Put it back, or choose or download the model again.": (
        "{problem} Lege die Datei zurück oder wähle das Modell noch einmal oder lade es herunter."
    ),
    "{problem} If its repository is right by now: {command}": (
        "{problem} Falls das beim Anbieter inzwischen behoben ist, lade es noch einmal herunter."
    ),
    "{problem} Fetch it again: {command}": "{problem} Lade es noch einmal herunter.",
    "{problem} Fetch it, or choose other files: {command} …": (
        "{problem} Lade es herunter oder wähle andere Dateien."
    ),
    "{problem} Fetch it again.": "{problem} Lade es noch einmal herunter.",
    "{problem} Fetch the model again.": "{problem} Lade das Modell noch einmal herunter.",
    "{problem} Fetch the file again.": "{problem} Lade die Datei noch einmal herunter.",
    "{problem} Fetch or make it again.": (
        "{problem} Lade die Datei noch einmal herunter oder erstelle sie neu."
    ),
    "{problem} Take the .safetensors file of the same model.": (
        "{problem} Nimm die .safetensors-Datei desselben Modells."
    ),
    "{problem} Let the download finish first.": (
        "{problem} Warte, bis das Herunterladen fertig ist."
    ),
    "{problem} Check that it is there and that you may use it.": (
        "{problem} Prüfe, ob es da ist und ob du es benutzen darfst."
    ),
    "{model}'s {part} was not found in {folder}. {problem}": (
        "Von {model} wurde „{part}“ in {folder} nicht gefunden. {problem}"
    ),
}
