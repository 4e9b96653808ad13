"""The same in German: results and the list of trainings."""

from __future__ import annotations

# results

DONE = "{name} ist bereit"
DONE_ABOUT = (
    "Trainiert: {time}, {steps} Schritte. Die Datei wurde neu geöffnet und geprüft. Höchster "
    "Speicherbedarf: {peak}."
)
STOPPED_READY = "Was das Modell bisher über {name} gelernt hat"
STOPPED_READY_ABOUT = (
    "Die Datei ist von Schritt {step} von {total}. Mit „Fortsetzen“ trainierst du weiter."
)
HOW_TO = (
    "Das LoRA ist eine kleine Datei, die dem Modell dein Tier beibringt. In ComfyUI: Lege sie in "
    "<code>models/loras</code>, füge dafür einen Knoten <b>Load LoRA</b> hinzu und schreibe "
    "<q>a photo of <b>{trigger}</b> {kind}</q> in den Prompt."
)
HOW_TO_WORKFLOW = "Die Workflow-Datei erledigt das alles für dich."
HOW_TO_NODE = (
    "Das LoRA ist eine kleine Datei, die dem Modell dein Tier beibringt. In ComfyUI ist {model} "
    "nicht enthalten: Dafür braucht es einen Zusatzknoten (Custom Node) und die Datei für diesen "
    "Knoten. Die anderen Dateien sind für diffusers. Schreibe "
    "<q>a photo of <b>{trigger}</b> {kind}</q> in den Prompt."
)
HOW_TO_DEMO = (
    "Das ist ein LoRA, eine kleine Datei, die einem Modell dein Tier beibringt. Dieses hier "
    "funktioniert nur mit dem Demo-Modell dieses Studios, nicht in ComfyUI. Sein Prompt ist "
    "<q>a photo of <b>{trigger}</b> {kind}</q>."
)
FORMAT = "Datei für"
FORMAT_STANDARD = "Dieses Studio"
FORMATS = {
    "comfyui": "ComfyUI",
    "diffusers": "diffusers",
    "kohya": "Forge, SwarmUI (kohya)",
    "native": "Zusatzknoten (ComfyUI)",
}
DOWNLOAD = "LoRA herunterladen"
DOWNLOAD_STEP = "LoRA herunterladen, Schritt {step}"
MAKE = "Diese Datei erstellen"
PREPARING = "Wird erstellt und geprüft …"
DOWNLOAD_WORKFLOW = "ComfyUI-Workflow"
TO_COMFYUI = "In ComfyUI kopieren"
CARD_TITLE = "Über diese Datei"
CARD_PARTS = {
    "what": (
        "Ein LoRA, das {model} beibringt, wie {pet} ({animal}) aussieht. In Prompts heißt das Tier "
        "„{trigger} {kind}“."
    ),
    "learnt": (
        "Gelernt aus {photos} Fotos in {steps} Schritten (Rang {rank}, Seed {seed}); dabei wurden "
        "{skipped} von {blocks} Blöcken übersprungen."
    ),
    "likeness": (
        "Ähnlichkeit seiner Probebilder mit den Fotos, nach dem Kosinus der Merkmale von DINOv2: "
        "{likeness:.2f}."
    ),
    "likeness_demo": (
        "Ähnlichkeit seiner Probebilder mit den Fotos, nach dem eigenen Urteil der Demo-Welt: "
        "{likeness:.2f}."
    ),
    "limits": (
        "Es kennt dieses eine Tier von diesen Fotos; andere Tiere, Menschen und Orte stammen vom "
        "Basismodell. Für alles, was du damit machst, gilt die Lizenz des Basismodells: {licence}."
    ),
}
CARD_LICENCE = "Lizenz des Basismodells: {licence}"

