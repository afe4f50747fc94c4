"""The cached conversion of the bundled model; what is loaded from it is tested wherever a model is."""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import Any

import pytest

from truthful_rlhf.pipeline.models import load


@pytest.mark.skipif(os.name == "nt", reason="Windows has no umask to speak of")
def test_the_folder_of_a_converted_model_has_the_mode_that_the_umask_leaves(
    tiny_model_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The weights are a tiny model's, as if they had been read from a GGUF file, which takes half a minute."""
    import transformers

    read = {name: getattr(transformers, name).from_pretrained for name in ("AutoModelForCausalLM", "AutoTokenizer")}

    def from_gguf(name: str) -> Any:
        def from_pretrained(folder: str, gguf_file: str, **_: Any) -> Any:
            result = read[name](tiny_model_folder)
            if name == "AutoModelForCausalLM":
                result.config.quantization_config = {}
            return result

        return from_pretrained

    for name in read:
        monkeypatch.setattr(getattr(transformers, name), "from_pretrained", from_gguf(name))
    before = os.umask(0o022)
    try:
        load._convert_gguf(tmp_path / "model.gguf", tmp_path / "cache" / "tiny")
    finally:
        os.umask(before)
    assert [path.name for path in (tmp_path / "cache").iterdir()] == ["tiny"]
    assert stat.S_IMODE((tmp_path / "cache" / "tiny").stat().st_mode) == 0o755
    assert (tmp_path / "cache" / "tiny" / "model.safetensors").is_file()
