"""The same in German for texts of the program outside the studio: commands and results."""

from __future__ import annotations

RESULTS: dict[str, str] = {
    # starting, queueing and commanding a run
    "Run “{run}” is done.": "Das Training „{run}“ ist fertig.",
    "Give it more steps: {command} {run} --steps N": (
        "Gib ihm unter „Weitertrainieren“ mehr Schritte."
    ),
    "A training began.": "Ein Training hat begonnen.",
    "Describe the rest of the photos after it.": "Lass die übrigen Fotos danach beschreiben.",
    "Run “{run}” is running.": "Das Training „{run}“ läuft.",
    "Watch it in the studio.": "Sieh ihm im Studio zu.",
    "Another run is being started or deleted just now.": (
        "Gerade wird ein anderes Training begonnen oder gelöscht."
    ),
    "Try again.": "Versuche es noch einmal.",
    "Run “{run}” is not in the queue.": "Das Training „{run}“ ist nicht in der Warteschlange.",
    "The list of runs shows which are.": "Die Liste der Trainings zeigt, welche darin sind.",
    "Delete it; the runs themselves are kept.": (
        "Lösche die Datei; die Trainings selbst bleiben erhalten."
    ),
    "Run “{run}” is outside the data folder.": (
        "Das Training „{run}“ liegt außerhalb des Datenordners."
    ),
    "Only runs in the data folder can be put in the queue; train it by itself.": (
        "In die Warteschlange können nur Trainings aus dem Datenordner; trainiere dieses einzeln."
    ),
    "This run is about to end.": "Dieses Training endet gleich.",
    "Resume it first.": "Setze es zuerst fort.",
    "{path} is no command and was ignored.": "{path} ist kein Befehl und wurde übergangen.",
    "Use the page's buttons.": "Benutze die Knöpfe der Seite.",
    "Run “{run}” was never started.": "Das Training „{run}“ wurde nie begonnen.",
    "Start it first.": "Beginne es zuerst.",
    "Pause it first.": "Pausiere es zuerst.",
    "Run “{run}” has already trained for {steps} steps.": (
        "Das Training „{run}“ hat schon {steps} Schritte."
    ),
    "Choose more than {steps} steps in all.": "Wähle insgesamt mehr als {steps} Schritte.",
    "Run “{run}” is not running ({state}).": "Das Training „{run}“ läuft nicht.",
    "No photo is left to train on.": "Zum Trainieren bleibt kein Foto übrig.",
    "Hold out fewer photos.": "Halte weniger Fotos zurück.",
    "There is no run called “{run}”.": "Ein Training „{run}“ gibt es nicht.",
    "The latest runs are: {runs}.": "Die neuesten Trainings sind: {runs}.",
    "No run has been made yet.": "Es gibt noch kein Training.",
    "No photos are held out of the demo model’s training.": (
        "Beim Training des Demo-Modells werden keine Fotos zurückgehalten."
    ),
    "Its judge knows the drawn pets; leave --hold-out away.": (
        "Seine Bewertung kennt die gezeichneten Tiere schon."
    ),
    "{wanted} of {count} photos cannot be held out.": (
        "{wanted} von {count} Fotos lassen sich nicht zurückhalten."
    ),
    "Leave some for training.": "Lass welche fürs Training übrig.",
    # names, folders and deleting (runs/folders.py, runs/storage.py)
    "“{name}” is no folder: {reason}.": "„{name}“ ist kein Ordner: {reason}.",
    "Name another.": "Nenne einen anderen.",
    "“{name}” cannot be the name of a run.": "„{name}“ kann kein Training heißen.",
    "Use letters, digits, spaces, dots, dashes and underscores.": (
        "Benutze Buchstaben, Ziffern, Leerzeichen, Punkte, Binde- und Unterstriche."
    ),
    "There is already a run called “{name}” ({folder}).": (
        "Ein Training „{name}“ gibt es schon ({folder})."
    ),
    "Choose another name with --out, or continue it: {command} {name}": (
        "Wähle einen anderen Namen oder setze es fort."
    ),
    "There is already a run called “{name}”.": "Ein Training „{name}“ gibt es schon.",
    "Choose another name.": "Wähle einen anderen Namen.",
    "Stop it before renaming it.": "Stoppe es, bevor du es umbenennst.",
    "Stop it before deleting it.": "Stoppe es, bevor du es löschst.",
    "{file} could not be deleted.": "{file} ließ sich nicht löschen.",
    "Close programs that show it, then delete the run again.": (
        "Schließe Programme, die die Datei zeigen, und lösche das Training dann noch einmal."
    ),
    "Close programs that show it, then delete it again.": (
        "Schließe Programme, die die Datei zeigen, und lösche das Bild dann noch einmal."
    ),
    # saved steps (runs/checkpoints.py, training)
    "Step {step} of run “{run}” is not kept.": (
        "Schritt {step} des Trainings „{run}“ wurde nicht aufbewahrt."
    ),
    "These are: {steps}.": "Aufbewahrt sind: {steps}.",
    "Damaged files of run “{run}”: {files}.": "Beschädigte Dateien des Trainings „{run}“: {files}.",
    "Choose another step, or resume the run to train these steps again.": (
        "Wähle einen anderen Schritt oder setze das Training fort, um diese Schritte noch einmal "
        "zu trainieren."
    ),
    "Damaged: {files}. Step {step} is used.": "Beschädigt: {files}. Verwendet wird Schritt {step}.",
    "Run “{run}” has no checkpoint yet.": "Das Training „{run}“ hat noch keinen Zwischenstand.",
    "Let it train first: {command} {run}": "Lass es zuerst trainieren.",
    "{file} belongs to another run or to other photos.": (
        "{file} gehört zu einem anderen Training oder zu anderen Fotos."
    ),
    "Start a new run instead of resuming this one.": (
        "Beginne ein neues Training, statt dieses fortzusetzen."
    ),
    "Delete it, or put back what was there.": (
        "Lösche die Datei oder stelle wieder her, was dort war."
    ),
    "The loss became {value} at step {step}: training went astray.": (
        "Bei Schritt {step} wurde der Verlust {value}: Das Training ist entgleist."
    ),
    "The gradients became {value} at step {step}: training went astray.": (
        "Bei Schritt {step} wurden die Gradienten {value}: Das Training ist entgleist."
    ),
    "Lower the learning rate (it is {rate}) and train again.": (
        "Verringere die Lernrate (jetzt {rate}) und trainiere noch einmal."
    ),
    "The weights of {name} are not in the model's files.": (
        "Die Gewichte von {name} fehlen in den Dateien des Modells."
    ),
    "The model is not complete, or another kind; fetch it again.": (
        "Das Modell ist unvollständig oder ein anderes; lade es noch einmal herunter."
    ),
    # the user's own pictures (runs/image_*.py, runs/control.py)
    "Run “{run}” is training: there is room for one model at a time.": (
        "„{run}“ wird gerade trainiert: Es ist nur Platz für ein Modell."
    ),
    "Pause it, or wait until it is done.": "Pausiere es oder warte, bis es fertig ist.",
    "Pictures of run “{run}” are being made.": (
        "Gerade werden Bilder für das Training „{run}“ erzeugt."
    ),
    "Wait for them, or cancel them.": "Warte darauf oder brich sie ab.",
    "A strength of {strength} cannot be used.": "Eine Stärke von {strength} geht nicht.",
    "The seed {seed} cannot be used.": "Der Seed {seed} geht nicht.",
    "Choose 0 to {most}.": "Wähle 0 bis {most}.",
    "There is no picture called “{id}”.": "Ein Bild „{id}“ gibt es nicht.",
    "Choose one of those shown.": "Wähle eines von denen, die du siehst.",
    "The picture has no description.": "Das Bild hat keine Beschreibung.",
    "Write what it should show.": "Schreibe auf Englisch, was es zeigen soll.",
    "The description has {count} characters.": "Die Beschreibung hat {count} Zeichen.",
    "Use at most {most}.": "Nimm höchstens {most}.",
    "The description has line breaks or characters that cannot be seen.": (
        "Die Beschreibung enthält Zeilenumbrüche oder unsichtbare Zeichen."
    ),
    "Write it on one line.": "Schreibe sie in eine Zeile.",
    "Close other programs that use the card, then try again.": (
        "Schließe andere Programme, die die Karte benutzen, und versuche es noch einmal."
    ),
    "The picture could not be made ({kind}).": "Das Bild ließ sich nicht erzeugen ({kind}).",
    "Ask for it again. Details: {log}": "Fordere es noch einmal an. Einzelheiten: {log}",
    # likeness (runs/likeness*.py)
    "There are no pictures to compare.": "Es gibt keine Bilder zum Vergleichen.",
    "Even step {step} repeats the photos whatever is asked: use it at less strength, or train "
    "fewer steps {judged}.": (
        "Selbst Schritt {step} wiederholt die Fotos, egal was verlangt wird: Benutze ihn mit "
        "weniger Stärke oder trainiere weniger Schritte {judged}."
    ),
    "No step looks like your pet yet: train more steps, or add clearer photos {judged}.": (
        "Noch sieht kein Schritt deinem Tier ähnlich: Trainiere mehr Schritte oder füge klarere "
        "Fotos hinzu {judged}."
    ),
    "Keep step {step}: from step {since} on, other animals or places turn into those of your "
    "photos {judged}.": (
        "Behalte Schritt {step}: Ab Schritt {since} werden andere Tiere oder Orte zu denen auf "
        "deinen Fotos {judged}."
    ),
    "Keep step {step}, the last one: it is the most like your pet {judged}.": (
        "Behalte Schritt {step}, den letzten: Er ähnelt deinem Tier am meisten {judged}."
    ),
    "Keep step {step}: later ones are no more like your pet {judged}.": (
        "Behalte Schritt {step}: Spätere ähneln deinem Tier nicht mehr {judged}."
    ),
    "(judged from {count} pictures a step)": "(beurteilt nach {count} Bildern je Schritt)",
    "Look at row {row}, “{prompt}”: keep the last step at which it is not yet your pet.": (
        "Sieh dir Zeile {row} an, „{prompt}“: Behalte den letzten Schritt, in dem es noch nicht "
        "dein Tier ist."
    ),
    "Look at pictures of “{prompt}”: keep the last step at which it is not yet your pet.": (
        "Sieh dir Bilder zu „{prompt}“ an: Behalte den letzten Schritt, in dem es noch nicht dein "
        "Tier ist."
    ),
    "The pictures could not be measured.": "Die Bilder ließen sich nicht messen.",
    "Run “{run}” has no photo that can be opened.": (
        "Im Training „{run}“ lässt sich kein Foto öffnen."
    ),
    "Restore the run's folder photos/.": "Stelle den Ordner photos/ des Trainings wieder her.",
    "Another model is at work: there is room for one at a time.": (
        "Gerade arbeitet ein anderes Modell: Es ist nur Platz für eines."
    ),
    "Wait until it is done, then ask for more pictures again.": (
        "Warte, bis es fertig ist, und fordere dann noch einmal mehr Bilder an."
    ),
    # ComfyUI (runs/into_comfyui.py, memory/comfyui_server.py)
    "ComfyUI itself does not load LoRAs of {model}.": (
        "ComfyUI selbst lädt keine LoRAs von {model}."
    ),
    "Export the file without copying it there.": "Lade die Datei herunter, statt sie zu kopieren.",
    "Copied into ComfyUI: {file}.safetensors. {then}": (
        "In ComfyUI kopiert: {file}.safetensors. {then}"
    ),
    "Already in ComfyUI: {file}.safetensors. {then}": (
        "Schon in ComfyUI: {file}.safetensors. {then}"
    ),
    "ComfyUI lists it: press R in ComfyUI’s page.": (
        "ComfyUI kennt die Datei: Drücke auf der Seite von ComfyUI die Taste R."
    ),
    "ComfyUI lists it: press R in ComfyUI’s page. {then}": (
        "ComfyUI kennt die Datei: Drücke auf der Seite von ComfyUI die Taste R. {then}"
    ),
    "ComfyUI lists it from its next start, or once you press R in its page.": (
        "ComfyUI kennt die Datei ab dem nächsten Start oder sobald du auf seiner Seite die Taste R "
        "drückst."
    ),
    "ComfyUI lists it from its next start, or once you press R in its page. {then}": (
        "ComfyUI kennt die Datei ab dem nächsten Start oder sobald du auf seiner Seite die Taste R "
        "drückst. {then}"
    ),
    "A ComfyUI is running that does not look there: start the one of {folder}, or choose the "
    "running one’s folder as yours.": (
        "Es läuft ein ComfyUI, das dort nicht nachsieht: Starte das aus {folder} oder wähle den "
        "Ordner des laufenden als deinen."
    ),
    "A ComfyUI is running that does not look there: start the one of {folder}, or choose the "
    "running one’s folder as yours. {then}": (
        "Es läuft ein ComfyUI, das dort nicht nachsieht: Starte das aus {folder} oder wähle den "
        "Ordner des laufenden als deinen. {then}"
    ),
    "The workflow “{workflow}” is in ComfyUI’s sidebar.": (
        "Der Workflow „{workflow}“ steht in der Seitenleiste von ComfyUI."
    ),
    "ComfyUI does not answer any more.": "ComfyUI antwortet nicht mehr.",
    "Close it if it still runs.": "Schließe es, falls es noch läuft.",
    "ComfyUI is making a picture: it frees its models when that is done.": (
        "ComfyUI macht gerade ein Bild: Danach gibt es seine Modelle frei."
    ),
    "Wait for it.": "Warte darauf.",
    "ComfyUI was asked, but kept its models.": (
        "ComfyUI wurde gefragt, hat seine Modelle aber behalten."
    ),
    "Close ComfyUI to free them.": "Schließe ComfyUI, um sie freizugeben.",
}
