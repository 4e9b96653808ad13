"""Findings on photos, and the descriptions of models and tools."""

from __future__ import annotations

PHOTOS: dict[str, str] = {
    # findings on a photo (data/photo_checks.py); its pieces are written out
    "Small: {width} × {height} pixels. The model learns from {least} on the short side, so this "
    "one is enlarged and soft. Use the original, not a preview of it.": (
        "Klein: {width} × {height} Pixel. Das Modell lernt ab {least} an der kurzen Seite, dieses "
        "Foto wird also vergrößert und dadurch unscharf. Nimm das Original, keine Vorschau davon."
    ),
    "The pet is blurred: no edge is sharp. Choose a sharper photo.": (
        "Das Tier ist unscharf: Keine Kante ist scharf. Wähle ein schärferes Foto."
    ),
    "Blurred: no edge is sharp. Choose a sharper photo.": (
        "Unscharf: Keine Kante ist scharf. Wähle ein schärferes Foto."
    ),
    "Over-exposed: {share}% of the pet is pure white, without any detail. Choose a darker one.": (
        "Überbelichtet: {share} % des Tiers sind rein weiß, ohne Einzelheiten. Wähle ein dunkleres "
        "Foto."
    ),
    "Over-exposed: {share}% of the middle is pure white, without any detail. Choose a darker "
    "one.": (
        "Überbelichtet: {share} % der Bildmitte sind rein weiß, ohne Einzelheiten. Wähle ein "
        "dunkleres Foto."
    ),
    "Over-exposed: the pet is nearly white, without any detail. Choose a darker one.": (
        "Überbelichtet: Das Tier ist fast weiß, ohne Einzelheiten. Wähle ein dunkleres Foto."
    ),
    "Over-exposed: the middle is nearly white, without any detail. Choose a darker one.": (
        "Überbelichtet: Die Bildmitte ist fast weiß, ohne Einzelheiten. Wähle ein dunkleres Foto."
    ),
    "Too dark: even the lightest parts are dark grey. Brighten it, or choose another one.": (
        "Zu dunkel: Selbst die hellsten Stellen sind dunkelgrau. Helle es auf oder wähle ein "
        "anderes."
    ),
    "Very wide: the squares that are trained would cut the pet or miss it. Draw a box around the "
    "pet, or crop the photo.": (
        "Sehr breit: Die Quadrate, mit denen trainiert wird, würden das Tier anschneiden oder "
        "verfehlen. Zieh einen Rahmen um das Tier oder schneide das Foto zu."
    ),
    "Very high: the squares that are trained would cut the pet or miss it. Draw a box around the "
    "pet, or crop the photo.": (
        "Sehr hoch: Die Quadrate, mit denen trainiert wird, würden das Tier anschneiden oder "
        "verfehlen. Zieh einen Rahmen um das Tier oder schneide das Foto zu."
    ),
    "The pet never fits whole into the squares that are trained. A photo with more room around it "
    "shows the model its whole shape.": (
        "Das Tier passt nie ganz in die Quadrate, mit denen trainiert wird. Ein Foto mit mehr "
        "Platz drum herum zeigt dem Modell die ganze Gestalt."
    ),
    "The pet fills only {share}% of this photo: mostly its place is learnt. A closer photo teaches "
    "more.": (
        "Das Tier füllt nur {share} % dieses Fotos: Gelernt wird vor allem der Ort. Ein Foto aus "
        "der Nähe lehrt mehr."
    ),
    "Nearly the same as {photo}: it teaches nothing new. Keep the better of the two.": (
        "Fast das gleiche Foto wie {photo}: Es lehrt nichts Neues. Behalte das bessere von beiden."
    ),
    # findings on who is in it: the user's English word for the kind of animal is left out
    "No {kind} was found here. If it is in the photo, draw its frame; if not, leave the photo "
    "out.": (
        "Dein Tier wurde hier nicht gefunden. Ist es auf dem Foto, zieh einen Rahmen darum; wenn "
        "nicht, lass das Foto weg."
    ),
    "Seen as “bird”, not as “{kind}”: please check the frame.": (
        "Das sieht eher nach einem Vogel aus: Bitte prüfe den Rahmen."
    ),
    "Seen as “cat”, not as “{kind}”: please check the frame.": (
        "Das sieht eher nach einer Katze aus: Bitte prüfe den Rahmen."
    ),
    "Seen as “dog”, not as “{kind}”: please check the frame.": (
        "Das sieht eher nach einem Hund aus: Bitte prüfe den Rahmen."
    ),
    "Seen as “horse”, not as “{kind}”: please check the frame.": (
        "Das sieht eher nach einem Pferd aus: Bitte prüfe den Rahmen."
    ),
    "Seen as “sheep”, not as “{kind}”: please check the frame.": (
        "Das sieht eher nach einem Schaf aus: Bitte prüfe den Rahmen."
    ),
    "Seen as “cow”, not as “{kind}”: please check the frame.": (
        "Das sieht eher nach einer Kuh aus: Bitte prüfe den Rahmen."
    ),
    "Seen as “elephant”, not as “{kind}”: please check the frame.": (
        "Das sieht eher nach einem Elefanten aus: Bitte prüfe den Rahmen."
    ),
    "Seen as “bear”, not as “{kind}”: please check the frame.": (
        "Das sieht eher nach einem Bären aus: Bitte prüfe den Rahmen."
    ),
    "Seen as “zebra”, not as “{kind}”: please check the frame.": (
        "Das sieht eher nach einem Zebra aus: Bitte prüfe den Rahmen."
    ),
    "Seen as “giraffe”, not as “{kind}”: please check the frame.": (
        "Das sieht eher nach einer Giraffe aus: Bitte prüfe den Rahmen."
    ),
    "{count} animals of its kind are here, and the other would be learnt with your pet. Choose a "
    "photo of your pet alone, or check that the frame is around it.": (
        "Hier sind {count} Tiere seiner Art, und was nicht dein Tier ist, würde mitgelernt. Wähle "
        "ein Foto von deinem Tier allein oder prüfe, ob der Rahmen um dein Tier liegt."
    ),
    "People are here, and may be learnt with your pet. Choose a photo without them, or draw the "
    "frame close around it.": (
        "Hier sind Menschen, die das Modell mitlernen könnte. Wähle ein Foto ohne sie oder zieh "
        "den Rahmen eng um dein Tier."
    ),
    # recommendations for the set (data/photo_checks.py)
    "Add photos from other places: all of these look alike around the pet, and the place would be "
    "learnt with it.": (
        "Füge Fotos von anderen Orten hinzu: Um das Tier herum sehen alle gleich aus, und der Ort "
        "würde mitgelernt."
    ),
    "Replace some of the {marked} photos that carry a “!”, where you can.": (
        "Ersetze einige der {marked} Fotos mit „!“, wenn du kannst."
    ),
    "Add a photo of the face from close.": "Füge eine Nahaufnahme des Gesichts hinzu.",
    "Add a photo of the whole body, with some room around it.": (
        "Füge ein Foto vom ganzen Körper hinzu, mit etwas Platz drum herum."
    ),
    "Add at least 1 more photo; these help most: {views}.": (
        "Füge mindestens 1 weiteres Foto hinzu; am meisten helfen: {views}."
    ),
    "Add at least 1 more photo (near-duplicates count once); these help most: {views}.": (
        "Füge mindestens 1 weiteres Foto hinzu (fast gleiche zählen einmal); am meisten helfen: "
        "{views}."
    ),
    "Add at least {missing} more photos; these help most: {views}.": (
        "Füge mindestens {missing} weitere Fotos hinzu; am meisten helfen: {views}."
    ),
    "Add at least {missing} more photos (near-duplicates count once); these help most: {views}.": (
        "Füge mindestens {missing} weitere Fotos hinzu (fast gleiche zählen einmal); am meisten "
        "helfen: {views}."
    ),
    "Add one or two more if you can; these help most: {views}.": (
        "Füge noch ein oder zwei hinzu, wenn du kannst; am meisten helfen: {views}."
    ),
    "Add one or two more if you can (near-duplicates count once); these help most: {views}.": (
        "Füge noch ein oder zwei hinzu, wenn du kannst (fast gleiche zählen einmal); am meisten "
        "helfen: {views}."
    ),
    "the face from close, the whole body from the side, from behind, lying down": (
        "das Gesicht aus der Nähe, der ganze Körper von der Seite, von hinten, im Liegen"
    ),
    "{most} good photos are enough: sharp, and each different from the others. More take longer "
    "and teach little.": (
        "{most} gute Fotos genügen: scharf und jedes anders als die übrigen. Mehr Fotos kosten "
        "Zeit und lehren wenig."
    ),
    "{most} good photos are enough (near-duplicates count once): sharp, and each different from "
    "the others. More take longer and teach little.": (
        "{most} gute Fotos genügen (fast gleiche zählen einmal): scharf und jedes anders als die "
        "übrigen. Mehr Fotos kosten Zeit und lehren wenig."
    ),
    # why a file is no usable photo (data/photos.py), after its name and a colon
    "it is a PDF document, not a photo": "ein PDF-Dokument, kein Foto",
    "it is a ZIP archive, not a photo": "ein ZIP-Archiv, kein Foto",
    "it is a Photoshop file, not a photo": "eine Photoshop-Datei, kein Foto",
    "it is a JPEG XL picture": "ein Bild im Format JPEG XL",
    "it is a JPEG 2000 picture": "ein Bild im Format JPEG 2000",
    "it is a video, not a photo": "ein Video, kein Foto",
    "it is a web page, not a photo": "eine Webseite, kein Foto",
    "it is a camera's raw file": "eine Raw-Datei der Kamera",
    "it is not a photo, or is damaged": "kein Foto oder beschädigt",
    "it is damaged or cut short": "beschädigt oder unvollständig",
    "it is empty (0 bytes)": "leer (0 Byte)",
    "it is no longer there": "nicht mehr da",
    "it may not be read": "darf nicht gelesen werden",
    "it has more than {millions} million pixels": "mehr als {millions} Millionen Pixel",
    "it is only {width} × {height} pixels": "nur {width} × {height} Pixel groß",
    "it is a strip of {width} × {height} pixels": "ein Streifen von {width} × {height} Pixeln",
    # the same as sentences
    "{photo} is not a usable photo: {reason}.": "{photo} ist kein brauchbares Foto: {reason}.",
    "None of the {count} files is a usable photo: {reasons}.": (
        "Von den {count} Dateien ist keine ein brauchbares Foto."
    ),
    "{photo} is a PDF document, not a photo.": "{photo} ist ein PDF-Dokument, kein Foto.",
    "{photo} is a ZIP archive, not a photo.": "{photo} ist ein ZIP-Archiv, kein Foto.",
    "{photo} is a Photoshop file, not a photo.": "{photo} ist eine Photoshop-Datei, kein Foto.",
    "{photo} is a JPEG XL picture.": "{photo} ist ein Bild im Format JPEG XL.",
    "{photo} is a JPEG 2000 picture.": "{photo} ist ein Bild im Format JPEG 2000.",
    "{photo} is a video, not a photo.": "{photo} ist ein Video, kein Foto.",
    "{photo} is a web page, not a photo.": "{photo} ist eine Webseite, kein Foto.",
    "{photo} is a camera's raw file.": "{photo} ist eine Raw-Datei der Kamera.",
    "{photo} is not a photo, or is damaged.": "{photo} ist kein Foto oder beschädigt.",
    "{photo} is damaged or cut short.": "{photo} ist beschädigt oder unvollständig.",
    "{photo} is empty (0 bytes).": "{photo} ist leer (0 Byte).",
    "{photo} is no longer there.": "{photo} ist nicht mehr da.",
    "{photo} may not be read.": "{photo} darf nicht gelesen werden.",
    "{photo} has more than {millions} million pixels.": (
        "{photo} hat mehr als {millions} Millionen Pixel."
    ),
    "{photo} is only {width} × {height} pixels.": "{photo} ist nur {width} × {height} Pixel groß.",
    "{photo} is a strip of {width} × {height} pixels.": (
        "{photo} ist ein Streifen von {width} × {height} Pixeln."
    ),
    "There is no file or folder called “{path}”.": (
        "Eine Datei oder einen Ordner „{path}“ gibt es nicht."
    ),
    "No photos were given.": "Es wurden keine Fotos ausgewählt.",
    "The folder “{folder}” cannot be read: {reason}.": (
        "Der Ordner „{folder}“ ist nicht lesbar: {reason}."
    ),
    "“{folder}” is a folder without photos.": "Im Ordner „{folder}“ sind keine Fotos.",
    # and what to do
    "Export it as JPEG or HEIC first.": "Exportiere sie zuerst als JPEG oder HEIC.",
    "Copy it again from the camera or phone, or leave it out.": (
        "Kopiere die Datei noch einmal von der Kamera oder dem Handy, oder lass sie weg."
    ),
    "Make it smaller in any photo program.": "Verkleinere es in einem Bildprogramm.",
    "Get the right to read it.": "Verschaffe dir das Recht, die Datei zu lesen.",
    "Choose the photos again.": "Wähle die Fotos noch einmal aus.",
    "Choose a bigger photo.": "Wähle ein größeres Foto.",
    "Crop it first.": "Schneide es zuerst zu.",
    "Check the name, or choose the photos again.": (
        "Prüfe den Namen oder wähle die Fotos noch einmal aus."
    ),
    "Check that it may be opened.": "Prüfe, ob er geöffnet werden darf.",
    "Choose photos or a folder of them. {kinds}": (
        "Wähle Fotos oder einen Ordner mit Fotos. {kinds}"
    ),
    "Choose other photos. {kinds}": "Wähle andere Fotos. {kinds}",
    "Folders inside it are not looked at. {kinds}": "Ordner darin werden nicht durchsucht. {kinds}",
    "JPEG, PNG, HEIC, AVIF, WebP, TIFF, BMP and GIF can be read.": (
        "Lesbar sind JPEG, PNG, HEIC, AVIF, WebP, TIFF, BMP und GIF."
    ),
    "a box with edges {edges} is not possible": (
        "ein Rahmen mit den Kanten {edges} ist nicht möglich"
    ),
    "The demo photos are missing (assets/demo-photos).": (
        "Die Demo-Fotos fehlen (assets/demo-photos)."
    ),
    "Download BlockSkip Studio again.": "Lade BlockSkip Studio noch einmal herunter.",
    # what a model is (presets/models.toml)
    "A tiny FLUX trained by this project on drawn pets. It knows drawn cats, dogs, rabbits and "
    "bears, nothing else.": (
        "Ein winziges FLUX, von diesem Projekt an gezeichneten Tieren trainiert. Es kennt "
        "gezeichnete Katzen, Hunde, Kaninchen und Bären, sonst nichts."
    ),
    "For real photos, also on small cards. Free to use and to download; the base model, made for "
    "training.": (
        "Für echte Fotos, auch auf kleinen Karten. Kostenlos und frei nutzbar; das Basismodell, "
        "zum Trainieren gemacht."
    ),
    "For real photos. Its licence (no commercial use) must be accepted first.": (
        "Für echte Fotos. Zuerst musst du seine Lizenz annehmen (keine kommerzielle Nutzung)."
    ),
    "For real photos. Free to use and to download; the base model, made for training.": (
        "Für echte Fotos. Kostenlos und frei nutzbar; das Basismodell, zum Trainieren gemacht."
    ),
    "For real photos. Free to use and to download; distilled, so it is trained with an adapter. "
    "Z-Image is made for training.": (
        "Für echte Fotos. Kostenlos und frei nutzbar; destilliert, deshalb wird es mit einem "
        "Adapter trainiert. Zum Trainieren gemacht ist Z-Image."
    ),
    "For real photos, best on cards of 12 GB and more. Free to use and to download.": (
        "Für echte Fotos, am besten auf Karten ab 12 GB. Kostenlos und frei nutzbar."
    ),
    "For real photos, also on small cards. Its licence must be accepted first.": (
        "Für echte Fotos, auch auf kleinen Karten. Zuerst musst du seine Lizenz annehmen."
    ),
    "For real photos. Its licence must be accepted first.": (
        "Für echte Fotos. Zuerst musst du seine Lizenz annehmen."
    ),
    "For real photos. Free to use and to download.": "Für echte Fotos. Kostenlos und frei nutzbar.",
    "For real photos. Free to use; made for few steps, so LoRAs of it are less exact. Its page "
    "wants a login.": (
        "Für echte Fotos. Frei nutzbar; für wenige Schritte gemacht, deshalb sind LoRAs davon "
        "weniger genau. Seine Seite verlangt eine Anmeldung."
    ),
    "The smallest and quickest for real photos. ComfyUI needs a custom node for it.": (
        "Das kleinste und schnellste für echte Fotos. ComfyUI braucht dafür einen Zusatzknoten "
        "(Custom Node)."
    ),
    "Small and quick, for real photos. ComfyUI needs a custom node for it.": (
        "Klein und schnell, für echte Fotos. ComfyUI braucht dafür einen Zusatzknoten (Custom "
        "Node)."
    ),
    "For real photos. ComfyUI needs a custom node for it.": (
        "Für echte Fotos. ComfyUI braucht dafür einen Zusatzknoten (Custom Node)."
    ),
    "For real photos. Its licence must be accepted first, and read by firms that sell. The base "
    "model, made for training: its LoRA is used on Krea 2 Turbo.": (
        "Für echte Fotos. Zuerst musst du seine Lizenz annehmen; Firmen, die damit Geld verdienen, "
        "müssen sie lesen. Das Basismodell, zum Trainieren gemacht: Sein LoRA benutzt du mit Krea "
        "2 Turbo."
    ),
    "For real photos. It wants captions that describe the whole picture. Its licence (no "
    "commercial use) must be accepted first; the base model, made for training.": (
        "Für echte Fotos. Es braucht Bildtexte, die das ganze Bild beschreiben. Zuerst musst du "
        "seine Lizenz annehmen (keine kommerzielle Nutzung); das Basismodell, zum Trainieren "
        "gemacht."
    ),
    "For real photos. Free to download, but its licence allows no commercial use, and files made "
    "with it must say “Built with Qwen”.": (
        "Für echte Fotos. Kostenlos, aber seine Lizenz verbietet kommerzielle Nutzung, und "
        "Dateien, die damit entstehen, müssen „Built with Qwen“ nennen."
    ),
    "A tiny SANA trained by this project on drawn pets, to measure the method on another kind of "
    "model. It knows what the other demo knows, nothing else.": (
        "Ein winziges SANA, von diesem Projekt an gezeichneten Tieren trainiert, um das Verfahren "
        "an einer anderen Art von Modell zu messen. Es kennt, was die andere Demo kennt, sonst "
        "nichts."
    ),
    # what a tool does (presets/tools.toml), and titles that are words
    "Finds your pet in each photo and draws its frame.": (
        "Findet dein Tier auf jedem Foto und zieht einen Rahmen darum."
    ),
    "Writes a caption for each photo.": "Schreibt zu jedem Foto einen Bildtext.",
    "Measures how much each step's pictures look like your pet.": (
        "Misst, wie sehr die Bilder jedes Schritts deinem Tier ähneln."
    ),
    "Pet finder (D-FINE small)": "Tiersuche (D-FINE small)",
    "Photo describer (Qwen3-VL 2B)": "Fotobeschreibung (Qwen3-VL 2B)",
    "Likeness judge (DINOv2 small)": "Ähnlichkeitsmessung (DINOv2 small)",
    "Demo pets (drawn)": "Demo-Tiere (gezeichnet)",
    "Demo pets (drawn), SANA": "Demo-Tiere (gezeichnet), SANA",
    "Training adapter for Z-Image-Turbo (ostris)": "Trainingsadapter für Z-Image-Turbo (ostris)",
    "Training adapter for Qwen-Image-2.1 (Fizgig)": "Trainingsadapter für Qwen-Image-2.1 (Fizgig)",
}
