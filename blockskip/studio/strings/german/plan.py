"""The same in German: the plan beside the budget. planner.py has the planner's reasons."""

from __future__ import annotations

from blockskip.core import stages

PLAN_LABEL = "Der Plan"
PLAN_BLOCKS = "Die {count} Blöcke des Modells"
PLAN_SKIPPED = "{count} übersprungen: beim Training nie auf der Karte"
PLAN_TRAINED = "{count} lernen dein Tier"
PLAN_STREAMED = "{count} lernen dein Tier und kommen in jedem Schritt einzeln auf die Karte"
PLAN_STAGES_TITLE = "Grafikspeicher"
PLAN_STAGES_ABOUT = "höchstens {size} erwartet: {stage}"
PLAN_STAGES = {
    stages.TEXT: "Bildtexte lesen",
    stages.LATENTS: "Fotos vorbereiten",
    stages.RESIDUALS: "Übersprungene Blöcke",
    stages.TRAIN: "Training",
    stages.PREVIEW: "Bilder",
}
PLAN_STAGES_UNSKIPPED = {stages.RESIDUALS: "Schritte vorbereiten"}
PLAN_HELD = "trainierte Blöcke, bleiben auf der Karte"
PLAN_PASSING = "alles andere"
PLAN_RESERVE = "{size} bleiben für Desktop und Treiber"
PLAN_TAKEN = "{size} des Budgets sind auf der Karte jetzt nicht frei"
PLAN_BUDGET = "dein Budget: {size}"
PLAN_ROOM_TITLE = "Dieser Computer"
PLAN_RAM = "RAM"
PLAN_RAM_OF = "{size} von {total}"
PLAN_RAM_KEPT = "Ein Viertel des RAM bleibt für andere Programme."
PLAN_RAM_FREE = "RAM: {size} jetzt frei."
PLAN_DISK = "Platte"
PLAN_DISK_OF = "{size} von freien {total}"
PLAN_MINUTES_BY = {
    "history": "Das dauert etwa {time}, nach früheren Trainings auf diesem Computer zu urteilen.",
    "measured": (
        "Das dauert etwa {time}, berechnet aus einer Messung auf diesem Computer, auf ein Drittel "
        "genau."
    ),
    "common": (
        "Auf einem üblichen PC mit RTX 3060 und NVMe-Laufwerk würde das etwa {time} dauern."
    ),
}
PLAN_MEASURING = {
    "running": (
        "Gerade wird gemessen, wie schnell dieser Computer ist. Das dauert etwa 20 s und endet, "
        "sobald du klickst."
    ),
    "waiting": (
        "Wie schnell dieser Computer ist, wird gemessen, sobald du einen Moment lang nichts "
        "angeklickt hast."
    ),
    "over": "",
}
PLAN_MINUTES_UNKNOWN = "Wie lange das auf diesem Computer dauert, ist noch nicht bekannt."
PLAN_CROPS_TITLE = "Was das Training sieht"
PLAN_CROPS = {
    "dynamic": "zuerst das ganze Tier, zuletzt Fell und Augen",
    "reversed": "zuerst Fell und Augen, zuletzt das ganze Tier",
    "random": "zufällig mehr oder weniger vom Foto",
    "resize": "immer das ganze Foto",
    "full": "immer das ganze Foto",
}
PLAN_CROP_WORDS = ("ganzes Tier", "Teil davon", "Nahaufnahme")
PLAN_WHOLE = "ganze Bilder mit {side} px"
PLAN_ANY_CROP = "Ausschnitte von {low} bis {high} px"
PLAN_SHRUNK = "; alle auf {side} px verkleinert"
PLAN_NOISE = ("zuerst, stark verrauscht", "zuletzt, fast klar")
PLAN_GIVES_UP = "Worauf der Plan verzichtet"
PLAN_GIVES_NOTHING = "Auf nichts: Alle Blöcke lernen dein Tier."
PLAN_COST_SKIPPED = "{share} % des Modells bleiben unverändert. Das spart Speicher und Zeit."
PLAN_COST_BITS = {
    "int8": (
        "Das Modell wird auf die Hälfte seiner Größe gerundet. Das kostet vermutlich kaum "
        "Ähnlichkeit."
    ),
    "nf4": (
        "Das Modell wird auf ein Viertel seiner Größe gerundet. Das kostet vermutlich ein wenig "
        "Ähnlichkeit."
    ),
}
PLAN_COST_INT8 = (
    "Das meiste wird auch mit 8 Bit berechnet. Das ist schneller und kaum weniger genau."
)
PLAN_COST_SIDE = (
    "Das Modell lernt aus Bildern mit {side} px statt {largest} px. Das kostet etwas Ähnlichkeit."
)
PLAN_COST_TEXT = "Bildtexte werden nach etwa {words} Wörtern abgeschnitten."
PLAN_COST_STREAMED = (
    "Die trainierten Blöcke passen nicht alle zugleich auf die Karte. Sie werden in jedem Schritt "
    "dorthin geholt. Das macht das Training langsamer."
)
PLAN_COST_TWICE = (
    "Ein Teil jedes Schritts wird doppelt berechnet, um Speicher zu sparen: Schritte dauern "
    "{percent} % länger."
)
PLAN_COST_LEAVES = (
    "Die trainierten Blöcke verlassen die Karte, während Bilder entstehen. Das kostet etwas Zeit."
)
PLAN_COST_MAPPED = (
    "Die Blöcke, die gerade nicht gebraucht werden, passen nicht ins RAM. Sie werden jedes Mal von "
    "der Platte gelesen."
)
PLAN_COST_PARTLY = (
    "Einige der Blöcke, die gerade nicht gebraucht werden, passen nicht ins RAM. Sie werden jedes "
    "Mal von der Platte gelesen."
)
PLAN_MORE = "Mit mehr Grafikspeicher"
PLAN_WHY = "Warum dieser Plan"
PLAN_LIKENESS = (
    "aber die Ähnlichkeit nähme kaum zu",
    "und die Ähnlichkeit nähme etwas zu",
    "und die Ähnlichkeit nähme zu",
)
PLAN_NEW = {  # what more memory would change about training
    "percent": "{percent} % statt {percent_now} % übersprungene Blöcke",
    "side_px": "Bilder mit {side_px} px",
    "bits": "ein weniger gerundetes Modell",
    "captions": "längere Bildtexte",
}
PLAN_SHORTER = {"captions": "kürzere Bildtexte"}
PLAN_USE = "{size} verwenden"

