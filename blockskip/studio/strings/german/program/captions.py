"""The same in German for texts of the program outside the studio: captions, finding pets."""

from __future__ import annotations

CAPTIONS: dict[str, str] = {
    # why a file is not used as a caption (data/caption_files.py, data/captions.py)
    "its text encoding is not certain; save it as UTF-8 with BOM": (
        "die Zeichencodierung ist unklar; speichere die Datei als UTF-8 mit BOM"
    ),
    "it cannot be read ({reason})": "nicht lesbar ({reason})",
    "it is not a file": "keine Datei",
    "it is too big": "zu groß",
    "it is too long for a caption": "zu lang für einen Bildtext",
    "it is longer than {most} characters": "länger als {most} Zeichen",
    "it is not CSV ({reason})": "kein CSV ({reason})",
    "it is not JSON": "kein JSON",
    "it is not a JSON object": "kein JSON-Objekt",
    "it names no photo (file_name)": "nennt kein Foto (file_name)",
    "it has no caption (text)": "enthält keinen Bildtext (text)",
    "it has {count} captions for {photo}": "enthält {count} Bildtexte für {photo}",
    "it has {count} more such lines": "{count} weitere Zeilen dieser Art",
    "{file} is not used as a caption: {reason}.": (
        "{file} wird nicht als Bildtext verwendet: {reason}."
    ),
    "The trigger “{trigger}” is added to 1 caption that lacks it.": (
        "„{trigger}“ wird in 1 Bildtext ergänzt, in dem es fehlt."
    ),
    "The trigger “{trigger}” is added to {count} captions that lack it.": (
        "„{trigger}“ wird in {count} Bildtexten ergänzt, in denen es fehlt."
    ),
    # the finder of pets (models/pet_finder.py)
    "Not all photos could be looked at.": "Nicht alle Fotos ließen sich durchsuchen.",
    "Remove them, and add them again.": "Entferne sie und füge sie noch einmal hinzu.",
    "Looking for the pet broke off.": "Die Suche nach dem Tier brach ab.",
    # models that describe photos (runs/describing.py, models/captioners)
    "A training is running, and describing photos needs memory too.": (
        "Gerade läuft ein Training, und Fotos zu beschreiben braucht auch Speicher."
    ),
    "Wait until it is done, pause it, or describe them all the same (in the terminal: "
    "--during-training).": (
        "Warte, bis es fertig ist, pausiere es oder lass sie trotzdem beschreiben."
    ),
    "No model that describes photos is on this computer.": (
        "Auf diesem Computer ist kein Modell, das Fotos beschreibt."
    ),
    "Download one: {command}. Or name a server: --captioner ADDRESS.": (
        "Lade eines herunter oder benutze einen eigenen Server."
    ),
    "There is no captioner called “{name}”.": (
        "Ein Modell „{name}“, das Fotos beschreibt, gibt es nicht."
    ),
    "Use one of {names}, or the address of a server.": (
        "Wähle eines von diesen: {names}, oder einen Server."
    ),
    "“{name}” cannot describe photos: it is not on this computer, or its text encoder cannot see "
    "(GGUF files cannot).": (
        "„{name}“ kann keine Fotos beschreiben: Es ist nicht auf diesem Computer, oder sein "
        "Text-Encoder kann nicht sehen (GGUF-Dateien können es nicht)."
    ),
    "Leave the choice open, or download a captioner: {command}.": (
        "Wähle ein anderes oder lade eines herunter."
    ),
    "{model}’s own text encoder (Qwen3-VL)": "Der Text-Encoder von {model} (Qwen3-VL)",
    "Photos are being described just now.": "Gerade werden Fotos beschrieben.",
    "Wait, or stop that first.": "Warte oder stoppe das zuerst.",
    "Describing was stopped.": "Das Beschreiben wurde gestoppt.",
    "Describing ended before all photos were described.": (
        "Das Beschreiben endete, bevor alle Fotos beschrieben waren."
    ),
    "Perhaps RAM ran out: close other programs, then describe the rest. Details: {log}": (
        "Vielleicht ging das RAM aus: Schließe andere Programme und lass dann die übrigen "
        "beschreiben. Einzelheiten: {log}"
    ),
    "To describe photos, {model} needs {needed} GB of RAM; {free} GB are free.": (
        "Um Fotos zu beschreiben, braucht {model} {needed} GB RAM; {free} GB sind frei."
    ),
    "Close other programs, or choose a smaller captioner or a server.": (
        "Schließe andere Programme oder wähle ein kleineres Modell oder einen Server."
    ),
    "The photos could not be described ({kind}).": (
        "Die Fotos ließen sich nicht beschreiben ({kind})."
    ),
    "The captioner in {folder} cannot be used: {reason}": (
        "Das Modell für Bildtexte in {folder} lässt sich nicht verwenden: {reason}"
    ),
    "It must be {name} with its .safetensors file; or write the captions by hand.": (
        "Es muss {name} mit seiner .safetensors-Datei sein; oder schreibe die Bildtexte selbst."
    ),
    "The vocabulary in {folder} cannot be used: {reason}.": (
        "Das Vokabular in {folder} lässt sich nicht verwenden: {reason}."
    ),
    # servers that describe photos (models/captioners/server.py)
    "The server at {address} has no models of its own.": (
        "Der Server auf {address} hat keine eigenen Modelle."
    ),
    "The server at {address} has {count} models of its own.": (
        "Der Server auf {address} hat {count} eigene Modelle."
    ),
    "Choose one that can see photos: {models}.": "Wähle eines, das Fotos sehen kann: {models}.",
    "Load one there that can see photos.": "Lade dort eines, das Fotos sehen kann.",
    "The model {model} gave no description.": "Das Modell {model} gab keine Beschreibung.",
    "The model {model} gave no description: it spent its answer on thinking.": (
        "Das Modell {model} gab keine Beschreibung: Es hat seine Antwort mit Nachdenken verbraucht."
    ),
    "Choose an “instruct” model that can see, or turn its thinking off in the server.": (
        "Wähle ein „Instruct“-Modell, das sehen kann, oder schalte auf dem Server sein Nachdenken "
        "(Thinking) ab."
    ),
    "The server at {address} asks for a key.": "Der Server auf {address} verlangt einen Schlüssel.",
    "Turn its authentication off for this computer, or use another server.": (
        "Schalte dort die Anmeldung für diesen Computer ab oder benutze einen anderen Server."
    ),
    "The server at {address} points to another address, which is not followed.": (
        "Der Server auf {address} verweist auf eine andere Adresse; dem wird nicht gefolgt."
    ),
    "Give the address of the model's server itself.": (
        "Gib die Adresse des Modellservers selbst an."
    ),
    "The server at {address} refuses: {reason}.": "Der Server auf {address} lehnt ab: {reason}.",
    "The server at {address} refuses (HTTP {status}).": (
        "Der Server auf {address} lehnt ab (HTTP {status})."
    ),
    "Choose a model that can see photos, such as Qwen3-VL.": (
        "Wähle ein Modell, das Fotos sehen kann, etwa Qwen3-VL."
    ),
    "Check the model's name, and that the address ends as the server tells (/v1).": (
        "Prüfe den Namen des Modells und ob die Adresse so endet, wie der Server es angibt (/v1)."
    ),
    "Look at the server's own messages, or try another model.": (
        "Sieh in den Meldungen des Servers nach oder probiere ein anderes Modell."
    ),
    "What answers at {address} is no server of language models.": (
        "Auf {address} antwortet etwas, das kein Server für Sprachmodelle ist."
    ),
    "Give the address that LM Studio (http://127.0.0.1:1234/v1) or Ollama "
    "(http://127.0.0.1:11434/v1) shows.": (
        "Gib die Adresse an, die LM Studio (http://127.0.0.1:1234/v1) oder Ollama "
        "(http://127.0.0.1:11434/v1) zeigt."
    ),
    "The connection to {address} broke off ({kind}).": (
        "Die Verbindung zu {address} brach ab ({kind})."
    ),
    "Look whether the server still runs, then describe the rest.": (
        "Sieh nach, ob der Server noch läuft, und lass dann die übrigen Fotos beschreiben."
    ),
    "No server answers at {address}.": "Auf {address} antwortet kein Server.",
    "Start it: in LM Studio under “Developer”, or Ollama itself. Then try again.": (
        "Starte ihn: in LM Studio unter „Developer“ oder Ollama selbst. Versuche es dann noch "
        "einmal."
    ),
    "The server at {address} did not answer within {seconds} seconds.": (
        "Der Server auf {address} hat nicht innerhalb von {seconds} Sekunden geantwortet."
    ),
    "Use a smaller model there, or try again once it has loaded.": (
        "Benutze dort ein kleineres Modell oder versuche es noch einmal, sobald es geladen ist."
    ),
    "“{address}” is not the address of a server.": "„{address}“ ist keine Adresse eines Servers.",
    "Write it as http://127.0.0.1:1234/v1, which is LM Studio's.": (
        "Schreibe sie wie http://127.0.0.1:1234/v1, die Adresse von LM Studio."
    ),
    "There is no computer called “{name}”.": "Einen Computer „{name}“ gibt es nicht.",
    "Check the address.": "Prüfe die Adresse.",
    "“{name}” is another computer: your photos would leave this one.": (
        "„{name}“ ist ein anderer Computer: Deine Fotos würden diesen verlassen."
    ),
    "To send them there all the same, allow it (in the terminal: --other-computer).": (
        "Um sie trotzdem dorthin zu schicken, erlaube es."
    ),
    "“{model}” runs in a cloud: your photos would leave this computer.": (
        "„{model}“ läuft in einer Cloud: Deine Fotos würden diesen Computer verlassen."
    ),
    "Choose a model that is on this computer.": "Wähle ein Modell, das auf diesem Computer ist.",
}
