"""LLM judges in a live campaign: each has a link as people have, and gets its pairs and gives its reports over HTTP.

A judge is one labeler among others. It is given one pair at a time, the same again until it has answered, and its
request for a pair has one key: a run that was killed goes on where it was, and nothing is counted twice.
"""

from __future__ import annotations

import hashlib
import json
import math
import re
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import urlsplit

from truthful_rlhf.aggregation.names import unknown
from truthful_rlhf.labelers.judges.server import JudgeError
from truthful_rlhf.labelers.pairs import Pairs
from truthful_rlhf.pipeline.judge.job import answers_of
from truthful_rlhf.pipeline.judge.jury import Juror, JuryError

_TRIES = 6
_TIMEOUT_SECONDS = 60.0
_AGAIN = (429, 502, 503, 504)

_LINE = re.compile(r"^(\S.*?)\s+(?:labeler|expert|owner)\s+(\S+/join/\S+)\s*$", flags=re.MULTILINE)
"""A line with name, role and link."""


class Seat(NamedTuple):
    """Where a judge takes part, and with which token."""

    base_url: str
    token: str


@dataclass
class Part:
    """What a judge has done in a campaign."""

    labeler_id: str
    answered: int = 0
    abstained: int = 0
    refused: int = 0
    """Answers that came when the pair had been closed by others."""


def seats_of(campaign: str, jurors: Sequence[Juror]) -> list[Seat]:
    """Return every judge's seat.

    Args:
        campaign: the link of the one judge; or a file with the lines that ``campaign init`` and ``invite`` print (name,
            role, link), where each judge is found by its name. A file keeps links out of the list of processes.
        jurors: who judges; only one aspect can be asked about.

    Raises:
        JuryError: a judge without a link, a link that is none, or a rubric of several aspects.
    """
    if len({juror.aspect for juror in jurors}) > 1:
        raise JuryError("a campaign asks about the whole pair: give a rubric of one text, not of several aspects")
    names = [juror.labeler_id for juror in jurors]
    if campaign.startswith(("http://", "https://")):
        if len(jurors) > 1:
            raise JuryError(
                f"one link is one judge's, and the panel seats {len(jurors)}: write a line 'NAME labeler LINK' for each"
                " into a file and give that as --campaign"
            )
        return [_seat(campaign)]
    try:
        text = Path(campaign).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise JuryError(f"--campaign {campaign}: neither a link nor a file of links: {error}") from None
    links = dict(_LINE.findall(text))
    for name in names:
        if name not in links:
            raise JuryError(f"{campaign}: {unknown('judge', name, links)}; truthful-rlhf campaign invite DIR {name}")
    return [_seat(links[name]) for name in names]


def judge_campaign(
    jurors: Sequence[Juror], seats: Sequence[Seat], on_answer: Callable[[Juror, Part], None]
) -> tuple[list[Part], dict[str, str]]:
    """Have judges answer in turns until the campaign has no pair for any of them just now.

    Args:
        jurors: who judges.
        seats: of each.
        on_answer: told who has just answered, and what it has done so far.

    Returns:
        What each has done, and the judges that had to stop, by name, with the reason.
    """
    parts = [Part(juror.labeler_id) for juror in jurors]
    stopped: dict[str, str] = {}
    waiting = list(range(len(jurors)))
    while waiting:
        for k in list(waiting):
            try:
                there_was_one = _judge_next(jurors[k], seats[k], parts[k])
            except (JudgeError, FileNotFoundError) as error:
                stopped[jurors[k].labeler_id] = str(error)
                there_was_one = False
            if there_was_one:
                on_answer(jurors[k], parts[k])
            else:
                waiting.remove(k)
    return parts, stopped


def _judge_next(juror: Juror, seat: Seat, part: Part) -> bool:
    """Answer one pair; return whether there was any."""
    task = _post(seat, "next", {})
    if task is None:
        return False
    began = time.monotonic()
    answers = answers_of(juror.judge, Pairs([task["pair_id"]], [task["prompt"]], [task["left"]], [task["right"]]))
    belief = float(answers.belief[0])
    said = {
        "pair_id": task["pair_id"],
        "left_is_better": None if math.isnan(belief) else belief,
        "seconds": round(time.monotonic() - began, 3),
        "key": f"judge-{hashlib.sha256(task['pair_id'].encode()).hexdigest()[:32]}",
    }
    receipt = _post(seat, "report", said)
    part.abstained += math.isnan(belief)
    part.answered += receipt["accepted"] and not math.isnan(belief)
    part.refused += not receipt["accepted"]
    if receipt["reason"] not in (None, "closed"):
        raise JudgeError(f"{seat.base_url} does not take its report: {receipt['reason']}")
    return True


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    """A redirect would take the token to another server."""

    def redirect_request(self, *args: Any, **kwargs: Any) -> None:
        return None


_OPENER = urllib.request.build_opener(_NoRedirect)


def _post(seat: Seat, verb: str, content: dict[str, Any]) -> Any:
    """Return the server's answer; wait and try again where it is busy or cannot be reached for a moment."""
    headers = {"Authorization": f"Bearer {seat.token}", "Content-Type": "application/json"}
    address = f"{seat.base_url}/api/{verb}"
    problem = ""
    for attempt in range(_TRIES):
        request = urllib.request.Request(address, json.dumps(content).encode(), headers, method="POST")
        try:
            with _OPENER.open(request, timeout=_TIMEOUT_SECONDS) as answer:
                return json.load(answer)
        except urllib.error.HTTPError as error:
            if error.code in (401, 403):
                raise JudgeError(f"{seat.base_url} does not know this link as a labeler's: ask for another") from None
            problem = f"answers {error.code}"
            if error.code not in _AGAIN:
                break
        except (OSError, ValueError) as error:
            problem = f"cannot be reached ({error})"
        if attempt + 1 < _TRIES:
            time.sleep(0.2 * 2**attempt)
    raise JudgeError(f"{address} {problem}; the same command goes on from here")


def _seat(link: str) -> Seat:
    parts = urlsplit(link)
    path, join, token = parts.path.rpartition("/join/")
    if parts.scheme not in ("http", "https") or not parts.hostname or not join or not token:
        raise JuryError("--campaign: a link is written http://HOST/join/TOKEN, as campaign init prints it")
    return Seat(f"{parts.scheme}://{parts.netloc}{path}", token)