PLAN_SIZES = "Karten mit:"
PLAN_MARKS = "Diese Karte hat {total}. Andere Programme benutzen {others}; {free} sind frei."
PLAN_MARKS_ALONE = "Diese Karte hat {total}. Kein anderes Programm benutzt sie."
PLAN_MARKS_FREE = "jetzt frei"
PLAN_MARKS_TAKEN = "von anderen Programmen benutzt"
PLAN_MARKS_BEYOND = "mehr, als diese Karte hat"
PLAN_HELD_BY = "Auf der Karte: {programs}."
PLAN_HELD_SIZE = "{name} {size}"
PLAN_HELD_UNTOLD = (
    "Programme auf der Karte: {programs}. Wie viel jedes davon belegt, verrät das System nicht."
)
PLAN_COMFYUI = "ComfyUI belegt davon etwa {size} für seine Modelle."
PLAN_COMFYUI_FREE = "ComfyUI: {size} freigeben"
PLAN_COMFYUI_FREED = "ComfyUI hat {size} freigegeben."
PLAN_MARKS_NO_CARD = (
    "Es wurde keine NVIDIA-Karte gefunden. Deshalb läuft das Training auf dem Prozessor. Das "
    "Budget bestimmt dann nur, wie viel vom Modell lernt; wähle die Größe der Karte, an die du "
    "denkst."
)
