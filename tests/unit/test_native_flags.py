"""The embedded engine's flag table: parsing, error lines, and what each flag sets in the real parameters."""

from __future__ import annotations

import operator
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import xllamacpp

from benchai.runtime.engine import native_flags
from benchai.runtime.engine.native_flags import FLAGS, REFUSED, FlagError

MIB = 1024 * 1024
EXPERTS = r"\.ffn_(up|down|gate|gate_up)_(ch|)exps"


def configured(*argv: str) -> Any:
    params = xllamacpp.CommonParams()
    native_flags.apply(native_flags.parse(argv), params)
    return params


def test_no_name_is_given_to_two_flags() -> None:
    names = Counter(name for flag in FLAGS for name in (*flag.names, *flag.negatives))
    assert [name for name, count in names.items() if count > 1] == []
    assert not set(names) & set(REFUSED)


def test_defaults_are_those_of_llama_server() -> None:
    params = configured()
    assert (params.port, params.n_parallel, params.hostnames) == (8080, -1, ["127.0.0.1"])
    assert params.default_template_kwargs["preserve_reasoning"] == "true"


@pytest.mark.parametrize(
    ("argv", "path", "expected"),
    [
        ("-m a.gguf", "model.path", "a.gguf"),
        ("--model a.gguf -m b.gguf", "model.path", "b.gguf"),
        ("-a one,two", "model_alias", {"one", "two"}),
        ("--host ::1", "hostnames", ["::1"]),
        ("--port 0", "port", 0),
        ("--api-key a,b --api-key c", "api_keys", ["a", "b", "c"]),
        ("-to 7", "timeout_read", 7),
        ("--timeout 7", "timeout_write", 7),
        ("--no-webui", "ui", False),
        ("--metrics", "endpoint_metrics", True),
        ("--props", "endpoint_props", True),
        ("--no-slots", "endpoint_slots", False),
        ("-c 512", "n_ctx", 512),
        ("--ctx_size 512", "n_ctx", 512),
        ("-c 0", "fit_params_min_ctx", -1),
        ("-np 3", "n_parallel", 3),
        ("-kvu", "kv_unified", True),
        ("-kvu --no-kv-unified", "kv_unified", False),
        ("-nocb", "cont_batching", False),
        ("-b 64", "n_batch", 64),
        ("-ub 32", "n_ubatch", 32),
        ("-t 2", "cpuparams.n_threads", 2),
        ("-tb 3", "cpuparams_batch.n_threads", 3),
        ("-fa on", "flash_attn_type", xllamacpp.llama_flash_attn_type.LLAMA_FLASH_ATTN_TYPE_ENABLED),
        ("-fa off", "flash_attn_type", xllamacpp.llama_flash_attn_type.LLAMA_FLASH_ATTN_TYPE_DISABLED),
        ("-ctk q8_0", "cache_type_k", xllamacpp.ggml_type.GGML_TYPE_Q8_0),
        ("--cache-type-v bf16", "cache_type_v", xllamacpp.ggml_type.GGML_TYPE_BF16),
        ("-nkvo", "no_kv_offload", True),
        ("--no-repack", "no_extra_bufts", True),
        ("--load-mode mlock", "load_mode", xllamacpp.llama_load_mode.LLAMA_LOAD_MODE_MLOCK),
        ("--load-mode mmap+mlock", "load_mode", xllamacpp.llama_load_mode.LLAMA_LOAD_MODE_MMAP_MLOCK),
        ("--load-mode dio", "load_mode", xllamacpp.llama_load_mode.LLAMA_LOAD_MODE_DIRECT_IO),
        ("-ngl auto", "n_gpu_layers", -1),
        ("-ngl all", "n_gpu_layers", -2),
        ("--gpu-layers 12", "n_gpu_layers", 12),
        ("-sm row", "split_mode", xllamacpp.llama_split_mode.LLAMA_SPLIT_MODE_ROW),
        ("-ts 3/1", "tensor_split", [3.0, 1.0] + [0.0] * 126),
        ("-cmoe", "tensor_buft_overrides", f"{EXPERTS}=CPU"),
        ("-ot exps=CPU -ot a=CPU,b=CPU", "tensor_buft_overrides", "exps=CPU,a=CPU,b=CPU"),
        ("-ot a=CPU -ncmoe 2", "tensor_buft_overrides", rf"a=CPU,blk\.0{EXPERTS}=CPU,blk\.1{EXPERTS}=CPU"),
        ("--n-cpu-moe 0", "tensor_buft_overrides", ""),
        ("-fit off", "fit_params", False),
        ("-fitt 512", "fit_params_target", [512 * MIB] * 16),
        ("-fitt 1,2", "fit_params_target", [MIB, 2 * MIB] + [1024 * MIB] * 14),
        ("-fitc 2048", "fit_params_min_ctx", 2048),
        ("--no-cache-prompt", "cache_prompt", False),
        ("--cache-reuse 256", "n_cache_reuse", 256),
        ("-cram 0", "cache_ram_mib", 0),
        ("--rope-scaling yarn", "rope_scaling_type", 2),
        ("--rope-scale 4", "rope_freq_scale", 0.25),
        ("--no-jinja", "use_jinja", False),
        ("--chat-template chatml", "chat_template", "chatml"),
        ("--reasoning-format deepseek-legacy", "reasoning_format", 2),
        ("--reasoning off", "enable_reasoning", 0),
        ("--embeddings", "embedding", True),
        ("--pooling last", "pooling_type", xllamacpp.llama_pooling_type.LLAMA_POOLING_TYPE_LAST),
        ("--rerank", "pooling_type", xllamacpp.llama_pooling_type.LLAMA_POOLING_TYPE_RANK),
        ("--rerank", "embedding", True),
        ("--mmproj eye.gguf", "mmproj.path", "eye.gguf"),
        ("--lora-init-without-apply", "lora_init_without_apply", True),
        ("-md d.gguf", "speculative.draft.mparams.path", "d.gguf"),
        ("--spec-type draft-simple", "speculative.types", [0, 1]),
        ("--spec-default", "speculative.types", [0, 9]),
        ("--spec-draft-n-max 8", "speculative.draft.n_max", 8),
        ("-ngld 5", "speculative.draft.n_gpu_layers", 5),
        ("-n 9", "n_predict", 9),
        ("--seed 5", "sampling.seed", 5),
        ("--seed -1", "sampling.seed", xllamacpp.LLAMA_DEFAULT_SEED),
        ("--temp 0.5", "sampling.temp", 0.5),
        ("--top-k 7", "sampling.top_k", 7),
        ("--top-k 7 --temp 0", "sampling.user_sampling_config", 2 | 64),
        ("--repeat-penalty 1.5", "sampling.penalty_repeat", 1.5),
        ("--presence-penalty 0.5", "sampling.penalty_present", 0.5),
        ("--cors-origins localhost", "cors_origins_explicit", True),
        ("--kv-unified-per-slot 64", "kv_unified_per_slot", 64),
        ("--spec-ngram-mod-n-max 32", "speculative.ngram_mod.n_max", 32),
        ("-lv 4", "verbosity", 4),
        ("-v", "verbosity", 2**31 - 1),
    ],
)
def test_a_flag_sets_its_parameter(argv: str, path: str, expected: object) -> None:
    assert operator.attrgetter(path)(configured(*argv.split())) == expected


