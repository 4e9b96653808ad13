"""The same in German: photos and captions."""

from __future__ import annotations

# photos

PHOTOS_TITLE = "Fotos"
PHOTOS_ABOUT = (
    "4 bis 20 Fotos, auf denen nur dieses Tier zu sehen ist. Am besten zeigen sie es an "
    "verschiedenen Orten und in verschiedenen Haltungen."
)
PHOTOS_LABEL = "Fotos deines Tiers"
PHOTOS_DROP = "Fotos hierher ziehen oder zum Auswählen klicken"
PHOTOS_DEMO = "Mit dem Demo-Tier testen"
DEMO_NAME = "Momo"
PHOTOS_CLEAR = "Alle entfernen"
PHOTOS_EMPTY = "Hier erscheinen deine Fotos. Sie bleiben auf diesem Computer."
PHOTOS_REJECTED = "Nicht übernommen:"
PHOTOS_ADDING = "Fotos werden gelesen: {n} von {total}"
PHOTOS_COUNT_ONE = "1 Foto"
PHOTOS_COUNT = "{count} Fotos"
PHOTOS_MOST = "mehr als {most} Fotos gehen nicht"
PHOTO_REMOVE = "{name} entfernen"
UNDO = "Rückgängig"
UNDO_FORGET = "Entferntes endgültig löschen"
UNDO_ONE = "{name} entfernt."
UNDO_MANY = {
    "some": "{photos} entfernt.",
    "all": "{photos} entfernt.",
    "replaced": "{photos} durch andere ersetzt.",
}
UNDO_NO_ROOM = "Dafür ist kein Platz: Mehr als {most} Fotos gehen nicht."
UNDO_NO_ROOM_REMEDY = "Entferne zuerst andere."
PHOTO_OPEN = "{name} öffnen"
VALUE_UNUSABLE = "Einer dieser Werte ist von der falschen Art: {values}."
PHOTO_TWICE = "ist schon dabei"
PHOTO_ASIDE = "ist beiseitegelegt: Hol es unten zurück"
DROP = {
    "adding": "Fotos werden hinzugefügt: {n} von {total}",
    "stop": "Abbrechen",
    "again": "Noch einmal versuchen",
    "rejected": PHOTOS_REJECTED,
    "film": "ist ein Video, kein Foto",
    "large": "ist größer als 60 MB",
    "failed": "Die Fotos ließen sich nicht hochladen.",
}
PHOTOS_BEST = "Die besten {count} behalten"
PHOTOS_SELECT = "Auswählen"
SELECT = {
    "chosen_one": "1 Foto ausgewählt",
    "chosen": "{count} Fotos ausgewählt",
    "caption": "Bildtext für {count} Fotos",
    "caption_about": "Beschreibe auf Englisch, was sonst auf diesen Fotos ist, "
    "etwa „lying on a sofa“.",
    "caption_empty": "Nur wo keiner steht",
    "caption_all": "Alle ersetzen",
}
SELECT_ALL = "Alle auswählen"
SELECT_CAPTION = "Bildtext schreiben"
SELECT_ASIDE = "Beiseitelegen"
SELECT_REMOVE = "Entfernen"
SELECT_REMOVE_ASK = "Die ausgewählten Fotos entfernen?"
SELECT_DONE = "Fertig"
SELECT_HINT = (
    "Klicke Fotos an, um sie auszuwählen. Mit der Umschalttaste wählst du eine ganze Reihe."
)
ASIDE_ONE = "1 Foto ist beiseitegelegt"
ASIDE = "{count} Fotos sind beiseitegelegt"
ASIDE_ABOUT = (
    "Sie bleiben erhalten, aber das Training benutzt sie nicht. Klicke eines an, um es doch zu "
    "verwenden."
)
ASIDE_BACK = "Alle zurückholen"
ASIDE_BACK_ONE = "{name} doch verwenden"
CAPTION_UNCLEAR = (
    "mehrere Fotos heißen so: Klicke das richtige an und schreibe seinen Bildtext dort"
)
PHOTO_BOXED = "Das Tier ist markiert"
PHOTO_FOUND = "Das Tier wurde gefunden und markiert; klicke, um seinen Rahmen zu ändern"
PHOTO_NOTES = {
    "lost": "Nicht gefunden",
    "other": "Ist es das?",
    "several": "Mehr als eines",
    "people": "Menschen",
}
FINDER_OFFER = "Das Tier auf jedem Foto finden und markieren lassen"
FINDER_LOOKING = "Suche nach {pet}: Foto {n} von {total}"
FINDER_AGAIN = "Noch einmal suchen"
FINDER_UNKNOWN = (
    "Die Tiersuche kennt Katzen, Hunde, Vögel und Pferde, aber „{kind}“ nicht. „Tier auf jedem "
    "Foto markieren“ markiert, was ins Auge fällt. Das ist oft richtig."
)
YOUR_PET = "deinem Tier"
PHOTO_HINT = (
    "Klicke ein Foto an, um einen Rahmen um das Tier zu ziehen, den Bildtext zu ändern und zu "
    "sehen, was das Modell daraus lernt."
)
PHOTOS_BOX_ALL = "Tier auf jedem Foto markieren"
PHOTOS_BOX_NONE = "Markierungen entfernen"
PHOTOS_BOXED_ABOUT = (
    "Das Tier ist auf {count} von {total} Fotos markiert. So zeigen Nahaufnahmen das Tier und "
    "nicht die Wiese. Bitte sieh nach: Klicke ein Foto an, um den Rahmen zu verschieben."
)
PHOTO = {
    "title": "Foto",
    "close": "Fertig",
    "previous": "Zurück",
    "next": "Weiter",
    "box": "Wo ist das Tier?",
    "box_about": "Zieh mit der Maus oder dem Finger einen Rahmen darum. Tasten: Die Pfeile "
    "verschieben den Rahmen, Umschalt und Pfeile ändern seine Größe.",
    "propose": "Rahmen vorschlagen",
    "no_box": "Kein Rahmen",
    "caption": "Bildtext",
    "caption_about": "Beschreibe auf Englisch, was sonst auf dem Foto ist, etwa „lying on a "
    "sofa“. Davor kommt „{automatic}“; [trigger] steht für den Namen.",
    "describe": "Beschreiben lassen",
    "crops": "Was das Training sieht",
    "crops_again": "Andere Ausschnitte zeigen",
    "much": "aus der Ferne",
    "middle": "näher",
    "little": "ganz nah",
    "findings": "Gut zu wissen",
    "hold_out": "Vom Training zurückhalten",
    "train_on": "Auch mit diesem Foto trainieren",
}
PHOTO_UNSEEN = "zurückgehalten"
UNSEEN_PHOTOS = (
    "Vom Training zurückgehalten: {names}. Die Ähnlichkeit wird mit Fotos gemessen, die das "
    "Training nicht gesehen hat. Sonst schnitte ein Modell am besten ab, das seine Fotos "
    "kopiert. {why} Klicke ein Foto an, um das zu ändern."
)
UNSEEN_BY_RULE = (
    "Eines von fünf Fotos: möglichst mit Rahmen, nie eines, zu dem es ein fast gleiches gibt, und "
    "jedes anders als die übrigen zurückgehaltenen."
)
UNSEEN_BY_USER = "Du hast sie ausgesucht."
UNSEEN_NONE = "Mit allen Fotos trainieren"
UNSEEN_OFFER = (
    "Messen, bei welchem Schritt die Bilder deinem Tier am meisten ähneln, mit Fotos, die das "
    "Training nicht sieht"
)
CROPS_ABOUT = {
    "dynamic": "Das Modell lernt zuerst das ganze Tier, zuletzt Fell und Augen.",
    "reversed": "Das Modell lernt zuerst Fell und Augen, zuletzt das ganze Tier.",
    "random": "Das Modell lernt nahe und ferne Ansichten in zufälliger Folge.",
    "resize": "Mit diesem Modell und Budget sieht das Training immer das ganze Foto.",
    "full": "Mit diesem Modell und Budget sieht das Training immer das ganze Foto.",
}

