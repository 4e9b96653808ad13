"""The same in German: a training in progress."""

from __future__ import annotations

from blockskip.core import stages

# a training

PAUSE, RESUME, STOP, LOOK = "Pause", "Fortsetzen", "Stoppen", "Jetzt Probebilder"
AS_PLANNED = "Wie geplant fortsetzen"
EASED = (
    "Der Speicher wurde knapp. Deshalb braucht dieses Training jetzt weniger als geplant: "
    "{changes}."
)
EASED_BACK = (
    "So geht es zurück: Schließe andere Programme, die die Grafikkarte benutzen, pausiere dieses "
    "Training und drücke „{button}“. Das Gelernte bleibt erhalten."
)
AGAIN = "Neues Training mit diesen Fotos"
STATES = {
    "new": "Nicht begonnen",
    "waiting": "Wartet",
    "running": "Läuft",
    "paused": "Pausiert",
    "stopped": "Gestoppt",
    "failed": "Durch Fehler gestoppt",
    "crashed": "Unterbrochen",
    "done": "Fertig",
    "unreadable": "Nicht lesbar",
}
STAGES = {
    stages.PHOTOS: "Fotos werden gelesen",
    stages.LOAD: "Modell wird geöffnet",
    stages.TEXT: "Bildtexte werden gelesen",
    stages.LATENTS: "Fotos werden zugeschnitten",
    stages.RESIDUALS: "Beitrag der übersprungenen Blöcke wird berechnet",
    stages.TRAIN: "Das Modell lernt dein Tier kennen",
    stages.PREVIEW: "Bilder werden erzeugt",
    stages.EXPORT: "Datei wird gespeichert und geprüft",
}
STAGE_LINE = {
    stages.PHOTOS: "Fotos",
    stages.LOAD: "Modell",
    stages.TEXT: "Bildtexte",
    stages.LATENTS: "Ausschnitte",
    stages.TRAIN: "Lernen",
    stages.EXPORT: "Datei",
}
STARTING = "Startet"
TELL = {
    "on": "Bescheid geben, wenn fertig",
    "off": "Du bekommst Bescheid, wenn es fertig ist",
    "sound_on": "Mit Ton",
    "sound_off": "Ton ist an",
    "denied": "Dieser Browser lässt das nicht zu. Erlaube in der Adressleiste Benachrichtigungen "
    "für diese Seite.",
    "missing": "Dieser Browser kann keine Benachrichtigungen zeigen.",
    "about": "Solange ein Tab des Studios offen ist.",
}
NEWS = {
    "done": "{pet} ist bereit",
    "failed": "Das Training von {pet} wurde durch einen Fehler gestoppt",
    "crashed": "Das Training von {pet} wurde unterbrochen",
}
WAITS = "In der Warteschlange: Es beginnt von selbst nach {count} anderen."
WAITS_ONE = "In der Warteschlange: Es beginnt von selbst nach einem anderen."
WAITS_NEXT = "In der Warteschlange: Es beginnt von selbst, sobald eine Grafikkarte frei ist."
WAITS_HELD = "Wartet: Die Warteschlange ist angehalten. Nichts beginnt, bis du sie fortsetzt."
QUEUE_TITLE = "Warteschlange"
QUEUE_ABOUT = (
    "Sie werden in dieser Reihenfolge trainiert, auf jeder Grafikkarte eines, auch wenn diese "
    "Seite geschlossen ist."
)
QUEUE_FACTS = "{steps} Schritte"
QUEUE_FACTS_TIME = "{steps} Schritte · etwa {time}"
QUEUE_UP = "Früher"
QUEUE_DOWN = "Später"
QUEUE_REMOVE = "Herausnehmen"
QUEUE_HOLD = "Warteschlange anhalten"
QUEUE_GO = "Warteschlange fortsetzen"
QUEUE_HELD = "Angehalten: Nichts beginnt, bis du sie fortsetzt."
MODEL_OPEN = (
    "Das Modell des letzten Trainings bleibt bis {until} geöffnet, damit das nächste schneller "
    "beginnt."
)
MODEL_OPEN_HOLDS = " Es belegt {size} Grafikspeicher; er zählt hier als frei."
MODEL_CLOSE = "Jetzt schließen"
PENDING = {
    "pause": "Pause nach diesem Schritt",
    "stop": "Stopp nach diesem Schritt",
    "preview": "Bilder nach diesem Schritt",
}
PENDING_EARLY = {  # before the first step
    "pause": "Pause, sobald das erledigt ist: {stage}",
    "stop": "Stopp, sobald das erledigt ist: {stage}",
}
PRESSED = {"pause": "Hält an …", "stop": "Stoppt …", "preview": "Probebilder …"}
STEP_OF = "Schritt {n} von {total}"
LEFT = "noch etwa {time}"
LEFT_LITTLE = "noch ein paar Sekunden"
FACTS = "{kind} · {photos} · {steps} Schritte · {model} · Budget {budget:g} GB · Beginn {started}"
PAUSED_AT = (
    "Bei Schritt {step} pausiert. Der Grafikspeicher ist für andere Programme frei. „Fortsetzen“ "
    "macht hier weiter."
)
STOPPED_BEFORE = "Gestoppt, bevor das Training begann. „Fortsetzen“ startet es."
PAUSED_BEFORE = "Pausiert, bevor das Training begann. „Fortsetzen“ startet es."
STOPPED_AT = (
    "Bei Schritt {step} gestoppt. Das bisher Gelernte bleibt erhalten. „Fortsetzen“ macht hier "
    "weiter."
)
CRASHED = "Das Training wurde ohne Fehlermeldung unterbrochen."
CRASHED_REMEDY = (
    "Vielleicht wurde der Computer ausgeschaltet oder hatte zu wenig Speicher. „Fortsetzen“ macht "
    "beim letzten gespeicherten Schritt weiter. Einzelheiten stehen in {log}."
)

PICTURES_TITLE = "Bilder während des Trainings"
PICTURES_ABOUT = (
    "Dieselben Prompts und Seeds vor dem Training und währenddessen. Klicke ein Bild an, um es "
    "größer zu sehen."
)
PICTURES_PHOTOS = "Deine Fotos"
PICTURES_BEFORE = "Vorher"
PICTURES_STEP = "Schritt {step}"
PICTURES_LARGE = "Schritt {step}, volle Größe"
PICTURES_ALT = "{prompt}, {when}"

CHART_VRAM = "Grafikspeicher"
CHART_RAM = "RAM"
CHART_DISK = "Platte"
CHART_OURS = "dieses Training {now:.1f} GB"
CHART_CARD = "die ganze Karte {now:.1f} GB"
CHART_PC = "der ganze Computer {now:.1f} GB"
CHART_DISK_RUN = "dieses Training {now:.2f} GB"
CHART_BUDGET = "Budget {budget:g} GB"
CHART_CARD_ABOUT = "die Karte hat {total:.0f} GB"
CHART_RAM_ABOUT = "dieser Computer hat {total:.0f} GB"
CHART_DISK_ABOUT = "{free:.0f} GB frei"
CHART_EMPTY = "Erscheint, sobald das Training beginnt"
LOSS_CHART = "Lernkurve"
LOSS_RAW = "jeder Schritt"
LOSS_MEAN = "Mittelwert"
LOSS_ABOUT = (
    "wie weit das Modell noch danebenliegt; die Werte schwanken stark, verlass dich auf die Bilder"
)
