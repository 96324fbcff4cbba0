"""llama.cpp's converter on several small models in one process: ``llama_convert.py DIRECTORY FILE […]``.

The models have tokenizers that no release of llama.cpp has seen, so what it would tell by a hash is told here, and
every tokenizer is read as what its ``tokenizer.json`` says.
"""

import json
import sys
from pathlib import Path

import conversion.base
import conversion.gemma
import conversion.phi
import convert_hf_to_gguf
import transformers
from conversion.base import ModelBase, TextModel

transformers.AutoTokenizer.from_pretrained = transformers.PreTrainedTokenizerFast.from_pretrained
TextModel.get_vocab_base_pre = lambda self, tokenizer: "gpt-2"
for kind in (conversion.gemma.Gemma2Model, conversion.phi.Phi3MiniModel):
    kind.set_vocab = TextModel._set_vocab_gpt2

load_hparams = ModelBase.load_hparams


def with_all_of_the_file(directory, is_mistral_format):
    """transformers 5 drops names of older releases that the converter asks for."""
    return {**load_hparams(directory, is_mistral_format), **json.loads(Path(directory, "config.json").read_text())}


ModelBase.load_hparams = staticmethod(with_all_of_the_file)

pairs = list(zip(sys.argv[1::2], sys.argv[2::2], strict=True))
for directory, file in pairs:
    sys.argv[1:] = [directory, "--outfile", file, "--outtype", "bf16"]
    convert_hf_to_gguf.main()