COMPARE_TITLE = "Vorher und nachher"
COMPARE_ABOUT = (
    "Verschiebe die Linie, um zu vergleichen. Wähle den Schritt, der dir am besten gefällt: Ihn "
    "lädst du herunter."
)
COMPARE = {
    "before": "Vorher",
    "after": "Nachher",
    "slider": "Wie viel von „Vorher“ zu sehen ist",
    "prompt": "Prompt",
    "step": "Schritt",
    "kept": "Die Datei zum Herunterladen ist von diesem Schritt.",
}
COMPARE_KEEP = "Schritt {step} behalten"
LIKENESS_TITLE = "Ähnlichkeit"
LIKENESS_ABOUT = (
    "1 = identisch. Das beurteilt ein kleines Netz von uns, das nur gezeichnete Tiere kennt. Die "
    "Spalte „{kind} allgemein“ soll niedrig bleiben: Andere Tiere sollen sich nicht ändern."
)
LIKENESS_PET = "Dein Tier"
LIKENESS_CLASS = "{kind} allgemein"
LIKENESS_PLACES = "Richtiger Ort"
LIKENESS_MEASURING = "Die Bilder werden beurteilt …"
LIKENESS_BEST = "am besten"
LIKENESS_NEAREST = "Ähnlichstes Foto"
LIKENESS_COPIES = "Kopien"
LIKENESS_LOST = "Ohne {kind}"
LIKENESS_BEHIND = "Abstand zum Besten"
LIKENESS_BEHIND_ABOUT = (
    "„Abstand zum Besten“ heißt: um wie viel weniger die Bilder eines Schritts deinem Tier ähneln "
    "als die des Schritts mit dem höchsten Wert, Prompt für Prompt. Hinter ± steht, was so wenige "
    "Bilder offenlassen (95 %)."
)
LIKENESS_UNSEEN = (
    "Kosinus von Bildmerkmalen (DINOv2), auf dein Tier zugeschnitten, verglichen mit {photos} "
    "deiner Fotos, die das Training nicht gesehen hat."
)
LIKENESS_SEEN = (
    "Kosinus von Bildmerkmalen (DINOv2), auf dein Tier zugeschnitten, verglichen mit den {photos} "
    "Fotos des Trainings: Bilder, die sie kopieren, werden dafür belohnt. Ab 6 Fotos lassen sich "
    "einige zurückhalten."
)
LIKENESS_ANCHORS = (
    "Deine Fotos erreichen untereinander {ceiling}. „{kind} allgemein“ lag vor dem Training bei "
    "{floor} und soll in der Nähe bleiben."
)
LIKENESS_COPYING = (
    "„Ähnlichstes Foto“ ist das Foto des Trainings, dem ein Bild am meisten ähnelt. Höchstens "
    "{copying} haben zwei deiner Fotos gemeinsam; ein Bild darüber gilt als Kopie."
)
LIKENESS_UNTRIED = (
    "Kein Wert ist für sich gut oder schlecht, nur im Vergleich mit den anderen. Diese Regeln sind "
    "bisher nur mit gezeichneten Tieren erprobt: Sieh dir auch die Bilder an."
)
LIKENESS_MEANING = "Was die Werte bedeuten"
LIKENESS_CHART = "Ähnlichkeit nach Schritten"
LIKENESS_CHART_ABOUT = "Schattiert: was so wenige Bilder beim Abstand zum Besten offenlassen."
LIKENESS_CHART_LABEL = "nach Schritten; die Werte stehen in der Tabelle darunter"
LIKENESS_AXIS = "Schritt {step}"
LIKENESS_CEILING = "deine Fotos"
LIKENESS_OFFER = "Messen, bei welchem Schritt die Bilder deinem Tier am meisten ähneln"
LIKENESS_DOING = {
    "starting": "Die Bilder werden mit deinen Fotos verglichen …",
    "pictures": "Bilder zum Vergleichen werden gemacht: {n} von {total}",
    "comparing": "Die Bilder werden mit deinen Fotos verglichen: {n} von {total}",
}
LIKENESS_STOP = "Messen stoppen"
LIKENESS_AGAIN = "Noch einmal messen"
LIKENESS_BEGIN = "Bilder mit deinen Fotos vergleichen"
LIKENESS_MORE = "Je Prompt und Schritt {count} Bilder mehr machen"
LIKENESS_MORE_ONE = "Je Prompt und Schritt ein Bild mehr machen"
LIKENESS_MORE_TIME = " (etwa {time})"
LIKENESS_MORE_ABOUT = (
    "Mit mehr Bildern lassen sich die Schritte besser unterscheiden. Solange ist die Grafikkarte "
    "belegt. Startest du ein Training, so endet das Messen; fertige Bilder bleiben erhalten."
)

