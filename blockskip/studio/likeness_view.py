"""How much each step's pictures look like the pet: advice, curve and table."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from blockskip.runs.likeness import Progress
from blockskip.studio import charts, strings
from blockskip.studio.formatting import action_button, duration, e, in_words
from blockskip.studio.run_view import step_label


@dataclass(frozen=True, kw_only=True)
class Measuring:
    """What the page tells beside the figures. kept: the step to download. kind: of the pet.
    progress: what the process does, or how it failed. offer: of the judge's download, "" if it is
    on this computer. more: (pictures of each prompt and step that can be made next, their seconds
    or None), None for the demo model."""

    kept: int
    kind: str
    progress: Progress | None = None
    offer: str = ""
    more: tuple[int, float | None] | None = None


def likeness(report: Mapping | None, now: Measuring) -> str:
    """Return the likeness of each step, and the advice in one sentence.

    report: as in runs.likeness, None while it is not known.
    """
    if report is None:
        failed = now.progress is not None and now.progress.title
        return _work(now) if failed else f'<p class="hint">{strings.LIKENESS_MEASURING}</p>'
    steps, best = report.get("by_step") or {}, report.get("best_step")
    keep = ""
    if best and best != now.kept:
        keep = action_button("keep", strings.COMPARE_KEEP.format(step=best), step=best)
    sentence = report.get("advice")
    advice = (
        f'<div class="advice"><p>{e(strings.translated(sentence))}</p>{keep}</div>'
        if sentence
        else ""
    )
    known = {
        int(step): facts for step, facts in sorted(steps.items()) if facts["subject"] is not None
    }
    if not known:
        begin = now.offer or action_button("measure", strings.LIKENESS_BEGIN)
        return advice + (_work(now) if now.progress else begin)
    return f"{advice}{_curve(known, report, now)}{_table(known, best, now)}{_about(report, now)}{_work(now)}"


def _curve(known: Mapping[int, Mapping], report: Mapping, now: Measuring) -> str:
    anchors = report.get("anchors") or {}
    ceiling = anchors.get("ceiling")
    names = {
        "subject": strings.LIKENESS_PET,
        "class_word": strings.LIKENESS_CLASS.format(kind=now.kind),
        "nearest": strings.LIKENESS_NEAREST,
    }
    mark = (ceiling, strings.LIKENESS_CEILING) if ceiling and ceiling > 0 else None
    return charts.likeness_chart(known, names, mark)


def _table(known: Mapping[int, Mapping], best: int | None, now: Measuring) -> str:
    """Return a row of figures for each step; columns without any figure are left out."""
    heads = {
        strings.LIKENESS_PET: lambda facts: _share(facts["subject"]),
        strings.LIKENESS_BEHIND: lambda facts: _interval(facts.get("less")),
        strings.LIKENESS_CLASS.format(kind=now.kind): lambda facts: _share(facts["class_word"]),
        strings.LIKENESS_PLACES: lambda facts: _places(facts["places_obeyed"]),
        strings.LIKENESS_NEAREST: lambda facts: _share(facts.get("nearest")),
        strings.LIKENESS_COPIES: lambda facts: _count(facts.get("copies")),
        strings.LIKENESS_LOST.format(kind=now.kind): lambda facts: _count(facts.get("not_found")),
    }
    columns = {
        head: cells
        for head, cell in heads.items()
        if set(cells := [cell(facts) for facts in known.values()]) != {"–"}
    }
    head = "".join(f'<th scope="col">{e(words)}</th>' for words in columns)
    rows = "".join(
        f'<tr class="{"best" if step == best else ""}"><th scope="row">{step_label(step)}'
        f"{f' <em>{strings.LIKENESS_BEST}</em>' if step == best else ''}</th>"
        f"{''.join(f'<td>{cells[i]}</td>' for cells in columns.values())}</tr>"
        for i, step in enumerate(known)
    )
    return (
        f'<div class="wide" tabindex="0" role="region" aria-label="{strings.LIKENESS_TITLE}"><table class="figures"><caption>{strings.LIKENESS_TITLE}</caption><thead><tr><td></td>'
        f"{head}</tr></thead><tbody>{rows}</tbody></table></div>"
    )


def _about(report: Mapping, now: Measuring) -> str:
    """Return what the figures mean, folded beyond the first sentence."""
    anchors, kind = report.get("anchors"), e(now.kind)
    if not anchors:
        first, rest = strings.LIKENESS_ABOUT.format(kind=kind), [strings.LIKENESS_BEHIND_ABOUT]
    else:
        words = strings.LIKENESS_UNSEEN if anchors["held_out"] else strings.LIKENESS_SEEN
        first, rest = words.format(photos=anchors["photos"]), _meanings(anchors, kind)
    told = "".join(f'<p class="hint">{words}</p>' for words in rest)
    return f'<p class="hint">{first}</p><details><summary>{strings.LIKENESS_MEANING}</summary>{told}</details>'


def _meanings(anchors: Mapping, kind: str) -> list[str]:
    told = [strings.LIKENESS_BEHIND_ABOUT]
    if anchors["ceiling"] is not None and anchors["floor"] is not None:
        ends = {
            "ceiling": strings.number(anchors["ceiling"], ".2f"),
            "floor": strings.number(anchors["floor"], ".2f"),
        }
        told.append(strings.LIKENESS_ANCHORS.format(**ends, kind=kind))
    if anchors["copying"] is not None:
        told.append(
            strings.LIKENESS_COPYING.format(copying=strings.number(anchors["copying"], ".2f"))
        )
    return [*told, strings.LIKENESS_UNTRIED]


def _work(now: Measuring) -> str:
    """Return what is being measured, with a way to end it, or a way to measure more."""
    told = now.progress
    if told is not None and told.title:
        words = in_words(told)
        again = action_button("measure", strings.LIKENESS_AGAIN)
        return f'<p class="hint warn" role="status">{e(words)}</p>{again}'
    if told is not None:
        words = strings.LIKENESS_DOING[told.doing].format(n=told.n, total=told.total)
        bar = f'max="{told.total}" value="{told.n}"' if told.total else ""
        return (
            f'<p class="hint" role="status">{words}</p><progress class="bar working" {bar} '
            f'aria-label="{words}"></progress>{action_button("measure_stop", strings.LIKENESS_STOP)}'
        )
    if now.more is None:
        return ""
    rounds, seconds = now.more
    words = strings.LIKENESS_MORE_ONE if rounds == 1 else strings.LIKENESS_MORE
    time = strings.LIKENESS_MORE_TIME.format(time=duration(seconds)) if seconds else ""
    button = action_button("measure_more", words.format(count=rounds) + time)
    return f'<p class="hint">{strings.LIKENESS_MORE_ABOUT}</p>{button}'


def _share(value: float | None) -> str:
    return "–" if value is None else strings.number(value, ".2f")


def _interval(value: Sequence[float] | None) -> str:
    return "–" if value is None else " ± ".join(strings.number(one, ".2f") for one in value)


def _count(value: int | None) -> str:
    return "–" if value is None else str(value)


def _places(value: Sequence[int] | None) -> str:
    return f"{value[0]}/{value[1]}" if value and value[1] else "–"