def test_adapters_add_up() -> None:
    params = configured("--lora", "a.gguf,b.gguf", "--lora-scaled", "c.gguf:0.5")
    assert [(item.path, item.scale) for item in params.lora_adapters] == [
        ("a.gguf", 1.0),
        ("b.gguf", 1.0),
        ("c.gguf", 0.5),
    ]


def test_the_slot_folder_gets_its_slash(tmp_path: Path) -> None:
    assert configured("--slot-save-path", str(tmp_path)).slot_save_path == f"{tmp_path}/"


def test_a_template_file_is_read(tmp_path: Path) -> None:
    file = tmp_path / "template.jinja"
    file.write_text("{{ messages }}", encoding="utf-8")
    assert configured("--chat-template-file", str(file)).chat_template == "{{ messages }}"


@pytest.mark.parametrize(
    ("argv", "line"),
    [
        ("--foo", "error: invalid argument: --foo"),
        ("--mlock", "error: invalid argument: --mlock"),
        ("model.gguf", "error: invalid argument: model.gguf"),
        ("-c", 'error while handling argument "-c": expected value for argument'),
        ("-c many", "expected an integer of at least 0, got 'many'"),
        ("-c 99999999999", "expected an integer of at most 2147483647, got '99999999999'"),
        ("--port 65536", "expected a port from 0 to 65535, got '65536'"),
        ("-np 0", "expected a number of slots, or -1 for auto, got '0'"),
        ("-ngl most", "expected auto, all or a number of layers, got 'most'"),
        ("-fa maybe", "expected one of on, off, auto, got 'maybe'"),
        ("--fit perhaps", "expected on or off, got 'perhaps'"),
        ("-ctk q9", "expected one of f32, f16, bf16, q8_0, q4_0, q4_1, iq4_nl, q5_0, q5_1, got 'q9'"),
        ("--temp hot", "expected a number, got 'hot'"),
        ("--slot-save-path /no/such", "not a directory: /no/such"),
        ("--chat-template-file /no/such", "cannot read '/no/such'"),
        ("--lora-scaled a.gguf", "expected FNAME:SCALE,..., got 'a.gguf'"),
        ("--spec-type magic", "expected one of none, draft-simple"),
        ("--chat-template-kwargs [1]", "expected a JSON object, got '[1]'"),
        ("--chat-template-kwargs {", "expected a JSON object, got '{': "),
        ("--rope-scale 0", "expected a number above 0, got '0'"),
        ("-dev none", "error: argument -dev is not supported by the embedded engine: choose"),
        ("--rpc host:1", "error: argument --rpc is not supported by the embedded engine"),
    ],
)
def test_a_wrong_command_line_is_told_in_a_line(argv: str, line: str) -> None:
    with pytest.raises(FlagError) as caught:
        native_flags.parse(argv.split())
    assert line in str(caught.value)
    assert "\n" not in str(caught.value)


