"""The page of a listening test: HTML with its style, script and data inside."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from hpro_core.html import environment
from hpro_core.listening.design import FORMAT, Design

Example = tuple[str, str]
"""Id of a training clip, and what it shows: "good", "bad", "tones", or any "example"."""


def page(
    design: Design, training: Sequence[Example], minutes: int, audio: Mapping[str, str] | None
) -> str:
    """Render the page.

    Systems are not in it, and tones only of the training.

    Args:
        design: the test.
        training: clips of the training.
        minutes: about how long a session takes.
        audio: clip -> data URI; None: the page plays audio/<clip>.flac.
    """
    places = {clip: place for place, clip in enumerate(sorted(design.clips))}
    sentences = {sentence.utt_id: place for place, sentence in enumerate(design.sentences)}
    data = {
        "format": FORMAT,
        "test": design.test,
        "title": design.title,
        "minutes": minutes,
        "intended": design.emotion_intended,
        "sentences": [[sentence.text, sentence.emotion] for sentence in design.sentences],
        "clips": [[clip, sentences[design.clips[clip].utt_id]] for clip in places],
        "audio": None if audio is None else [audio[clip] for clip in places],
        "sessions": [
            [[part.part, [[places[c] for c in clips] for clips in part.trials]] for part in session]
            for session in design.sessions
        ],
        "training": [
            {"clip": places[clip], "kind": kind, "tones": design.clips[clip].tones}
            for clip, kind in training
        ],
    }
    return render("page.html", title=design.title, data=in_script(data))


def in_script(data: Mapping[str, Any]) -> str:
    """Format data as JSON that a <script> element can hold."""
    text = json.dumps(data, ensure_ascii=False, separators=(",", ":"))
    return text.replace("<", "\\u003c")


def render(template: str, **context: Any) -> str:
    """Render a template of this folder with the style of its page."""
    style = template.replace(".html", ".css")
    return environment(Path(__file__).parent, style).get_template(template).render(**context)
