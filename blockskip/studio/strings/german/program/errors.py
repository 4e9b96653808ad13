"""The same in German for texts of the program outside the studio: memory, files, values."""

from __future__ import annotations

ERRORS: dict[str, str] = {
    # too little RAM, disk space, files, threads (core/shortage.py); {work} is an accusative
    "There was not enough RAM for this.": "Das RAM reichte nicht.",
    "There was not enough RAM for {work}.": "Das RAM reichte nicht für {work}.",
    "The system ended {work}, most likely because RAM ran out.": (
        "Das System hat {work} beendet, sehr wahrscheinlich, weil das RAM ausging."
    ),
    "The system ended {work} because RAM ran out.": (
        "Das System hat {work} beendet, weil das RAM ausging."
    ),
    "this run": "dieses Training",
    "the training": "das Training",
    "the download": "das Herunterladen",
    "a picture": "ein Bild",
    "the sampling of pictures": "das Erzeugen von Bildern",
    "describing photos": "das Beschreiben von Fotos",
    "a helper of the studio": "einen Hilfsprozess des Studios",
    "Close other programs, then resume.": "Schließe andere Programme und setze dann fort.",
    "Close other programs, then resume; nothing saved is lost.": (
        "Schließe andere Programme und setze dann fort; nichts Gespeichertes ist verloren."
    ),
    "Close other programs and try again.": "Schließe andere Programme und versuche es noch einmal.",
    "Too many files are open at once for this system.": (
        "Für dieses System sind zu viele Dateien gleichzeitig geöffnet."
    ),
    "Close other programs and try again; on Linux and macOS, type “ulimit -n 4096” in the terminal "
    "first.": "Schließe andere Programme und versuche es noch einmal.",
    "The system allows no more threads or processes.": (
        "Das System erlaubt keine weiteren Prozesse."
    ),
    "The disk is full.": "Die Platte ist voll.",
    "Free some space ({command} frees caches), then resume.": (
        "Schaffe Platz (beim Modell, unter „Wo alles gespeichert wird“, lässt sich "
        "Zwischenspeicher freigeben) und setze dann fort."
    ),
    "Training stopped on an unexpected error ({kind}).": (
        "Das Training wurde durch einen unerwarteten Fehler gestoppt ({kind})."
    ),
    "Nothing saved is lost; resume to continue. Details: {log}": (
        "Nichts Gespeichertes ist verloren; mit „Fortsetzen“ geht es weiter. Einzelheiten: {log}"
    ),
    "{file} ended with an error.": "{file} endete mit einem Fehler.",
    "Details are in studio.log.": "Einzelheiten stehen in studio.log.",
    "Details are in {file}.": "Einzelheiten stehen in {file}.",
    # how much a stage took (runs/ram_figures.py)
    "{stage} was planned with {planned} GiB of {memory} and took up to {taken}.": (
        "{stage}: geplant waren {planned} GB {memory}, gebraucht wurden bis zu {taken} GB."
    ),
    "{stage} was planned with {planned} GiB of {memory} and ended before it was measured.": (
        "{stage}: geplant waren {planned} GB {memory}; der Verbrauch war noch nicht gemessen."
    ),
    "graphics memory": "Grafikspeicher",
    "Reading the captions": "Bildtexte lesen",
    "Turning photos into latents": "Fotos umwandeln",
    "Computing the skipped blocks": "Übersprungene Blöcke berechnen",
    "Sampling pictures": "Bilder erzeugen",
    "The run": "Das Training",
    # the data folder (core/paths.py)
    "The environment variable BLOCKSKIP_DATA is {path}, but there is no such home folder.": (
        "Die Umgebungsvariable BLOCKSKIP_DATA ist {path}, aber dieses Benutzerverzeichnis gibt es "
        "nicht."
    ),
    "Set it to a whole path.": "Setze sie auf einen vollständigen Pfad.",
    "{folder} is a file, but models and runs need a folder there.": (
        "{folder} ist eine Datei, aber Modelle und Trainings brauchen dort einen Ordner."
    ),
    "Move it away, or set the environment variable BLOCKSKIP_DATA to another place.": (
        "Verschiebe sie oder setze die Umgebungsvariable BLOCKSKIP_DATA auf einen anderen Ordner."
    ),
    "The environment variable BLOCKSKIP_DATA sets the data folder and takes precedence.": (
        "Den Datenordner legt die Umgebungsvariable BLOCKSKIP_DATA fest; sie hat Vorrang."
    ),
    "Remove it, or set it to the folder you want.": (
        "Entferne sie oder setze sie auf den gewünschten Ordner."
    ),
    "“{path}” is not an absolute path.": "„{path}“ ist kein vollständiger Pfad.",
    "Enter it from the drive letter or / on.": "Gib ihn ab dem Laufwerksbuchstaben oder ab / ein.",
    "{folder} lies inside the program's own folder, which an update replaces.": (
        "{folder} liegt im Ordner des Programms, den eine Aktualisierung ersetzt."
    ),
    "Choose a folder outside of it.": "Wähle einen Ordner außerhalb davon.",
    "This user has no home folder, where models and runs would lie.": (
        "Dieses Benutzerkonto hat kein eigenes Verzeichnis, in dem Modelle und Trainings liegen "
        "könnten."
    ),
    "Set the environment variable BLOCKSKIP_DATA to a folder for them.": (
        "Setze die Umgebungsvariable BLOCKSKIP_DATA auf einen Ordner dafür."
    ),
    "{file} cannot be read: it says where models and runs live.": (
        "{file} ist nicht lesbar: Darin steht, wo Modelle und Trainings liegen."
    ),
    "Delete it and choose the folder again; the runs themselves are safe.": (
        "Lösche die Datei und wähle den Ordner noch einmal; die Trainings selbst sind unversehrt."
    ),
    "The drive of {folder} has only {free} GiB free.": (
        "Auf dem Laufwerk von {folder} sind nur {free} GB frei."
    ),
    "Free some space, or choose another drive: a large model takes about 32 GiB.": (
        "Schaffe Platz oder wähle ein anderes Laufwerk: Ein großes Modell braucht etwa 32 GB."
    ),
    # files and drives (core/files.py, core/safetensors_files.py)
    "The drive {drive} is not there.": "Das Laufwerk {drive} ist nicht da.",
    "Attach it, or choose another place than {folder}; that of models and runs is set by the "
    "environment variable BLOCKSKIP_DATA.": (
        "Schließe es an oder wähle einen anderen Ordner als {folder}; den für Modelle und "
        "Trainings legt die Umgebungsvariable BLOCKSKIP_DATA fest."
    ),
    "The disk is full: {file} could not be written in {folder}.": (
        "Die Platte ist voll: {file} ließ sich nicht in {folder} speichern."
    ),
    "Free some space ({command} frees caches), or move the folder of models and runs to another "
    "drive and set the environment variable BLOCKSKIP_DATA to it; then resume.": (
        "Schaffe Platz (beim Modell, unter „Wo alles gespeichert wird“, lässt sich "
        "Zwischenspeicher freigeben) und setze dann fort."
    ),
    "{path} could not be written: {reason}.": "{path} ließ sich nicht speichern: {reason}.",
    "Check that the folder exists and may be written to.": (
        "Prüfe, ob es den Ordner gibt und ob darin geschrieben werden darf."
    ),
    "{path} cannot be used: {reason}.": "{path} lässt sich nicht verwenden: {reason}.",
    "A file, or the network": "Eine Datei oder das Netz",
    "Check that it is there and that you may use it.": (
        "Prüfe, ob es da ist und ob du es benutzen darfst."
    ),
    "“{path}” is no path: {reason}.": "„{path}“ ist kein Pfad: {reason}.",
    "a path has at least one character, and none that cannot be seen": (
        "ein Pfad hat mindestens ein Zeichen und keine unsichtbaren"
    ),
    "Enter another.": "Gib einen anderen ein.",
    "Delete it.": "Lösche die Datei.",
    "it is nested too deeply": "zu tief verschachtelt",
    "it is not text in UTF-8": "kein Text in UTF-8",
    "its content is not what was written": "der Inhalt ist nicht der, der gespeichert wurde",
    "it is cut short, or is no safetensors file": "unvollständig oder keine safetensors-Datei",
    "it is gone": "nicht mehr da",
    "Resume the run: caches are made again, and training continues from the newest good "
    "checkpoint. If it happens again, check the drive.": (
        "Setze das Training fort: Zwischenspeicher werden neu angelegt, und es geht beim neuesten "
        "unversehrten Stand weiter. Passiert es noch einmal, prüfe das Laufwerk."
    ),
    "it was made again and is damaged again": "neu angelegt und wieder beschädigt",
    "Check the drive.": "Prüfe das Laufwerk.",
    # what the system says, in English on every computer but Windows
    "No such file or directory": "nicht vorhanden",
    "Permission denied": "die Berechtigung fehlt",
    "Operation not permitted": "nicht erlaubt",
    "Read-only file system": "das Laufwerk ist schreibgeschützt",
    "Input/output error": "Ein- oder Ausgabefehler",
    "Is a directory": "es ist ein Ordner",
    "Not a directory": "es ist kein Ordner",
    "File name too long": "der Name ist zu lang",
    "Connection reset by peer": "die Verbindung wurde abgebrochen",
    "Connection timed out": "keine Antwort",
    # models and presets (core/presets.py), settings (core/settings.py, core/formats.py)
    "There is no model called “{model}”.": "Ein Modell „{model}“ gibt es nicht.",
    "Known models: {models}.": "Bekannte Modelle: {models}.",
    "presets/{name}.toml cannot be read: {reason}.": (
        "presets/{name}.toml ist nicht lesbar: {reason}."
    ),
    "Restore the file from the download of BlockSkip Studio.": (
        "Stelle die Datei aus dem Download von BlockSkip Studio wieder her."
    ),
    "The run's settings do not work: {reason}.": (
        "Die Einstellungen des Trainings funktionieren nicht: {reason}."
    ),
    "Make a new run.": "Lege ein neues Training an.",
    "Unknown setting: {names}.": "Unbekannte Einstellung: {names}.",
    "The run was made by another version; update BlockSkip Studio.": (
        "Das Training stammt von einer anderen Version; aktualisiere BlockSkip Studio."
    ),
    "s_max_px = {most} is below s_min_px = {least}": (
        "s_max_px = {most} ist kleiner als s_min_px = {least}"
    ),
    "The photos of this page were prepared by a later version of BlockSkip Studio.": (
        "Die Fotos dieser Seite stammen von einer neueren Version von BlockSkip Studio."
    ),
    "Update BlockSkip Studio.": "Aktualisiere BlockSkip Studio.",
    # why a value does not work (core/validation.py, core/settings.py, pydantic)
    "kind: {value} is not possible: {reason}.": "Tierart: {value} ist nicht möglich, {reason}.",
    "name: {value} is not possible: {reason}.": "Name: {value} ist nicht möglich, {reason}.",
    "budget: {value} is not possible: {reason}.": "Budget: {value} ist nicht möglich, {reason}.",
    "steps: {value} is not possible: {reason}.": "Schritte: {value} ist nicht möglich, {reason}.",
    "step: {value} is not possible: {reason}.": "Schritt: {value} ist nicht möglich, {reason}.",
    "rank: {value} is not possible: {reason}.": "Rang: {value} ist nicht möglich, {reason}.",
    "seed: {value} is not possible: {reason}.": "Seed: {value} ist nicht möglich, {reason}.",
    "speed: {value} is not possible: {reason}.": (
        "Probebilder: {value} ist nicht möglich, {reason}."
    ),
    "model: {value} is not possible: {reason}.": "Modell: {value} ist nicht möglich, {reason}.",
    "prompt: {value} is not possible: {reason}.": "Prompt: {value} ist nicht möglich, {reason}.",
    "strength: {value} is not possible: {reason}.": "Stärke: {value} ist nicht möglich, {reason}.",
    "format: {value} is not possible: {reason}.": "Format: {value} ist nicht möglich, {reason}.",
    "it is not UTF-8": "denn es ist kein UTF-8",
    "it has more than {most} characters": "denn es hat mehr als {most} Zeichen",
    "it has line breaks or characters that cannot be seen": (
        "denn es enthält Zeilenumbrüche oder unsichtbare Zeichen"
    ),
    "it is blank": "denn es ist leer",
    "it should be a number": "denn es muss eine Zahl sein",
    "it is no path": "denn es ist kein Pfad",
    "it should be a table of keys and values": (
        "denn es muss eine Tabelle aus Namen und Werten sein"
    ),
    "input should be greater than or equal to {least}": "denn es muss mindestens {least} sein",
    "input should be less than or equal to {most}": "denn es darf höchstens {most} sein",
    "input should be greater than {least}": "denn es muss größer als {least} sein",
    "input should be less than {most}": "denn es muss kleiner als {most} sein",
    "input should be a valid integer": "denn es muss eine ganze Zahl sein",
    "input should be a valid integer, got a number with a fractional part": (
        "denn es muss eine ganze Zahl sein"
    ),
    "input should be a valid integer, unable to parse string as an integer": (
        "denn es muss eine ganze Zahl sein"
    ),
    "input should be a valid number, unable to parse string as a number": (
        "denn es muss eine Zahl sein"
    ),
    "input should be a valid number": "denn es muss eine Zahl sein",
    "input should be a finite number": "denn es muss eine endliche Zahl sein",
    "input should be a valid string": "denn es muss ein Text sein",
    "input should be {choices} or {last}": "denn möglich sind nur {choices} oder {last}",
    "string should have at least 1 character": "denn es muss mindestens 1 Zeichen haben",
    "string should have at most {most} characters": "denn es darf höchstens {most} Zeichen haben",
    # files of a model that cannot be read (models/sources/file_kinds.py, tensors.py and others)
    "it is empty": "leer",
    "it is only a pointer of Git LFS to the model": "nur ein Verweis von Git LFS auf das Modell",
    "Run “git lfs pull” in its folder, or download the file from the model's page.": (
        "Lade die Datei von der Seite des Modells herunter."
    ),
    "it is a zip archive, or a PyTorch file, which can hold programs and is never opened": (
        "ein ZIP-Archiv oder eine PyTorch-Datei; sie kann Programme enthalten und wird nie geöffnet"
    ),
    "it is a PyTorch file, which can hold programs and is never opened": (
        "eine PyTorch-Datei; sie kann Programme enthalten und wird nie geöffnet"
    ),
    "it is a compressed archive": "ein gepacktes Archiv",
    "it holds only zeros, its download was not finished": (
        "nur Nullen, das Herunterladen wurde nicht beendet"
    ),
    "it is a web page. The download needed a login or failed": (
        "eine Webseite; das Herunterladen misslang oder verlangte eine Anmeldung"
    ),
    "it is a text, “{line}”": "ein Text, „{line}“",
    "it is a download that was not finished": "das Herunterladen wurde nicht beendet",
    "it is cut short, or is no GGUF file": "unvollständig oder keine GGUF-Datei",
    "Take the .safetensors file of the same model.": (
        "Nimm die .safetensors-Datei desselben Modells."
    ),
    "Let the download finish first.": "Warte, bis das Herunterladen fertig ist.",
    "Fetch the file again.": "Lade die Datei noch einmal herunter.",
    "Fetch it again.": "Lade es noch einmal herunter.",
    "Fetch the model again.": "Lade das Modell noch einmal herunter.",
    "Fetch or make it again.": "Lade die Datei noch einmal herunter oder erstelle sie neu.",
    "{file} lacks the tensor {name}.": "In {file} fehlt {name}.",
    "It is another model's file, or was cut short; fetch it again.": (
        "Die Datei gehört zu einem anderen Modell oder ist unvollständig; lade sie noch einmal "
        "herunter."
    ),
    "It is another model's file; choose the right one.": (
        "Die Datei gehört zu einem anderen Modell; wähle die richtige."
    ),
    "{folder} lacks weights (*.safetensors).": "In {folder} fehlen die Gewichte (*.safetensors).",
    "{folder} lacks {file}.safetensors.": "In {folder} fehlt {file}.safetensors.",
    "{file} lacks the scales of its float8 weights: “{name}” holds numbers up to {most}, as only "
    "scaled weights do.": (
        "In {file} fehlen die Skalierungen der float8-Gewichte: „{name}“ enthält Zahlen bis "
        "{most}, was nur mit Skalierung vorkommt."
    ),
    "The model is not complete; fetch it again.": (
        "Das Modell ist unvollständig; lade es noch einmal herunter."
    ),
    "{file} is packed in a way that cannot be read here: it is not known what “{name}” ({kind}, "
    "{shape}) means.": (
        "{file} ist auf eine Art gepackt, die hier nicht lesbar ist: Was „{name}“ ({kind}, "
        "{shape}) bedeutet, ist unbekannt."
    ),
    "{file} is packed in a way that cannot be read here ({kind}).": (
        "{file} ist auf eine Art gepackt, die hier nicht lesbar ist ({kind})."
    ),
    "Use the bf16, fp16, fp8 or GGUF file of the same model.": (
        "Nimm die bf16-, fp16-, fp8- oder GGUF-Datei desselben Modells."
    ),
    "Use the bf16, fp16 or fp8 file of the same model.": (
        "Nimm die bf16-, fp16- oder fp8-Datei desselben Modells."
    ),
    "Use a Q8_0, Q6_K, Q5_K, Q4_K or bf16 GGUF of the same model, or its safetensors file.": (
        "Nimm ein GGUF desselben Modells mit Q8_0, Q6_K, Q5_K, Q4_K oder bf16 oder seine "
        "safetensors-Datei."
    ),
    # shapes of many texts, matched last
    "{file} cannot be read: {reason}.": "{file} ist nicht lesbar: {reason}.",
    "{file} can hold programs and is never opened.": (
        "{file} kann Programme enthalten und wird nie geöffnet."
    ),
    "{what}: {value} is not possible: {reason}.": "{what}: {value} ist nicht möglich, {reason}.",
    "{value} is not possible: {reason}": "{value} ist nicht möglich, {reason}",
    "{key} is missing": "{key} fehlt",
    "{path} is not there.": "{path} gibt es nicht.",
    "{file}, line {number}": "{file}, Zeile {number}",
    "{file}, entry {number}": "{file}, Eintrag {number}",
}
