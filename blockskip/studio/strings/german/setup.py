"""The same in German: navigation, the pet, the model and the budget."""

from __future__ import annotations

APP = "BlockSkip Studio"
TAGLINE = "Bring einem Bildmodell dein Tier bei."

# navigation

STEPS_NAV = {"photos": "Fotos", "budget": "Budget", "train": "Training", "results": "Ergebnis"}
NAV_LABEL = "Schritte zu deinem LoRA"
LIST = "Trainings"
LIST_COUNT = "Trainings ({count})"
NEW = "Neues Tier"
OPENING_PLACE = "Wird geöffnet …"

# the pet

PET_TITLE = "Dein Tier"
PET_KIND = "Was für ein Tier ist es?"
PET_KINDS = ("cat", "dog", "rabbit", "bear", "guinea pig", "hamster", "parrot", "horse")
PET_KINDS_SHOWN = (  # PET_KINDS go into prompts, which are English
    "Katze",
    "Hund",
    "Kaninchen",
    "Bär",
    "Meerschweinchen",
    "Hamster",
    "Papagei",
    "Pferd",
)
PET_NAME = "Wie heißt es?"
PET_NAME_EXAMPLE = "Momo"
WORDING = "In Prompts schreibst du dann <q>a photo of <b>{trigger}</b> {kind}</q>."
WORDING_EMPTY = (
    "Gib einen Namen ein, zum Beispiel Momo. In Prompts schreibst du dann "
    "<q>a photo of <b>momo</b> cat</q>."
)
WORDING_SAME = "Der Name muss anders lauten als die Tierart."

# the model

MODEL_TITLE = "Modell zum Trainieren"
MODEL_STATES = {
    "ready": "Bereit",
    "partial": "Unvollständig",
    "missing": "{need:.0f} GB zu laden",
    "broken": "Bitte nachsehen",
}
MODEL_MORE = "Weitere Modelle"
MODEL_READY = "Bereit: {where}"
MODEL_DEMO = (
    "Gehört zum Studio. Es kennt <b>nur gezeichnete Tiere</b>; nichts wird heruntergeladen."
)
MODEL_NEEDS = (
    "Dafür musst du {need:.0f} GB herunterladen; auf dem Laufwerk sind {free:.0f} GB frei."
)
MODEL_NO_ROOM = (
    "Dafür musst du {need:.0f} GB herunterladen, aber auf dem Laufwerk sind nur {free:.0f} GB "
    "frei. Schaffe Platz oder bewahre deine Daten auf einem anderen Laufwerk auf (unten)."
)
MODEL_ADAPTER = (
    "Dazu gehört „{title}“, ein fremdes LoRA. Es ist an, während das Modell dein Tier lernt. In "
    "Bildern ist es aus, und in deiner Datei steckt es nicht."
)
SIBLING_TITLE = "Probebilder {times}-mal so schnell"
SIBLING_OFFER = (
    "{title} macht ein Bild in {passes} Durchläufen des Modells statt in {own}. Mit diesem Modell "
    "benutzt du später auch dein LoRA."
)
SIBLING_NEEDS = (
    "Nicht nötig: weitere {need:.0f} GB zum Herunterladen; auf dem Laufwerk sind {free:.0f} GB "
    "frei."
)
SIBLING_READY = (
    "Die Probebilder macht {title}. Mit diesem Modell benutzt du später auch dein LoRA. Ein Bild "
    "braucht {passes} Durchläufe des Modells statt {own}."
)
MODEL_FOUND = "In ComfyUI gefunden: {where}"
MODEL_USE_FOUND = "Diese Dateien verwenden"
MODEL_FETCH = "{need:.0f} GB herunterladen"
MODEL_FETCH_MORE = "Weiter herunterladen"
MODEL_FETCH_STOP = "Herunterladen pausieren"
MODEL_FETCHING = "{done:.1f} von {total:.1f} {unit} · {speed} · {left}"
MODEL_FETCH_SPEED = "{speed:.0f} MB/s"
MODEL_LICENCE = "Lizenz: {licence}"
TOOL_NEEDS = (
    "Nicht nötig: {need} zum Herunterladen. Es läuft auf diesem Computer, auf dem Prozessor."
)
TOOL_FETCH = "{need} herunterladen"
MODEL_GATED = (
    "Wer dieses Modell herausgibt, verlangt, dass du zuerst eine Lizenz annimmst. Das dauert ein "
    "paar Minuten, nur dieses eine Mal:"
)
MODEL_GATED_STEPS = (
    "Lege ein kostenloses Konto an:",
    "Nimm auf der Seite des Modells die Lizenz an:",
    "Erstelle ein Zugriffstoken der Art „Read“:",
)
MODEL_GATED_PASTE = "Füge das Token hier ein. Es wird geprüft, bevor etwas heruntergeladen wird."
MODEL_FETCH_AGAIN = "Noch einmal versuchen"
MODEL_SUITS = "Für diesen Computer empfohlen"
MODEL_TOKEN = "Zugriffstoken"
MODEL_TOKEN_TEST = "Token prüfen und speichern"
MODEL_TOKEN_OTHER = "Anderes Token verwenden"
MODEL_TOKEN_KEPT = "Auf diesem Computer ist ein Zugriffstoken gespeichert."
MODEL_TOKEN_GOOD = "Das Token funktioniert."
COMFYUI_FOLDER = "Dein ComfyUI-Ordner"
COMFYUI_FOLDER_ABOUT = (
    "Falls du ComfyUI benutzt: Das Studio verwendet dessen Modelldateien dort, wo sie sind. Nichts "
    "wird kopiert."
)
COMFYUI_USE = "Suchen"
FOLDER_PICK = "Ordner auswählen"
DATA_TITLE = "Wo alles gespeichert wird"
DATA_ABOUT = (
    "{folder}: {free:.0f} GB frei. Modelle {models:.1f} GB, Trainings {runs:.1f} GB; davon lassen "
    "sich {caches:.1f} GB freigeben."
)
DATA_CLEAN = "{caches:.1f} GB freigeben"
DATA_CLEANED = (
    "{freed:.1f} GB freigegeben. Zwischenspeicher werden neu angelegt, wenn sie gebraucht werden."
)
DATA_MOVE = "Anderer Ordner oder anderes Laufwerk"
DATA_MOVE_ABOUT = "Gilt, sobald das Studio neu gestartet wird. Nichts wird verschoben."
DATA_MOVE_DO = "Diesen Ordner verwenden"
DATA_MOVED = "Ab dem nächsten Start wird alles in {folder} gespeichert."