def test_template_values_add_up() -> None:
    params = configured("--reasoning", "on", "--chat-template-kwargs", '{"effort": "low", "tries": 2}')
    assert params.default_template_kwargs == {
        "preserve_reasoning": "true",
        "enable_thinking": "true",
        "effort": '"low"',
        "tries": "2",
    }


def test_what_the_engine_refuses_is_told_in_a_line() -> None:
    with pytest.raises(FlagError, match=r'error while handling argument "--override-tensor": .*got .nowhere.'):
        configured("-ot", "nowhere")


def test_help_lists_each_flag_on_a_line_of_its_own() -> None:
    lines = native_flags.usage().splitlines()
    assert len(lines) == len(FLAGS) + 2
    for flag, line in zip(FLAGS, lines, strict=False):
        assert line.startswith(", ".join((*flag.names, *flag.negatives)))


def test_known_flags_are_those_of_the_help() -> None:
    known = native_flags.known_flags()
    assert {"-c", "--ctx-size", "--no-slots", "--help", "--version"} <= known
    assert all(name in native_flags.usage() for name in known)


def test_chosen_returns_the_last_value() -> None:
    settings = native_flags.parse(["-c", "1", "--ctx-size", "2"])
    assert native_flags.chosen(settings, "-c") == 2
    assert native_flags.chosen(settings, "-b", "none") == "none"