# captions by a model

DESCRIBE_TITLE = "Bildtexte"
DESCRIBE_ABOUT = (
    "Was im Bildtext steht, gehört für das Modell nicht zu deinem Tier: der Ort, das Halsband, "
    "dein Sofa. Bisher mit Bildtext: {count} von {total} Fotos. Klicke ein Foto an, um seinen "
    "Bildtext auf Englisch zu schreiben oder zu ändern, oder lass die übrigen beschreiben. Was du "
    "geschrieben hast, wird nicht überschrieben."
)
DESCRIBE_ALL = "Fotos beschreiben lassen"
DESCRIBE_BY = (
    "{title} beschreibt sie auf diesem Computer. Nichts wird heruntergeladen, nichts verschickt. "
    "Es belegt dabei {gib:.0f} GB RAM und rechnet auf dem Prozessor. Pro Foto dauert es Sekunden "
    "bis Minuten."
)
DESCRIBE_BY_SERVER = "{model} auf {address} beschreibt sie."
DESCRIBE_DONE = "Jedes Foto hat einen Bildtext."
DESCRIBE_LOADING = "Das Modell, das Fotos beschreibt, wird geladen …"
DESCRIBING = "Fotos werden beschrieben: {n} von {total}{left}"
DESCRIBE_STOP = "Beschreiben stoppen"
DESCRIBE_TRAINING = "Gerade läuft ein Training, und Fotos zu beschreiben braucht auch Speicher."
DESCRIBE_ANYWAY = "Trotzdem beschreiben lassen"
DESCRIBE_WITH = "Wer sie beschreibt"
DESCRIBE_OFFER = "Fotos beschreiben lassen: ein Modell dafür herunterladen"
DESCRIBE_OTHER_OFFER = "Ein kleineres Modell dafür herunterladen"
DESCRIBE_NONE = "Jedes Foto hat einen Bildtext."
DESCRIBE_NONE_REMEDY = "Leere den Bildtext eines Fotos, um es beschreiben zu lassen."
DESCRIBE_NOBODY = "Auf diesem Computer ist kein Modell, das Fotos beschreibt."
DESCRIBE_NOBODY_REMEDY = (
    "Lade unter deinen Fotos eines herunter oder benutze dort einen eigenen Server."
)
DESCRIBE_WORDS_TITLE = "Was das Modell gefragt wird"
DESCRIBE_WORDS = "Anweisung; {class} steht für die Tierart"
DESCRIBE_WORDS_SAVE = "So fragen"
DESCRIBE_WORDS_USUAL = "Wie üblich fragen"
SERVER_TITLE = "Ein eigener Server: LM Studio, Ollama"
SERVER_ABOUT = (
    "An diese Adresse werden kleine Kopien deiner Fotos geschickt, ohne Ort und Datum. Das Modell "
    "dort kann Grafikspeicher belegen: Entlade es, bevor du trainierst."
)
SERVER_ADDRESS = "Adresse, etwa http://127.0.0.1:1234/v1"
SERVER_LOOK = "Modelle suchen"
SERVER_MODELS = "Wähle ein Modell, das Fotos sehen kann:"
SERVER_EMPTY = "Dort ist kein Modell. Lade dort eines, das Fotos sehen kann."
SERVER_ALLOW = "Meine Fotos an {address} schicken"
SERVER_ROW = "{model} auf {address}"
