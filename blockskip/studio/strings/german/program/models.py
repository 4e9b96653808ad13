"""The same in German for texts of the program outside the studio: downloads, ComfyUI."""

from __future__ import annotations

MODELS: dict[str, str] = {
    # the hub: access, network, disk (models/sources/hub_api.py, hub.py)
    "The hub does not know {repository}, or does not let you see it.": (
        "Hugging Face kennt {repository} nicht oder lässt dich nicht darauf zugreifen."
    ),
    "If you have a token, it may be wrong or too old: set the environment variable HF_TOKEN to a "
    "new one.": (
        "Falls du ein Token hast, ist es vielleicht falsch oder zu alt: Trage beim Modell ein "
        "neues ein."
    ),
    "{model} cannot be downloaded: offline mode is on.": (
        "{model} lässt sich nicht herunterladen: Der Offline-Modus ist an."
    ),
    "Unset HF_HUB_OFFLINE.": "Entferne die Umgebungsvariable HF_HUB_OFFLINE.",
    "The hub does not know your token: it is wrong, too old or was withdrawn.": (
        "Hugging Face kennt dein Token nicht: Es ist falsch, zu alt oder wurde widerrufen."
    ),
    "Make a new read token in your settings there.": (
        "Erstelle dort in deinen Einstellungen ein neues Token der Art „Read“."
    ),
    "The hub answered with an error ({status}).": (
        "Hugging Face antwortete mit einem Fehler ({status})."
    ),
    "Try again later: {command}": "Versuche es später noch einmal.",
    "The hub ({page}) cannot be reached.": "Hugging Face ({page}) ist nicht erreichbar.",
    "Check the connection; what is here already is kept: {command}": (
        "Prüfe die Verbindung und versuche es noch einmal; was schon da ist, bleibt erhalten."
    ),
    "Check the connection; try again.": "Prüfe die Verbindung und versuche es noch einmal.",
    "The download of {model} was interrupted ({kind}).": (
        "Das Herunterladen von {model} wurde unterbrochen ({kind})."
    ),
    "It goes on where it stopped: {command}": (
        "Versuche es noch einmal: Es geht dort weiter, wo es aufgehört hat."
    ),
    "{model} is gated, and your account is not let in yet.": (
        "Für {model} brauchst du eine Freigabe, und dein Konto hat noch keine."
    ),
    "With the account of your token, accept its licence ({licence}) at {page}; then fetch again.": (
        "Nimm mit dem Konto deines Tokens auf {page} die Lizenz an ({licence}); lade es dann noch "
        "einmal herunter."
    ),
    "{model} is gated: the hub wants to know who you are.": (
        "Für {model} brauchst du eine Freigabe: Hugging Face will wissen, wer du bist."
    ),
    "Make a free account, accept its licence ({licence}) at {page}, make a read token in your "
    "settings there, set the environment variable HF_TOKEN to it, and in the same window: "
    "{command}": (
        "Lege ein kostenloses Konto an, nimm auf {page} die Lizenz an ({licence}), erstelle dort "
        "in deinen Einstellungen ein Token der Art „Read“ und trage es beim Modell ein."
    ),
    "{repository} holds no model in diffusers' layout.": (
        "In {repository} ist kein Modell im Aufbau von diffusers."
    ),
    "{repository} holds no {file}.safetensors.": "In {repository} fehlt {file}.safetensors.",
    "Choose another.": "Wähle etwas anderes.",
    "If its repository is right by now: {command}": (
        "Falls das beim Anbieter inzwischen behoben ist, lade es noch einmal herunter."
    ),
    "{file}, of {model}, is missing or cut short.": (
        "{file} von {model} fehlt oder ist unvollständig."
    ),
    "Fetch it again: {command}": "Lade es noch einmal herunter.",
    "The download of {model} is not finished.": "{model} ist noch nicht ganz heruntergeladen.",
    "Go on where it stopped: {command}": (
        "Lade es weiter herunter; es geht dort weiter, wo es aufgehört hat."
    ),
    "{model} needs {needed} GiB, and the drive of {folder} has {free} GiB free ({reserve} GiB of "
    "them are left alone).": (
        "{model} braucht {needed} GB, und auf dem Laufwerk von {folder} sind {free} GB frei "
        "({reserve} GB davon bleiben unberührt)."
    ),
    "Free some space, or keep models and runs on another drive: choose it in the studio, or set "
    "the environment variable BLOCKSKIP_DATA to a folder there.": (
        "Schaffe Platz oder bewahre Modelle und Trainings auf einem anderen Laufwerk auf: Das "
        "änderst du unter „Wo alles gespeichert wird“."
    ),
    "{file} arrived damaged and was thrown away.": "{file} kam beschädigt an und wurde verworfen.",
    "The download of {model} could not be started.": (
        "Das Herunterladen von {model} ließ sich nicht starten."
    ),
    "Details: {log}": "Einzelheiten: {log}",
    "The download of {model} broke off ({kind}).": (
        "Das Herunterladen von {model} brach ab ({kind})."
    ),
    "Start it again. Details: {log}": "Starte es noch einmal. Einzelheiten: {log}",
    # the token and the environment (models/sources/hub_token.py, hub_environment.py)
    "This is no token.": "Das ist kein Token.",
    "A token is one word that begins with hf_.": (
        "Ein Token ist ein einziges Wort, das mit hf_ beginnt."
    ),
    "The token could not be tested.": "Das Token ließ sich nicht prüfen.",
    "The environment variable HF_TOKEN holds another token and takes precedence.": (
        "In der Umgebungsvariablen HF_TOKEN steht ein anderes Token, und sie hat Vorrang."
    ),
    "Remove it, or set it to this token, and start again.": (
        "Entferne sie oder setze sie auf dieses Token, und starte das Studio neu."
    ),
    "The token is right, but its account is not let in to {model} yet.": (
        "Das Token stimmt, aber sein Konto ist für {model} noch nicht freigegeben."
    ),
    "With that account, accept the licence ({licence}) at {page}, then try again. The token must "
    "be of the kind “read”, or may read gated repositories.": (
        "Nimm mit diesem Konto auf {page} die Lizenz an ({licence}) und versuche es noch einmal. "
        "Das Token muss von der Art „Read“ sein oder Repositorys mit Freigabe lesen dürfen."
    ),
    "The environment variable {name} is no address that begins with https://.": (
        "Die Umgebungsvariable {name} ist keine Adresse, die mit https:// beginnt."
    ),
    "The environment variable {name} is “{text}”, not a number of seconds.": (
        "Die Umgebungsvariable {name} ist „{text}“, keine Zahl von Sekunden."
    ),
    "The environment variable {name} is no token: it has letters that no token has.": (
        "Die Umgebungsvariable {name} ist kein Token: Sie enthält Zeichen, die kein Token hat."
    ),
    "The environment variable {name} names {path}, which is not there.": (
        "Die Umgebungsvariable {name} nennt {path}, und das gibt es nicht."
    ),
    "The environment variable {name} names no usable proxy, such as http://proxy:8080.": (
        "Die Umgebungsvariable {name} nennt keinen brauchbaren Proxy wie http://proxy:8080."
    ),
    "Correct or remove it, and start again.": (
        "Korrigiere oder entferne sie, und starte das Studio neu."
    ),
    "The proxy in the environment ({name}) is a SOCKS proxy, which needs the Python package "
    "socksio.": (
        "Der eingestellte Proxy ({name}) ist ein SOCKS-Proxy; dafür ist das Python-Paket socksio "
        "nötig."
    ),
    "Install socksio in the folder .venv, or name an HTTP proxy instead.": (
        "Installiere socksio im Ordner .venv oder nenne stattdessen einen HTTP-Proxy."
    ),
    # models that are not here, or not any more (models/sources/registry.py, tools.py)
    "A demo model is missing ({folder}).": "Ein Demo-Modell fehlt ({folder}).",
    "Download BlockSkip Studio again, or make the model anew: {command}": (
        "Lade BlockSkip Studio noch einmal herunter."
    ),
    "{model} is not on this machine.": "{model} ist nicht auf diesem Computer.",
    "{model} is not read from single files, nor from ComfyUI's.": (
        "{model} lässt sich nicht aus einzelnen Dateien lesen, auch nicht aus denen von ComfyUI."
    ),
    "Download it: {command}. Or name a folder of it in diffusers' layout, one with a "
    "model_index.json.": "Lade es herunter.",
    "Download it: {command}": "Lade es herunter.",
    "Download it, after accepting its licence at {page}: {command}": (
        "Nimm auf {page} die Lizenz an und lade es dann herunter."
    ),
    "If ComfyUI has it: {command} FOLDER. Else download it: {command_2}": (
        "Wenn ComfyUI es hat, trage „Dein ComfyUI-Ordner“ ein. Sonst lade es herunter."
    ),
    "If ComfyUI has it: {command} FOLDER. Else download it, after accepting its licence at {page}: "
    "{command_2}": (
        "Wenn ComfyUI es hat, trage „Dein ComfyUI-Ordner“ ein. Sonst nimm auf {page} die Lizenz an "
        "und lade es dann herunter."
    ),
    "{file} cannot be read.": "{file} ist nicht lesbar.",
    "Delete it and choose your models again.": (
        "Lösche die Datei und wähle deine Modelle noch einmal."
    ),
    "{model} is no longer where it was: {path} is missing.": (
        "{model} ist nicht mehr, wo es war: {path} fehlt."
    ),
    "Put it back or attach its drive, or choose again: {command} FOLDER, or {command_2} …": (
        "Lege es zurück, schließe das Laufwerk an oder trage „Dein ComfyUI-Ordner“ noch einmal ein."
    ),
    "{model}'s {part} is missing in {folder}.": "Von {model} fehlt „{part}“ in {folder}.",
    "Put it back, or choose or download the model again.": (
        "Lege die Datei zurück oder wähle das Modell noch einmal oder lade es herunter."
    ),
    "{folder} holds no weights (*.safetensors).": (
        "In {folder} sind keine Gewichte (*.safetensors)."
    ),
    "The model in {folder} cannot be used: {reason}.": (
        "Das Modell in {folder} lässt sich nicht verwenden: {reason}."
    ),
    "“{name}” is missing or of another size": "„{name}“ fehlt oder hat eine andere Größe",
    "{file} does not hold all of the model: “{name}” is missing.": (
        "{file} enthält nicht das ganze Modell: „{name}“ fehlt."
    ),
    "{file} does not hold all of {model}: “{name}” is missing.": (
        "{file} enthält nicht alles von {model}: „{name}“ fehlt."
    ),
    "Fetch the file again, or choose other files.": (
        "Lade die Datei noch einmal herunter oder wähle andere Dateien."
    ),
    "{folder} does not hold the whole of {model}'s {part}: {reason}.": (
        "In {folder} ist „{part}“ von {model} nicht vollständig: {reason}."
    ),
    "{folder} does not hold the whole of {model}'s {part}.": (
        "In {folder} ist „{part}“ von {model} nicht vollständig."
    ),
    "Fetch it, or choose other files: {command} …": "Lade es herunter oder wähle andere Dateien.",
    "{folder} does not hold {model}: this is {other} ({difference}).": (
        "In {folder} ist nicht {model}, sondern {other}."
    ),
    "its {part} is {found}, not {wanted}": "„{part}“ ist {found}, nicht {wanted}",
    "its {part} has {setting} = {found}, not {wanted}": (
        "„{part}“ hat {setting} = {found}, nicht {wanted}"
    ),
    "{folder} does not hold {model}: {difference}.": "In {folder} ist nicht {model}: {difference}.",
    "{path} is damaged: it is not the JSON of a model's config.": (
        "{path} ist beschädigt: Das ist nicht die JSON-Datei mit dem Aufbau eines Modells."
    ),
    # ComfyUI's folder (models/sources/comfyui*.py, vocabularies.py)
    "ComfyUI's files could not be looked at.": (
        "Die Dateien von ComfyUI ließen sich nicht durchsuchen."
    ),
    "Check the path.": "Prüfe den Pfad.",
    "No ComfyUI folder was chosen.": "Es ist kein ComfyUI-Ordner ausgewählt.",
    "Name it under “Folder of your ComfyUI”, where the model is chosen, or: {command}": (
        "Trage ihn unter „Dein ComfyUI-Ordner“ ein, dort, wo du das Modell wählst."
    ),
    "No model that can be trained was found in {folder}. There is {found}.": (
        "In {folder} wurde kein Modell gefunden, das sich trainieren lässt. Gefunden wurde: "
        "{found}."
    ),
    "No model that can be trained was found in {folder}. {more}": (
        "In {folder} wurde kein Modell gefunden, das sich trainieren lässt. {more}"
    ),
    "No model that can be trained was found in {folder}.": (
        "In {folder} wurde kein Modell gefunden, das sich trainieren lässt."
    ),
    "Name the folder with ComfyUI's `models` in it, or name a model's files: {command} NAME FILE "
    "FOLDER …": "Nenne den Ordner, in dem der Ordner „models“ von ComfyUI liegt.",
    "{model}'s {part} was not found in {folder}.": (
        "Von {model} wurde „{part}“ in {folder} nicht gefunden."
    ),
    "Put {file}.safetensors, or an fp8 or GGUF file of it, into ComfyUI's models/{kind}, or name "
    "the file: {command} FILE FOLDER …": (
        "Lege {file}.safetensors oder eine fp8- oder GGUF-Datei davon in den Ordner models/{kind} "
        "von ComfyUI."
    ),
    "Put its file into ComfyUI's models/{kind}, or name the file: {command} FILE FOLDER …": (
        "Lege die Datei dafür in den Ordner models/{kind} von ComfyUI."
    ),
    "{model} was not found in {folder}.": "{model} wurde in {folder} nicht gefunden.",
    "Put {file} into ComfyUI's models/loras, or name the file: {command} FILE": (
        "Lege {file} in den Ordner models/loras von ComfyUI."
    ),
    "{file} is one of the {count} pieces of a model; only whole files are read.": (
        "{file} ist eines von {count} Stücken eines Modells; gelesen werden nur ganze Dateien."
    ),
    "{file} is one of the {count} pieces of a model, and {piece} is missing; only whole files are "
    "read.": (
        "{file} ist eines von {count} Stücken eines Modells, und {piece} fehlt; gelesen werden nur "
        "ganze Dateien."
    ),
    "The text encoders' vocabulary is missing ({folder}).": (
        "Das Vokabular des Text-Encoders fehlt ({folder})."
    ),
    "The text encoders' vocabularies are missing ({folders}).": (
        "Die Vokabulare der Text-Encoder fehlen ({folders})."
    ),
    "ComfyUI's program brings it. Where its models lie apart from the program, name both folders, "
    "the one with `models` in it and the one with main.py in it: {command} FOLDER FOLDER. Without "
    "ComfyUI's program, put the files of {page} into a folder of that name beside `models`.": (
        "Das Programm ComfyUI bringt es mit: Nenne den Ordner, in dem main.py liegt. Ohne das "
        "Programm lege die Dateien von {page} in einen Ordner dieses Namens neben „models“."
    ),
    "ComfyUI's program brings them. Where its models lie apart from the program, name both "
    "folders, the one with `models` in it and the one with main.py in it: {command} FOLDER FOLDER. "
    "Without ComfyUI's program, put the files of {page} and of {page_2} into folders of these "
    "names beside `models`.": (
        "Das Programm ComfyUI bringt sie mit: Nenne den Ordner, in dem main.py liegt. Ohne das "
        "Programm lege die Dateien von {page} und {page_2} in Ordner dieser Namen neben „models“."
    ),
    "Correct or rename it.": "Korrigiere die Datei oder benenne sie um.",
    "{file}, {bits} bits a weight, rounded: what is learnt is as good as that": (
        "{file}, {bits} Bit je Gewicht, also gerundet: Genauer wird auch das Gelernte nicht"
    ),
    "{file}, {bits} bits a weight": "{file}, {bits} Bit je Gewicht",
}
