"""The same in German: the planner's reasons (memory/planning/wording.py).

Clauses are put together there: {change} is an accusative, and a card's {stage} begins a sentence.
"""

from __future__ import annotations

from blockskip.core import stages

PLAN_TEMPLATES = {
    "and": " und ",
    # the summary: does it fit, what limits it, the expected result
    "fits_card": "Das passt auf eine Karte mit {budget_gib:g GiB}.",
    "fits_free": "Das passt in die {free_gib:.1f GiB}, die jetzt auf der Karte frei sind.",
    "limited": "Was das Training begrenzt: {limits}.",
    "limits_speed": "Der Grafikspeicher begrenzt nur das Tempo.",
    "limits_nothing": "Nichts begrenzt das Training.",
    "limit_card": "Grafikspeicher",
    "limit_ram": "RAM",
    "limit_disk": "Platz auf der Platte",
    "result_same": "Zu erwarten ist fast die volle Qualität.",
    "result_slightly_less": "Zu erwarten ist etwas weniger als die volle Qualität.",
    "result_less": (
        "Zu erwarten ist weniger als die volle Qualität; mit einer größeren Karte wäre es mehr."
    ),
    # a way to train
    "way": "{blocks}, {side_px} px, {bits}{captions}",
    "way_skips": "{percent} % der Blöcke übersprungen",
    "way_skips_none": "keine Blöcke übersprungen",
    "way_captions": ", Bildtexte mit {text_tokens} Token",
    "bits_full": "16 Bit",
    "bits_int8": "8 Bit",
    "bits_nf4": "4 Bit (NF4)",
    # usable memory
    "usable": (
        "{usable_gib:.2f GiB} sind verplanbar: {whole} abzüglich {reserve_gib:.2f GiB} für den "
        "Desktop und für CUDA selbst."
    ),
    "usable_budget": "{budget_gib:g GiB}",
    "usable_free": "die {free_gib:.1f GiB}, die jetzt frei sind (von {budget_gib:g} erlaubten),",
    # skipped blocks, and the published likeness
    "skips": (
        "{front} + {back} von {num_blocks} Blöcken werden übersprungen, trainiert wird mit "
        "{side_px} px: Ähnlichkeit (DINO) {whose} {likeness:.4f}, einfaches LoRA {reference:.4f} "
        "(DiT-BlockSkip, nach Notizen)."
    ),
    "skips_none": (
        "Keiner der {num_blocks} Blöcke wird übersprungen, trainiert wird mit {side_px} px: "
        "Ähnlichkeit (DINO) {whose} {reference:.4f}, wie beim einfachen LoRA (DiT-BlockSkip, nach "
        "Notizen)."
    ),
    "whose_published": "laut Veröffentlichung",
    "whose_between": "zwischen veröffentlichten Werten:",
    "whose_other_model": "von FLUX.1-dev, ungeprüft übernommen:",
    "small": "Dieses Modell ist klein: {needs_gib:.1f GiB} Grafikspeicher reichen dafür.",
    # crops
    "pictures": "{seen}{enlarged}{cost}",
    "pictures_whole": "Das Modell sieht ganze Bilder mit {side_px} px, keine Nahaufnahmen.",
    "pictures_whole_published": (
        "Das Modell sieht ganze Bilder mit {side_px} px, keine Nahaufnahmen: laut Veröffentlichung "
        "{loss:.4f} weniger als mit Ausschnitten, die dem Rauschen folgen."
    ),
    "pictures_close": (
        "Das Modell sieht Fotos ganz und aus der Nähe: Ausschnitte von {largest_px} bis hinab zu "
        "{side_px} px, alle mit {side_px} px. Nahaufnahmen hoben die veröffentlichte Ähnlichkeit "
        "bei 256 px um {gain:.4f}{known}."
    ),
    "close_published_whole": "; was zu 512 px veröffentlicht ist, gilt für ganze Bilder",
    "close_unpublished": "; zu {side_px} px ist nichts veröffentlicht",
    "pictures_asked": (
        "Ausschnitte sind „{schedule}“, wie du es wolltest, höchstens {largest_px} px groß, alle "
        "mit {side_px} px: laut Veröffentlichung {loss:.4f} weniger als mit Ausschnitten, die dem "
        "Rauschen folgen."
    ),
    "pictures_enlarged": (
        " Fotos, deren kürzere Seite unter {largest_px} px liegt, werden dafür vergrößert."
    ),
    "pictures_cost": (
        " {side_px} px statt {least_px} px kosten {times:.1f}-mal so viel Rechenarbeit{crops}."
    ),
    "pictures_cost_crops": "; größere Ausschnitte allein kosten nichts",
    # precision
    "unquantised": "Die trainierten Blöcke bleiben unquantisiert: {size_gib:.1f GiB}.",
    "quantised": (
        "Die eingefrorenen Gewichte werden mit {bits} aufbewahrt: {size_gib:.1f} statt "
        "{full_gib:.1f GiB}. Der Verlust von {loss:g} dadurch ist unsere Annahme, noch nicht "
        "gemessen.{computed}"
    ),
    "int8_products": (
        " Auch die Produkte mit ihnen werden mit 8 Bit berechnet, denn das ist schneller. "
        "Ausgenommen sind Schichten, in denen das gemessen um mehr als 2 % danebenliegt."
    ),
    "faster": (
        "Auch {bits} würden passen{twice}: Das Training dauerte etwa {percent} % länger, gerechnet "
        "für einen üblichen PC, bei einem Unterschied im Rahmen des Zufalls."
    ),
    "faster_twice": ", bei {count} doppelt berechneten Blöcken",
    "float16": (
        "Diese Grafikkarte kann kein bfloat16. Deshalb rechnet das Modell in float16, mit "
        "skaliertem Verlust; Bildtexte und VAE tun das nicht. Auf so einer Karte ist das noch "
        "nicht erprobt."
    ),
    # better options
    "better": (
        "Besser wäre nach der Rangfolge der Verluste: {way}. Nötig wären {lacks}.{streamed}"
    ),
    "better_lacks": ("mindestens {needs_gib:.1f GiB} {limit} ({there_gib:.1f} sind verplanbar)"),
    "better_streams_more": (
        " Nachgeladen gingen in jedem Schritt {size_gib:.1f GiB} statt {mine_gib:.1f} über den Bus."
    ),
    "better_would_stream": (
        " Nachgeladen würde es passen, mit {size_gib:.1f GiB} in jedem Schritt über den Bus. Das "
        "bleibt Karten vorbehalten, auf denen nichts anderes geht."
    ),
    "unskipped": (
        "Auch ohne Überspringen würde es passen ({way}), {gain}. Überspringen spart {percent} % "
        "der Rechenarbeit eines Trainingsschritts und bleibt deshalb."
    ),
    "likeness_same": "bei gleicher erwarteter Ähnlichkeit",
    "likeness_more": "bei {likeness:.4f} mehr erwarteter Ähnlichkeit{chance}",
    "likeness_chance": " (so viel schwanken solche Werte ohnehin)",
    # costs in time, and shorter captions
    "recomputed": (
        "In {count} der {trained} trainierten Blöcke werden die Aktivierungen doppelt berechnet "
        "(Checkpointing): Schritte dauern {percent} % länger, ohne Verlust."
    ),
    "leaves": (
        "Die trainierten Blöcke verlassen die Karte, während Fenster und Probebilder entstehen: "
        "Ihre Gewichte gehen zweimal je Fenster über den Bus."
    ),
    "streamed": (
        "Nicht einmal die trainierten Blöcke passen: Sie werden in jedem Schritt nachgeladen. Die "
        "Qualität leidet nicht, aber der Bus bestimmt, wie lange es dauert."
    ),
    "captions": (
        "Bildtexte sind {text_tokens} statt {full_tokens} Token lang; der Verlust dadurch ist "
        "unsere Annahme."
    ),
    "together": (
        "Der Platz reicht, um {batch} der {draws} Ziehungen eines Schritts gemeinsam durch die "
        "trainierten Blöcke zu schicken: weniger und größere Produkte{unpacked}{crossing}. Gelernt "
        "wird dasselbe."
    ),
    "together_unpacked": ", seltener entpackte Gewichte",
    "together_crossing": " und seltenere Wege über den Bus",
    # offloaded weights, and how often they cross the bus
    "waits_in_ram": ("Gewichte, die nicht auf der Karte sind, warten im RAM: {size_gib:.1f GiB}."),
    "waits_in_file": (
        "Gewichte, die nicht auf der Karte sind, werden jedes Mal aus ihrer Datei gelesen: "
        "{size_gib:.1f GiB} passen neben dem Rest nicht in die {ram_gib:.0f GiB} RAM.{now}"
    ),
    "waits_partly": (
        "Von den {size_gib:.1f GiB} Gewichten, die nicht auf der Karte sind, warten {kept_gib:.1f} "
        "im RAM. Der Rest wird jedes Mal aus seiner Datei gelesen: Die {ram_gib:.0f GiB} RAM "
        "fassen neben allem anderen nicht mehr.{now}"
    ),
    "ram_now": (
        " RAM: {free_gib:.1f GiB} sind jetzt frei, davon bleiben {spare_gib:g} für andere "
        "Programme."
    ),
    "ram_short": (
        "RAM: {free_gib:.1f GiB} sind jetzt frei, gebraucht werden bis zu {needs_gib:.1f GiB}. "
        "Schließe andere Programme, bevor es beginnt, sonst wird es langsam."
    ),
    "window": (
        "Ein Fenster von {draws} Ziehungen{used} wird auf einmal berechnet, mit dem LoRA, wie es "
        "dann ist{crossing}."
    ),
    "window_used": ", jede {reuse}-mal benutzt,",
    "window_one_step": (
        ": Die Gewichte {which} gehen einmal je Fenster über den Bus, und ein Fenster ist hier "
        "nicht mehr als ein Schritt"
    ),
    "window_steps": (
        ": Die Gewichte {which} gehen einmal je Fenster von {steps} Schritten über den Bus, nicht "
        "in jedem Schritt"
    ),
    "weights_off_card": "außerhalb der Karte",
    "weights_skipped": "der übersprungenen Blöcke",
    # sample pictures
    "samples_sibling": (
        "Die Probebilder macht {title}, mit dem du dein LoRA benutzen wirst: je Bild {passes} "
        "Durchläufe des Modells statt {own}."
    ),
    "samples_few_steps": (
        "Probebilder brauchen nur {steps} Schritte, und in jedem arbeiten alle Blöcke: Ein "
        "Schritt-Zwischenspeicher würde nichts sparen."
    ),
    "samples_no_ram": (
        "In jedem Schritt der Probebilder arbeiten alle Blöcke: Im RAM ist neben dem Rest kein "
        "Platz für einen Schritt-Zwischenspeicher."
    ),
    "samples_key_steps": (
        "Probebilder sind „{speed}“: {computed} von {steps} Schritten werden berechnet; welche, "
        "wurde an diesem Modell gemessen. In den anderen ruhen alle Blöcke, und keine Gewichte "
        "werden geholt."
    ),
    "samples_first_block": (
        "Probebilder sind „{speed}“: Ändert sich in einem Schritt die Arbeit des ersten Blocks um "
        "weniger als {percent} %, ruhen die anderen, und ihre Gewichte werden nicht geholt "
        "(FirstBlockCache der Bibliothek, der keine eigenen Werte des Modells braucht)."
    ),
    # the benefit of more GPU memory
    "more_next": "Ein GB mehr brächte {change}.",
    "more_later": (
        "Ein GB mehr würde nichts daran ändern, was trainiert wird. {more_gib} GB mehr brächten "
        "{change}."
    ),
    "more_nothing": ("Mehr Grafikspeicher würde nichts daran ändern, was trainiert wird.{room}"),
    "freed": "Mit diesen {size_gib:.1f GiB}: {change}.",
    "freed_nothing": "Mit diesen {size_gib:.1f GiB} bliebe der Plan gleich.",
    "commit_short": (
        "Windows kann Programmen noch {free_gib:.1f GiB} zusichern, und das hier braucht bis zu "
        "{needs_gib:.1f GiB}, denn Windows zählt mit, was auf der Karte liegt. Schließe Programme "
        "oder vergrößere die Auslagerungsdatei um {more_gib:.1f GiB} (Einstellungen, System, Info, "
        "Erweiterte Systemeinstellungen, Leistung, Erweitert, Virtueller Arbeitsspeicher; am "
        "besten „Auslagerungsdateigröße für alle Laufwerke automatisch verwalten“)."
    ),
    "more_small": "Mehr Grafikspeicher würde wenig ändern: Dieses Modell passt überall.",
    "gives_likeness": "{then}: {likeness:.4f} mehr Ähnlichkeit erwartet{time}",
    "in_less_time": ", bei etwa {percent} % kürzerer Dauer",
    "in_more_time": ", bei etwa {percent} % längerer Dauer",
    "gives_room": (
        "Platz für die trainierten Blöcke: Sie müssten nicht in jedem Schritt über den Bus"
    ),
    "gives_speed": "die gleiche Qualität in etwa {percent} % weniger Zeit",
    "gives_calm": "die gleiche Qualität mit weniger Warten zwischen den Schritten",
    "room_now": " Du könntest alle Blöcke trainieren, {gain}.",
    "room_later": " Mit {more_gib:g GiB} mehr könntest du alle Blöcke trainieren, {gain}.",
    # refusals
    "budget_too_small": "Ein Budget von {budget_gib:g GiB} ist zu klein für {model}{free}.",
    "budget_free": "; {free_gib:.1f GiB} sind jetzt frei",
    "budget_least": (
        "Mindestens {least_gib:g GiB} sind nötig. {stage} braucht {needs_gib:.1f GiB}, und der "
        "Rest bleibt für den Desktop und den Treiber."
    ),
    "ram_too_small": "{ram_gib:g GiB} RAM sind zu wenig für {model}.",
    "ram_least": (
        "Mindestens {least_gib:g GiB} sind nötig: für das Programm selbst und für zwei Blöcke des "
        "Modells auf ihrem Weg zur Karte."
    ),
    "disk_too_small": "{disk_gib:g GiB} auf der Platte sind zu wenig für {model}.",
    "disk_least": "Mindestens {least_gib:g GiB} sind nötig, das meiste davon für {stage}.",
    "small_too_small": (
        "Ein Budget von {budget_gib:g GiB} ist zu klein für {model}: Diese Blöcke zu trainieren "
        "braucht {needs_gib:.1f GiB}."
    ),
    "small_least": (
        "Mindestens {least_gib:.1f GiB} sind nötig; dabei werden {front} + {back} von {num_blocks} "
        "Blöcken übersprungen."
    ),
    f"card_{stages.TEXT}": (
        "Das Lesen der Bildtexte mit T5-XXL, immer zwei seiner Blöcke auf einmal,"
    ),
    f"card_{stages.LATENTS}": "Das Umwandeln der Fotos in Latents",
    f"card_{stages.RESIDUALS}": ("Das Berechnen der übersprungenen Blöcke, immer zwei auf einmal,"),
    f"card_{stages.TRAIN}": "Das Training der Blöcke, die nicht übersprungen werden,",
    f"card_{stages.PREVIEW}": "Das Erzeugen eines Probebilds, immer zwei Blöcke auf einmal,",
    f"disk_{stages.TEXT}": "Bildtexte",
    f"disk_{stages.LATENTS}": "die kodierten Ausschnitte",
    f"disk_{stages.RESIDUALS}": (
        "die Ergebnisse der übersprungenen Blöcke und, falls vorhanden, quantisierte Blöcke"
    ),
    f"disk_{stages.TRAIN}": "Zwischenstände des Trainings",
    f"disk_{stages.PREVIEW}": "Probebilder",
}
