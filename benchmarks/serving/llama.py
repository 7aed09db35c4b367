"""A server of llama.cpp for `benchmarks.serving.load`, with a transformer of random weights.

The weights are random: what it writes means nothing, and how fast it is depends on their number
alone. The shape is that of nanoGPT's example of characters on a CPU, over bytes: 4 layers of 128
features with 4 heads, 0.87 million weights.
"""

from __future__ import annotations

import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from benchmarks.serving.running import Server

PROGRAM = """
import sys, time
import gguf, numpy, xllamacpp

path, slots = sys.argv[1], int(sys.argv[2])
features, layers, heads, inner, vocab, context = 128, 4, 4, 352, 259, 256 * slots
writer = gguf.GGUFWriter(path, "llama")
writer.add_context_length(context)
writer.add_embedding_length(features)
writer.add_block_count(layers)
writer.add_feed_forward_length(inner)
writer.add_head_count(heads)
writer.add_head_count_kv(heads)
writer.add_layer_norm_rms_eps(1e-5)
writer.add_rope_dimension_count(features // heads)
writer.add_vocab_size(vocab)
kind, specials = gguf.TokenType, [b"<unk>", b"<s>", b"</s>"]
writer.add_tokenizer_model("llama")
writer.add_token_list(specials + [f"<0x{byte:02X}>".encode() for byte in range(256)])
writer.add_token_scores([0.0] * vocab)
writer.add_token_types([kind.UNKNOWN, kind.CONTROL, kind.CONTROL] + [kind.BYTE] * 256)
writer.add_bos_token_id(1)
writer.add_eos_token_id(2)
writer.add_unk_token_id(0)
random = numpy.random.default_rng(0)
square, out, down = (features, features), (inner, features), (features, inner)
shapes = {"token_embd": (vocab, features), "output": (vocab, features)}
for k in range(layers):
    names = {"attn_q": square, "attn_k": square, "attn_v": square, "attn_output": square}
    names |= {"ffn_gate": out, "ffn_up": out, "ffn_down": down}
    shapes |= {f"blk.{k}.{name}": shape for name, shape in names.items()}
for name, shape in shapes.items():
    weights = 0.05 * random.standard_normal(shape)
    writer.add_tensor(f"{name}.weight", weights.astype(numpy.float32))
norms = ["output_norm", *(f"blk.{k}.{n}_norm" for k in range(layers) for n in ("attn", "ffn"))]
for name in norms:
    writer.add_tensor(f"{name}.weight", numpy.ones(features, numpy.float32))
writer.write_header_to_file()
writer.write_kv_data_to_file()
writer.write_tensors_to_file()
writer.close()
parameters = xllamacpp.CommonParams()
parameters.model.path, parameters.port = path, 0
parameters.n_parallel, parameters.n_ctx, parameters.cpuparams.n_threads = slots, context, 2
server = xllamacpp.Server(parameters)
print(server.listening_address, flush=True)
time.sleep(3600)
"""


@contextmanager
def llama_server(python: str, slots: int) -> Iterator[Server]:
    """A server of llama.cpp.

    python:  an interpreter that has xllamacpp and gguf
    slots:   texts that are written side by side
    """
    with tempfile.TemporaryDirectory() as folder:
        command = [python, "-c", PROGRAM, str(Path(folder) / "model.gguf"), str(slots)]
        with subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
        ) as process:
            assert process.stdout
            address = process.stdout.readline()
            try:
                yield Server(process.pid, int(address.rpartition(":")[2]))
            finally:
                process.kill()
