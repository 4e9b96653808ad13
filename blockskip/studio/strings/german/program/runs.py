"""The same in German for texts of the program outside the studio: trainings at work."""

from __future__ import annotations

RUNS: dict[str, str] = {
    # trainings in several processes (training/ranks.py, runs/ranks.py)
    "One of the {number} processes of this training has ended.": (
        "Einer der {number} Prozesse dieses Trainings hat geendet."
    ),
    "Resume continues from the last saved step. The log of each is rank-N.log, beside "
    "worker.log.": (
        "„Fortsetzen“ macht beim letzten gespeicherten Schritt weiter. Jeder Prozess hat neben "
        "worker.log ein eigenes Protokoll, rank-N.log."
    ),
    "Process {rank} of this training could not begin.": (
        "Prozess {rank} dieses Trainings konnte nicht beginnen."
    ),
    "{log} says why. Or train with one process.": (
        "Warum, steht in {log}. Oder trainiere mit einem Prozess."
    ),
    # runs that cannot be read (runs/problem.py, runs/run_file.py)
    "Run “{run}” cannot be read ({kind}: {reason}).": (
        "Das Training „{run}“ ist nicht lesbar ({kind}: {reason})."
    ),
    "Delete the run and train again.": "Lösche das Training und trainiere noch einmal.",
    "Run “{run}” was made by a later version of BlockSkip Studio.": (
        "Das Training „{run}“ stammt von einer neueren Version von BlockSkip Studio."
    ),
    "Run “{run}” cannot be read: run.toml: The run's settings do not work: {reason}.": (
        "Das Training „{run}“ ist nicht lesbar: Die Einstellungen in run.toml funktionieren nicht: "
        "{reason}."
    ),
    "Run “{run}” cannot be read: run.toml: Unknown setting: {names}.": (
        "Das Training „{run}“ ist nicht lesbar: Unbekannte Einstellung in run.toml: {names}."
    ),
    "Run “{run}” cannot be read: run.toml: {reason}.": (
        "Das Training „{run}“ ist nicht lesbar: run.toml: {reason}."
    ),
    # how a worker ended (runs/failure.py, runs/vanished.py, runs/worker_process.py)
    "The disk is full: the training could not begin.": (
        "Die Platte ist voll: Das Training konnte nicht beginnen."
    ),
    "Free some space, then resume.": "Schaffe Platz und setze dann fort.",
    "The computer went off, or was started again, during the training.": (
        "Der Computer ging während des Trainings aus oder wurde neu gestartet."
    ),
    "Resume; nothing saved is lost.": "Setze es fort; nichts Gespeichertes ist verloren.",
    "The graphics card stopped computing, although it has free memory.": (
        "Die Grafikkarte rechnet nicht mehr, obwohl sie freien Speicher hat."
    ),
    "Restart the computer and update the card's driver, then resume. {command} tells more.": (
        "Starte den Computer neu, aktualisiere den Treiber der Karte und setze dann fort."
    ),
    "The graphics card has too little free memory for reading the captions.": (
        "Zum Lesen der Bildtexte hat die Grafikkarte zu wenig freien Speicher."
    ),
    "The graphics card has too little free memory for turning photos into latents.": (
        "Zum Umwandeln der Fotos hat die Grafikkarte zu wenig freien Speicher."
    ),
    "The graphics card has too little free memory for computing the skipped blocks.": (
        "Zum Berechnen der übersprungenen Blöcke hat die Grafikkarte zu wenig freien Speicher."
    ),
    "The graphics card has too little free memory for training.": (
        "Zum Trainieren hat die Grafikkarte zu wenig freien Speicher."
    ),
    "The graphics card has too little free memory for loading the model.": (
        "Zum Laden des Modells hat die Grafikkarte zu wenig freien Speicher."
    ),
    "The graphics card has too little free memory for a picture.": (
        "Für ein Bild hat die Grafikkarte zu wenig freien Speicher."
    ),
    # notes of a training (runs/worker_process.py, runs/worker.py)
    "The graphics card failed although it has free memory. It is tried once more.": (
        "Die Grafikkarte versagte, obwohl sie freien Speicher hat. Sie wird noch einmal probiert."
    ),
    "Steps became slow for want of graphics memory.": (
        "Aus Mangel an Grafikspeicher wurden die Schritte langsam."
    ),
    "Graphics memory ran out while sampling pictures. From now on {changes}.": (
        "Beim Erzeugen von Bildern ging der Grafikspeicher aus. Ab jetzt gilt: {changes}."
    ),
    "RAM ran out while sampling pictures. From now on {changes}.": (
        "Beim Erzeugen von Bildern ging das RAM aus. Ab jetzt gilt: {changes}."
    ),
    "Graphics memory ran out while reading the captions.": (
        "Beim Lesen der Bildtexte ging der Grafikspeicher aus."
    ),
    "Graphics memory ran out while turning photos into latents.": (
        "Beim Umwandeln der Fotos ging der Grafikspeicher aus."
    ),
    "Graphics memory ran out while computing the skipped blocks.": (
        "Beim Berechnen der übersprungenen Blöcke ging der Grafikspeicher aus."
    ),
    "Graphics memory ran out while training.": "Beim Trainieren ging der Grafikspeicher aus.",
    "Graphics memory ran out while loading the model.": (
        "Beim Laden des Modells ging der Grafikspeicher aus."
    ),
    "RAM ran out while reading the captions.": "Beim Lesen der Bildtexte ging das RAM aus.",
    "RAM ran out while turning photos into latents.": "Beim Umwandeln der Fotos ging das RAM aus.",
    "RAM ran out while computing the skipped blocks.": (
        "Beim Berechnen der übersprungenen Blöcke ging das RAM aus."
    ),
    "RAM ran out while training.": "Beim Trainieren ging das RAM aus.",
    "RAM ran out while loading the model.": "Beim Laden des Modells ging das RAM aus.",
    "The system ended the training for want of RAM.": (
        "Das System hat das Training aus Mangel an RAM beendet."
    ),
    "{file} was damaged and is made again.": "{file} war beschädigt und wird neu angelegt.",
    "Damaged: {files}. Training continues from step {step}, the newest intact checkpoint.": (
        "Beschädigt: {files}. Das Training geht bei Schritt {step} weiter, dem neuesten "
        "unversehrten Stand."
    ),
    "Damaged: {files}. Training continues from the beginning, the newest intact checkpoint.": (
        "Beschädigt: {files}. Das Training beginnt von vorn, denn ein unversehrter Stand fehlt."
    ),
    "{photo} is left out: {reason}": "{photo} wird weggelassen: {reason}",
    "The photos of run “{run}” changed since it began.": (
        "Die Fotos des Trainings „{run}“ haben sich seit seinem Beginn geändert."
    ),
    "The model of run “{run}” changed since it began.": (
        "Das Modell des Trainings „{run}“ hat sich seit seinem Beginn geändert."
    ),
    "Put them back as they were, or start a new run.": (
        "Stelle den alten Stand wieder her oder beginne ein neues Training."
    ),
    # changes that take less memory (memory/planning/oom_fallback.py); the order counts
    "fewer crops are encoded at a time; {more}": (
        "es werden weniger Ausschnitte auf einmal umgewandelt; {more}"
    ),
    "a window waits in RAM while it is computed; {more}": (
        "ein Fenster wartet im RAM, während es berechnet wird; {more}"
    ),
    "trained blocks leave the card between steps and windows; {more}": (
        "die trainierten Blöcke verlassen die Karte zwischen Schritten und Fenstern; {more}"
    ),
    "more of each step is computed twice; {more}": (
        "von jedem Schritt wird mehr doppelt berechnet; {more}"
    ),
    "frozen weights have 8 bits, which costs a little likeness; {more}": (
        "das Modell wird auf 8 Bit gerundet, was ein wenig Ähnlichkeit kostet; {more}"
    ),
    "frozen weights have 4 bits, which costs a little likeness; {more}": (
        "das Modell wird auf 4 Bit gerundet, was ein wenig Ähnlichkeit kostet; {more}"
    ),
    "trained blocks come to the card one by one, in every step; {more}": (
        "die trainierten Blöcke kommen in jedem Schritt einzeln auf die Karte; {more}"
    ),
    "waiting weights are read from their files each time; {more}": (
        "wartende Gewichte werden jedes Mal aus ihren Dateien gelesen; {more}"
    ),
    "pictures are sampled one at a time; {more}": "Bilder werden einzeln erzeugt; {more}",
    "fewer crops are encoded at a time": "es werden weniger Ausschnitte auf einmal umgewandelt",
    "a window waits in RAM while it is computed": (
        "ein Fenster wartet im RAM, während es berechnet wird"
    ),
    "trained blocks leave the card between steps and windows": (
        "die trainierten Blöcke verlassen die Karte zwischen Schritten und Fenstern"
    ),
    "more of each step is computed twice": "von jedem Schritt wird mehr doppelt berechnet",
    "frozen weights have 8 bits, which costs a little likeness": (
        "das Modell wird auf 8 Bit gerundet, was ein wenig Ähnlichkeit kostet"
    ),
    "frozen weights have 4 bits, which costs a little likeness": (
        "das Modell wird auf 4 Bit gerundet, was ein wenig Ähnlichkeit kostet"
    ),
    "trained blocks come to the card one by one, in every step": (
        "die trainierten Blöcke kommen in jedem Schritt einzeln auf die Karte"
    ),
    "waiting weights are read from their files each time": (
        "wartende Gewichte werden jedes Mal aus ihren Dateien gelesen"
    ),
    "pictures are sampled one at a time": "Bilder werden einzeln erzeugt",
    "pictures are decoded in tiles": "Bilder werden in Kacheln umgewandelt",
    "{draws} draws at a time pass the skipped blocks; {more}": (
        "die übersprungenen Blöcke berechnen {draws} Ziehungen auf einmal; {more}"
    ),
    "{draws} draws at a time pass the skipped blocks": (
        "die übersprungenen Blöcke berechnen {draws} Ziehungen auf einmal"
    ),
    "{draws} draws at a time instead of {before}, as many a step; {more}": (
        "es werden {draws} statt {before} Ziehungen auf einmal berechnet, je Schritt gleich viele; "
        "{more}"
    ),
    "{draws} draws at a time instead of {before}, as many a step": (
        "es werden {draws} statt {before} Ziehungen auf einmal berechnet, je Schritt gleich viele"
    ),
    # warnings (runs/previewer.py, memory/slow_steps.py and others in memory)
    "No preview at step {step} ({reason}); training goes on.": (
        "Kein Probebild bei Schritt {step} ({reason}); das Training geht weiter."
    ),
    "there is too little RAM": "zu wenig RAM",
    "the card has too little memory": "zu wenig Grafikspeicher",
    "The picture could not be made.": "Das Bild ließ sich nicht erzeugen.",
    "Training goes on; ask for it again.": (
        "Das Training geht weiter; fordere das Bild noch einmal an."
    ),
    "Steps became {times} times slower while the graphics card is full: the driver moves memory to "
    "RAM. Close other programs that use the card.": (
        "Die Schritte dauern {times}-mal so lange, weil die Grafikkarte voll ist: Der Treiber "
        "weicht ins RAM aus. Schließe andere Programme, die die Karte benutzen."
    ),
    "Steps became {times} times slower while the graphics card is full: the driver moves memory to "
    "RAM. Close other programs that use the card. To forbid it: NVIDIA Control Panel, Manage 3D "
    "settings, “CUDA - Sysmem Fallback Policy”, “Prefer No Sysmem Fallback”.": (
        "Die Schritte dauern {times}-mal so lange, weil die Grafikkarte voll ist: Der Treiber "
        "weicht ins RAM aus. Schließe andere Programme, die die Karte benutzen. So verbietest du "
        "es: NVIDIA Systemsteuerung, 3D-Einstellungen verwalten, „CUDA - Sysmem Fallback Policy“, "
        "„Prefer No Sysmem Fallback“."
    ),
    "Steps became {times} times slower, since free graphics memory is in pieces too small to be "
    "used. Close other programs that use the card.": (
        "Die Schritte dauern {times}-mal so lange, weil der freie Grafikspeicher zu zerstückelt "
        "ist, um ihn zu nutzen. Schließe andere Programme, die die Karte benutzen."
    ),
    "Steps became {times} times slower while the RAM is full: the system moves memory to the disk. "
    "Close other programs.": (
        "Die Schritte dauern {times}-mal so lange, weil das RAM voll ist: Das System weicht auf "
        "die Platte aus. Schließe andere Programme."
    ),
    "Steps became {times} times slower, since weights that RAM held are read from the disk again. "
    "Close other programs.": (
        "Die Schritte dauern {times}-mal so lange, weil Gewichte, die im RAM lagen, wieder von der "
        "Platte gelesen werden. Schließe andere Programme."
    ),
    "Steps became {times} times slower since another program began to use the graphics card. Close "
    "it, or be patient.": (
        "Die Schritte dauern {times}-mal so lange, seit ein anderes Programm die Grafikkarte "
        "benutzt. Schließe es oder hab Geduld."
    ),
    "Steps became {times} times slower while the graphics card is hot and slows itself down. Give "
    "it air.": (
        "Die Schritte dauern {times}-mal so lange, weil die Grafikkarte heiß ist und sich bremst. "
        "Gib ihr Luft."
    ),
    "Steps became {times} times slower while other programs use the processor. Close them, or be "
    "patient.": (
        "Die Schritte dauern {times}-mal so lange, weil andere Programme den Prozessor benutzen. "
        "Schließe sie oder hab Geduld."
    ),
    "Steps became {times} times slower; what slows them down could not be found. Close other "
    "programs; restarting the computer may help too.": (
        "Die Schritte dauern {times}-mal so lange; warum, ließ sich nicht feststellen. Schließe "
        "andere Programme; auch ein Neustart des Computers kann helfen."
    ),
    "The graphics card is hot: it slows itself down at {celsius} °C, and has been close to that "
    "for a minute. Give it air, or expect longer steps.": (
        "Die Grafikkarte ist heiß: Bei {celsius} °C bremst sie sich, und seit einer Minute ist sie "
        "nahe daran. Gib ihr Luft, sonst dauern die Schritte länger."
    ),
    "The disk is nearly full: there may not be enough room for what this run still writes. Free "
    "some space; if it does stop, nothing that was saved is lost.": (
        "Die Platte ist fast voll: Vielleicht reicht der Platz nicht für alles, was dieses "
        "Training noch speichert. Schaffe Platz; hält es doch an, geht nichts Gespeichertes "
        "verloren."
    ),
    "{card} has no fast attention for this model in this build of torch: training will be much "
    "slower, and may take more graphics memory than planned.": (
        "{card} kann einen Teil dieses Modells mit dieser torch-Version nicht schnell berechnen: "
        "Das Training wird viel langsamer und braucht vielleicht mehr Grafikspeicher als geplant."
    ),
    "{card} does not multiply in 8 bits with this build of torch: products are computed in 16 "
    "bits, and training takes longer than planned.": (
        "{card} rechnet mit dieser torch-Version nicht in 8 Bit: Gerechnet wird in 16 Bit, und das "
        "Training dauert länger als geplant."
    ),
    "This device": "Dieses Gerät",
    "triton is not installed": "triton ist nicht installiert",
    "its results are wrong": "die Ergebnisse sind falsch",
    "torch cannot compile the model's blocks on this computer ({reason}). Training goes on "
    "without, a little slower.": (
        "torch kann die Blöcke des Modells auf diesem Computer nicht übersetzen ({reason}). Das "
        "Training geht ohne das weiter, etwas langsamer."
    ),
    "Only {free} GiB of the graphics card are free, which is too little.": (
        "Auf der Grafikkarte sind nur {free} GB frei, und das ist zu wenig."
    ),
    "Close other programs that use the card, then resume.": (
        "Schließe andere Programme, die die Karte benutzen, und setze dann fort."
    ),
    "Training on graphics of {maker} is untried: it may fail, or take more memory than planned. "
    "Please report how it went.": (
        "Training auf Grafikprozessoren von {maker} ist nicht erprobt: Es kann scheitern oder mehr "
        "Speicher brauchen als geplant. Bitte melde, wie es ging."
    ),
    "{card} is older than the cards this was planned for (RTX 30 and later): training may take "
    "more graphics memory and be much slower.": (
        "{card} ist älter als die Karten, für die geplant wurde (ab RTX 30): Das Training kann "
        "mehr Grafikspeicher brauchen und viel langsamer sein."
    ),
    "This machine has no working device “{device}”.": (
        "Dieser Computer hat kein funktionierendes Gerät „{device}“."
    ),
    "Use --device auto; it would take {device}.": (
        "Beginne ein neues Training; dafür wird ein Gerät gewählt, das funktioniert."
    ),
}
