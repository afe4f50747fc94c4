"""Upload a folder to the Hugging Face Hub, with its card, through the Hub's own client."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import yaml

from truthful_rlhf.aggregation.extras import require

_NAME = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")
LICENCES = "apache-2.0, mit, cc-by-4.0, cc-by-sa-4.0, cc0-1.0, other, unknown, ..."


class HubError(RuntimeError):
    """Something cannot be uploaded; the message says why and what to type."""


def check_repository(name: str) -> None:
    """Refuse, before any work, a name that is none, or an upload without the Hub's client or a login.

    Raises:
        HubError: the name is not ``owner/name``, or nobody is logged in.
        MissingExtraError: the client is not installed.
    """
    if not _NAME.fullmatch(name):
        raise HubError(f"--push-to-hub {name}: expected owner/name, such as my-team/my-data")
    require("hub", "--push-to-hub")
    from huggingface_hub import get_token

    if not get_token():
        raise HubError("--push-to-hub needs a login: type 'hf auth login', or set HF_TOKEN to a token that may write")


def push(
    name: str,
    kind: Literal["dataset", "model"],
    files: Mapping[str, Path | bytes],
    card: str,
    message: str,
) -> str:
    """Upload files and a card in one commit; return the address of the repository.

    A repository that does not exist is made, and is private: what people wrote and said is opened by its owner, on the
    Hub's page. One that exists keeps its visibility, and files of other names.

    Args:
        name: ``owner/name``.
        kind: of repository.
        files: path in the repository -> the file, or its content.
        card: text of ``README.md``, with its front matter.
        message: of the commit.

    Raises:
        HubError: the Hub refuses, or cannot be reached.
    """
    from huggingface_hub import CommitOperationAdd, HfApi

    api = HfApi()
    additions = [
        CommitOperationAdd(path, file if isinstance(file, bytes) else str(file)) for path, file in files.items()
    ]
    additions.append(CommitOperationAdd("README.md", card.encode("utf-8")))
    try:
        url = api.create_repo(name, repo_type=kind, private=True, exist_ok=True)
        api.create_commit(name, additions, commit_message=message, repo_type=kind)
    except Exception as error:  # the client raises whatever its HTTP library raises
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise HubError(
            f"cannot upload to {name} on the Hub: {reason}. Everything is on disk: push again later"
        ) from error
    return str(url)


def with_front_matter(fields: Mapping[str, Any], body: str) -> str:
    """Return a card: the fields that the Hub reads, then the text.

    Args:
        fields: of the card's metadata; None is left out.
        body: Markdown.
    """
    known = {key: value for key, value in fields.items() if value is not None}
    return f"---\n{yaml.safe_dump(known, sort_keys=False, allow_unicode=True)}---\n\n{body.strip()}\n"


def below(root: Path, folder: Path, names: Sequence[str] = ()) -> dict[str, Path]:
    """Return the files below a folder, by their path in a repository whose root is ``root``.

    Args:
        root: what paths are relative to.
        folder: ``root`` or below.
        names: which file names; none: all.
    """
    found = sorted(path for path in folder.rglob("*") if path.is_file() and (not names or path.name in names))
    return {path.relative_to(root).as_posix(): path for path in found}