SHEET_TITLE = "{name}, vorher und nachher"
SHEET_ABOUT = "{model} ohne und mit LoRA"
SHEET_SAVE = "Als ein Bild speichern"
SHEET_SHARE = "Teilen"
SHEET_SHARED = "Kopiert: Füge es ein, wo du möchtest"
SHEET_NAMES = {  # of files
    "own": "{name} eigene Bilder",
    "pair": "{name} Schritt {step}",
    "steps": "{name} nach Schritten",
}
SHEET_EMPTY = "Solche Bilder gibt es nicht."
PICTURE_SAVE = "Dieses Bild speichern"
SHOW_FOLDER = "Im Ordner zeigen"
FOLDER_SHOWN = "Im Dateimanager geöffnet: {folder}"
FOLDER_IS = "Die Datei liegt in {folder}"
PRESETS_TITLE = "Probier mal:"
PRESETS = {
    "Am Strand": "a photo of {pet} running on a beach, evening sun",
    "Schlafend": "a photo of {pet} asleep on a red sofa, soft window light",
    "Porträt": "close-up portrait of {pet}, studio light, dark background",
    "Im Schnee": "a photo of {pet} in fresh snow, winter forest",
    "Aquarell": "a watercolour painting of {pet} among flowers",
    "Astronaut": "a photo of {pet} as an astronaut, the earth behind it",
}
PRESETS_DEMO = {
    "Am Strand": "a photo of {pet} on the beach",
    "Auf dem Sofa": "a photo of {pet} on the sofa",
    "Im Schnee": "a photo of {pet} in the snow",
    "Auf der Wiese": "a photo of {pet} in the meadow",
    "Bei Nacht": "a photo of {pet} at night",
}

OWN_TITLE = "Deine eigenen Bilder"
OWN_ABOUT = "Sieh dir jeden Prompt ohne und mit dem LoRA deines Tiers an."
OWN_PROMPT = "Prompt (auf Englisch)"
STRENGTH = "LoRA-Stärke"
STRENGTH_INFO = "1 ist wie trainiert; ein kleinerer Wert zeigt weniger vom Tier."
PAINT_SEED_INFO = "Leer: jedes Mal ein neuer."
RANDOM = "zufällig"
PAINT = "Erzeugen"
OWN_EMPTY = "Hier erscheinen die Bilder, die du erzeugst."
OWN_STATES = {
    "waiting": "Wartet",
    "working": "Wird erzeugt: {n} von {total}",
    "failed": "Dieses Bild ist misslungen.",
}
OWN_DELETE = "Dieses Bild löschen"
OWN_STOP = "Erzeugen stoppen"
OWN_FACTS = "Schritt {step} · Stärke {strength:g} · Seed {seed}"
PROMPT_MISSING = "Der Prompt ist leer."
PROMPT_REMEDY = "Schreibe auf Englisch, was das Bild zeigen soll."

GO_ON_TITLE = "Weitertrainieren"
MORE_STEPS = "Schritte insgesamt"
MORE_STEPS_INFO = "Das Training macht beim letzten Schritt weiter."
EXTEND = "Mehr Schritte trainieren"
EXTEND_LESS = "Es wurden schon {steps} Schritte trainiert."
EXTEND_LESS_REMEDY = "Wähle eine größere Gesamtzahl."

# the list of trainings

LIST_TITLE = "Trainings"
LIST_EMPTY = "Noch kein Training. Dein erstes erscheint hier."
LIST_OPEN = "Öffnen"
LIST_RENAME = "Umbenennen"
LIST_AGAIN = "Einstellungen erneut nutzen"
LIST_DELETE = "Löschen"
RUN_DELETE = "Dieses Training löschen"
LIST_DELETE_ASK = (
    "Das Training von {name} mit seinen Fotos, Bildern und Dateien löschen ({size})? Das lässt "
    "sich nicht rückgängig machen. Ein heruntergeladenes LoRA bleibt dir erhalten."
)
LIST_RENAME_ASK = "Neuer Name für das Tier"
NO = "Abbrechen"
LIST_UNREADABLE = "{state} · {size} auf der Platte"
LIST_FACTS = "{state} · {step} von {steps} Schritten · {model} · {size} auf der Platte · {started}"