OWN_PHOTOS = (
    "<b>Das sind deine eigenen Fotos.</b> Das Demo-Modell kann nur zeichnen und lernt sie deshalb "
    "nicht gut."
)
OWN_PHOTOS_READY = "{title} ist auf diesem Computer und passt zu ihnen."
OWN_PHOTOS_MISSING = "{title} würde zu ihnen passen; wähle es oben, um zu sehen, was es braucht."
OWN_PHOTOS_USE = "{title} verwenden"
OWN_PHOTOS_ANYWAY = "Das Demo-Modell trotzdem mit meinen Fotos trainieren"
MODEL_MISSING = "{title} ist noch nicht auf diesem Computer."
MODEL_MISSING_REMEDY = (
    "Lade es herunter oder wähle seine Dateien unter „Modell zum Trainieren“ aus."
)

# the budget

BUDGET_TITLE = "Budget"
BUDGET_ABOUT = (
    "Wie viel Grafikspeicher darf das Training benutzen? Mehr Speicher bedeutet schnelleres "
    "Training oder mehr Ähnlichkeit."
)
BUDGET_LABEL = "Grafikspeicher, GB"
NO_CARD = "Dieser Computer hat keine nutzbare NVIDIA-Karte."
NO_CARD_REMEDY = (
    "Auf dem Prozessor allein würde ein Modell dieser Größe tagelang trainieren; diese Zeit steht "
    "unten. Alles andere im Plan gilt für eine Karte mit so viel Speicher."
)
ADVANCED = "Erweitert"
AUTOMATIC = "automatisch"
STEPS = "Trainingsschritte"
STEPS_INFO = (
    "Leer: nach der Zahl der Fotos. Mehr Schritte helfen, aber nur bis zu einem gewissen Punkt."
)
SEED = "Seed"
SEED_INFO = "Gleicher Seed, gleiche Fotos und Einstellungen wiederholen ein Training genau."
RANK = "LoRA-Rang"
RANK_INFO = "Wie viel sich das LoRA merken kann; für ein Tier passt 16."
SPEED = "Probebilder"
SCHEDULES = {  # of crops
    "dynamic": "dynamisch",
    "reversed": "umgekehrt",
    "random": "zufällig",
    "resize": "verkleinert",
    "full": "ganz",
}
SPEEDS = {"exact": "genau", "fast": "schnell", "fastest": "am schnellsten"}
SPEED_INFO = "Schnellere Probebilder lassen manche Berechnung aus. Das Training bleibt gleich."

TRAIN = "Trainieren"
TRAIN_WAITS = "Startet …"
TRAIN_STEPS = "{steps} Schritte trainieren"
TRAIN_TIME = "{train} · etwa {time}"
TRAIN_QUEUE = "In die Warteschlange: {steps} Schritte trainieren"
TRAIN_BUSY_ABOUT = (
    "„{name}“ wird gerade trainiert. Dieses Training beginnt von selbst, wenn es an der Reihe ist."
)
TRAIN_BUSY_OPEN = "Zusehen"
