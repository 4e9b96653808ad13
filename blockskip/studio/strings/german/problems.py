"""The same in German: problems, and the studio opening and closing."""

from __future__ import annotations

from blockskip.studio.strings.german.setup import OWN_PHOTOS_ANYWAY

GENERAL_ERROR = "Etwas Unerwartetes ist schiefgegangen. Einzelheiten stehen in {log}."
BEHIND = "Das Studio ist beschäftigt und antwortet spät. Diese Seite holt von selbst auf."
NO_PHOTOS = "Es sind noch keine Fotos da."
NO_PHOTOS_REMEDY = "Füge Fotos deines Tiers hinzu oder probiere es mit dem Demo-Tier."
NO_NAME = "Dein Tier hat noch keinen Namen."
NO_NAME_REMEDY = "Gib seinen Namen ein. Nur die Buchstaben A bis Z zählen."
NO_KIND = "Die Tierart fehlt."
NO_KIND_REMEDY = "Wähle Katze, Hund, … oder gib eine andere auf Englisch ein."
BUSY = "„{name}“ wird gerade trainiert."
BUSY_REMEDY = "Warte, bis es fertig ist, oder pausiere es vorher."
OWN_PHOTOS_TITLE = "Das Demo-Modell kennt nur gezeichnete Tiere."
OWN_PHOTOS_REMEDY = (
    f"Kreuze „{OWN_PHOTOS_ANYWAY}“ an, wenn du sehen möchtest, wie ein Training abläuft."
)
BUDGET_NO_NUMBER = "Gib das Budget als Zahl ein."
BUDGET_NO_NUMBER_REMEDY = "Gemeint sind GB, zum Beispiel 8."
NO_RUN = "Dieses Training gibt es nicht mehr."
NO_RUN_REMEDY = "Wähle ein anderes aus der Liste."
ALREADY_OPEN = "%s ist schon geöffnet: %s"
OPENING = "BlockSkip Studio wird gerade in einem anderen Fenster geöffnet."
OPENING_REMEDY = "Warte einen Moment und starte es dann noch einmal."
NO_KEY = (
    "Öffne das Studio mit seinem Startprogramm (./launch.sh, unter Windows launch.bat): Es öffnet "
    "die Adresse, die dich einlässt."
)
OPEN_AT = "%s ist geöffnet: %s (Strg+C schließt es; ein laufendes Training läuft weiter)"
DATA_GONE = (
    "Schließe das Laufwerk wieder an oder lösche {location_file}, um zum üblichen Ordner "
    "zurückzukehren."
)
NO_WINDOW = (
    "Es ließ sich kein Fenster öffnen (dafür ist das Paket pywebview nötig). Stattdessen öffnet "
    "sich der Browser."
)
CLOSED = (
    "Das Studio ist geschlossen. Ein laufendes Training läuft weiter; öffne das Studio wieder, um "
    "zuzusehen."
)
