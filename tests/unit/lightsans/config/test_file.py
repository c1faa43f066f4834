import json

import pytest
import yaml

from lightsans.config import RunConfig, to_dict
from lightsans.config.file import dump_yaml, from_dict, load_config, parse_config
from lightsans.errors import ConfigError


def parse(text="", *overrides):
    return parse_config(text, "debug.yaml", overrides).config


def error_of(text="", *overrides):
    with pytest.raises(ConfigError) as caught:
        parse_config(text, "debug.yaml", overrides)
    return str(caught.value)


# ---- values and where they come from


def test_without_file_and_overrides_the_defaults_hold():
    loaded = load_config(None)
    assert loaded.config == RunConfig()
    assert set(loaded.origins.values()) == {"default"}


def test_set_wins_over_the_file_and_the_file_over_the_default():
    loaded = parse_config(
        "model:\n  k_interests: 7\n  n_layers: 3\n", "debug.yaml", ["model.k_interests=9"]
    )
    model = loaded.config.model
    assert (model.k_interests, model.n_layers, model.n_heads) == (9, 3, 2)
    assert loaded.origins["model.k_interests"] == "--set"
    assert loaded.origins["model.n_layers"] == "debug.yaml:3"
    assert loaded.origins["model.n_heads"] == "default"
    assert loaded.origins["root"] == "default"


def test_the_last_of_two_overrides_counts():
    assert parse("", "train.epochs=3", "train.epochs=5").train.epochs == 5


def test_a_whole_section_can_be_overridden_and_the_rest_of_it_stays():
    config = parse("data: {columns: {item: movie}}", "data.columns={user: who, rating: null}")
    columns = config.data.columns
    assert (columns.user, columns.item, columns.rating) == ("who", "movie", None)


def test_a_section_whose_lines_are_commented_out_keeps_its_defaults():
    assert parse("storage:\n  # profile: team\n") == RunConfig()


@pytest.mark.parametrize("text", ["", "# nothing\n", "---\n"])
def test_an_empty_file_means_the_defaults(text):
    assert parse(text) == RunConfig()


def test_num_layers_means_n_layers():
    assert parse("model: {num_layers: 4}").model.n_layers == 4
    assert parse("", "model.num_layers=4").model.n_layers == 4


def test_a_single_value_is_taken_as_a_list_of_one():
    assert parse("data: {input: logs.csv}").data.input == ("logs.csv",)
    assert parse("", "data.input=logs/*.csv").data.input == ("logs/*.csv",)
    assert parse("", "evaluate.ks=10").evaluate.ks == (10,)


@pytest.mark.parametrize("written", ["2e-3", "2.0e-3", "0.002", ".002", "2E-3"])
def test_every_way_to_write_a_number_is_a_number(written):
    assert parse(f"train: {{learning_rate: {written}}}").train.learning_rate == 0.002
    assert parse("", f"train.learning_rate={written}").train.learning_rate == 0.002


def test_dates_and_offsets_stay_the_text_that_was_written():
    data = parse("data: {as_of: 2026-11-01, timezone: +01:00, exclude_users: 007}").data
    assert (data.as_of, data.timezone, data.exclude_users) == ("2026-11-01", "+01:00", "007")


@pytest.mark.parametrize("separator", ["::", "|", ",", ">", "#", "*", "-", ":", "a #b"])
def test_a_separator_needs_no_quotes_on_the_command_line(separator):
    assert parse("", f"data.separator={separator}").data.separator == separator


@pytest.mark.parametrize("written", ["\\t", '"\\t"'])
def test_a_tab_can_be_written_on_the_command_line(written):
    assert parse("", f"data.separator={written}").data.separator == "\t"


def test_null_and_nothing_unset_a_value_on_the_command_line():
    text = "data: {as_of: '2026-11-01', min_rating: 3}"
    data = parse(text, "data.as_of=", "data.min_rating=null").data
    assert data.as_of is None
    assert data.min_rating is None


def test_columns_are_names_or_positions():
    columns = parse("data: {header: false, columns: {user: 0, item: 1, timestamp: 3, rating: 2}}")
    assert columns.data.columns.timestamp == 3


def test_a_file_with_a_byte_order_mark_is_read(tmp_path):
    path = tmp_path / "windows.yaml"
    path.write_bytes("root: /données\n".encode("utf-8-sig"))
    loaded = load_config(str(path))
    assert loaded.config.root == "/données"
    assert loaded.origins["root"] == f"{path}:1"


# ---- round trips


def test_the_dumped_configuration_reads_back_equal():
    config = parse(
        """
        root: s3://bucket/prefix
        data: {input: [a.csv, "1e5", "007", "2026-11-01", "yes"], separator: "\\t", as_of: "12:30"}
        model: {layer_norm_eps: 1e-12, loss_type: BPR}
        """
    )
    assert parse(dump_yaml(config)) == config
    assert yaml.safe_load(dump_yaml(config))["data"]["input"][2:] == ["007", "2026-11-01", "yes"]


def test_a_plain_dict_becomes_the_configuration_again():
    config = parse("", "train.epochs=3", "data.input=[a, b]")
    assert from_dict(json.loads(json.dumps(to_dict(config)))) == config


def test_a_plain_dict_with_an_unknown_name_is_refused():
    with pytest.raises(
        ConfigError, match=r"unknown setting train.epoch .*did you mean train.epoch"
    ):
        from_dict({"train": {"epoch": 3}})


# ---- errors: names


def test_an_unknown_setting_is_named_with_its_file_and_the_nearest_name():
    message = error_of("model:\n  k_interest: 3\n")
    assert message == (
        "unknown setting model.k_interest in debug.yaml; did you mean model.k_interests? (line 2)"
    )


def test_an_unknown_override_is_named_with_the_nearest_name():
    assert error_of("", "trian.epochs=3") == (
        "unknown setting trian.epochs in --set; did you mean train.epochs?"
    )


def test_a_setting_in_the_wrong_section_is_pointed_to_the_right_one():
    assert "did you mean model.k_interests?" in error_of("k_interests: 3")
    assert "did you mean train.learning_rate?" in error_of("", "model.learning_rate=1")


def test_a_name_like_no_other_gets_the_list_of_names():
    assert "expected one of storage.endpoint_url, storage.profile" in error_of("storage: {xyz: 1}")
    assert "expected one of root, " in error_of("xyz: 1")


def test_every_unknown_setting_is_reported_at_once():
    message = error_of("model: {k_interest: 3}\ntrain: {epoch: 1}\n")
    assert message.splitlines() == [
        "unknown setting model.k_interest in debug.yaml; did you mean model.k_interests? (line 1)",
        "unknown setting train.epoch in debug.yaml; did you mean train.epochs? (line 2)",
    ]


def test_a_setting_below_a_setting_is_unknown():
    assert "unknown setting train.epochs.first in --set" in error_of("", "train.epochs.first=1")


def test_a_doubled_key_is_an_error_with_both_lines():
    message = error_of("train:\n  epochs: 1\n  seed: 2\n  epochs: 3\n")
    assert message == "train.epochs is given twice in debug.yaml: lines 2 and 4"
    assert "train is given twice" in error_of("train: {epochs: 1}\ntrain: {seed: 1}\n")


def test_a_setting_by_its_full_name_and_within_its_section_is_an_error():
    for text in ("score.k: 5\nscore: {k: 6}\n", "score: {k: 6}\nscore.k: 5\n"):
        assert error_of(text) == (
            "score.k is given twice in debug.yaml: debug.yaml:1, debug.yaml:2"
        )


def test_a_name_without_its_section_is_that_of_each_setting():
    assert "did you mean audience.k or score.k or similar.k?" in error_of("", "k=1")


@pytest.mark.parametrize("quote", ["'", '"'])
def test_a_quote_is_a_text_like_any_other(quote):
    assert load_config(None, [f"data.quote_char={quote}"]).config.data.quote_char == quote


def test_a_setting_and_its_alias_together_are_an_error():
    assert "model.n_layers is given twice" in error_of("model:\n  n_layers: 2\n  num_layers: 3\n")


# ---- errors: values


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "model:\n  k_interests: five\n",
            "model.k_interests is 'five' (debug.yaml:2); expected an integer",
        ),
        (
            "model: {k_interests: '5'}",
            "model.k_interests is '5' (debug.yaml:1); expected an integer",
        ),
        ("train: {epochs: 2.0}", "train.epochs is 2.0 (debug.yaml:1); expected an integer"),
        ("train: {epochs: true}", "train.epochs is True (debug.yaml:1); expected an integer"),
        ("train: {use_gpu: 1}", "train.use_gpu is 1 (debug.yaml:1); expected true or false"),
        ("root: 5", "root is 5 (debug.yaml:1); expected text; put it in quotes"),
        ("root: null", "root is None (debug.yaml:1); expected text"),
        (
            "model: {attention: linear}",
            "model.attention is 'linear' (debug.yaml:1); expected one of causal, masked, reference",
        ),
        (
            "data: {input: [a.csv, 3]}",
            "data.input is ['a.csv', 3] (debug.yaml:1); expected a list of texts; put it in quotes",
        ),
        (
            "data: {columns: {user: 1.5}}",
            "data.columns.user is 1.5 (debug.yaml:1); expected text or an integer",
        ),
        (
            "train: {learning_rate: .nan}",
            "train.learning_rate is nan (debug.yaml:1); expected a number",
        ),
        (
            "data: {min_rating: .inf}",
            "data.min_rating is inf (debug.yaml:1); expected a number or null",
        ),
        ("train: 5", "train is 5 (debug.yaml:1); expected train.num_workers, "),
    ],
)
def test_a_wrong_value_is_named_with_its_place_and_what_was_expected(text, message):
    assert error_of(text).startswith(message)


def test_a_wrong_override_says_that_it_came_from_the_command_line():
    assert error_of("train: {epochs: 3}", "train.epochs=many") == (
        "train.epochs is 'many' (--set); expected an integer"
    )


def test_several_wrong_values_are_reported_at_once():
    lines = error_of("train: {epochs: x, seed: y}").splitlines()
    assert [line.split()[0] for line in lines] == ["train.epochs", "train.seed"]


def test_a_check_across_settings_says_where_each_of_them_stands():
    assert error_of("model:\n  hidden_size: 65\n") == (
        "model.hidden_size=65 is not divisible by model.n_heads=2; change either one "
        "(model.hidden_size: debug.yaml:2; model.n_heads: default)"
    )
    message = error_of("", "train.window_stride=60")
    assert "(train.window_stride: --set; model.max_seq_len: default)" in message


# ---- errors: text


def test_broken_yaml_is_placed_by_file_line_and_column():
    message = error_of("root: a\nmodel:\n\tk_interests: 3\n")
    assert message.startswith("debug.yaml, line 3, column 1: not valid YAML: ")


def test_a_control_character_is_refused():
    assert error_of("root: \x00").startswith("debug.yaml: not valid YAML: ")


def test_python_objects_are_not_built():
    assert "not valid YAML" in error_of("root: !!python/object/apply:os.getcwd []")


@pytest.mark.parametrize("text", ["- root", "root", "5"])
def test_a_file_that_is_no_mapping_is_refused(text):
    assert error_of(text).startswith("debug.yaml holds no settings")


@pytest.mark.parametrize("override", ["train.epochs", "=3", ""])
def test_an_override_without_key_or_value_is_refused(override):
    assert "is not key=value" in error_of("", override)


def test_an_unfinished_list_on_the_command_line_is_refused():
    assert "the value is not valid YAML" in error_of("", "data.input=[a, b")


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(ConfigError, match=r"cannot read the configuration .*none\.yaml"):
        load_config(str(tmp_path / "none.yaml"))


def test_a_file_in_another_encoding_is_named(tmp_path):
    path = tmp_path / "latin.yaml"
    path.write_bytes("root: données".encode("latin-1"))
    with pytest.raises(ConfigError, match=r"latin\.yaml is not UTF-8"):
        load_config(str(path))


# ---- JSON Schema


# ---- credentials


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("train.mlflow_uri", "https://user:hunter22@host"),
        ("train.mlflow_uri", "https://user:hunt@er22@host:5000/x"),
        ("train.mlflow_uri", "https://hunter22@host"),
        ("root", "s3://key:hunter/22+x=@bucket/prefix"),
        ("data.input", "[/a.csv, 's3://key:hunter22@bucket/x']"),
        ("score.users", "s3://key:hunter22@bucket/x"),
        ("data.input", "[delta://s3://key:hunter22@bucket/log@v3]"),
        ("data.input", "[iceberg://s3://key:hunter22@v3]"),
        ("storage.endpoint_url", "http://key:hunter22@host"),
        ("train.mlflow_uri", "https://host/?password=hunter22"),
        ("nightly.notify_url", "https://host/hook?a=1&X-Amz-Signature=hunter22"),
        ("nightly.notify_url", "https://host/hook?api_key=hunter22"),
        ("root", "abfss://key:hunter22@shop.dfs.core.windows.net/x"),
    ],
)
def test_an_address_with_credentials_is_refused_without_a_word_of_them(name, value):
    with pytest.raises(ConfigError, match=rf"^{name} has credentials .*MLFLOW_TRACKING") as caught:
        load_config(None, [f"{name}={value}"])
    assert "hunter" not in str(caught.value)


@pytest.mark.parametrize(
    "root",
    [
        "s3://bucket/user@example.org/x",
        "/data/a@b",
        "http://host:5000/a@b",
        "file:///a@b",
        "abfss://logs@shop.dfs.core.windows.net/x",
    ],
)
def test_an_at_sign_in_a_path_is_no_credential(root):
    assert load_config(None, [f"root={root}"]).config.root == root


@pytest.mark.parametrize(
    "url",
    ["https://host/x?token=${TOKEN}", "https://host/token=1?channel=key", "https://host/?turkey=1"],
)
def test_a_parameter_that_holds_no_secret_or_refers_to_one_is_taken(url):
    assert load_config(None, [f"nightly.notify_url={url}"]).config.nightly.notify_url == url


def test_what_reorders_a_line_of_a_terminal_is_written_as_an_escape_and_reads_back():
    config = load_config(None, ["root=/a\u202eb\u2066c", "data.input=[ä.csv]"]).config
    text = dump_yaml(config)
    assert 'root: "/a\\u202eb\\u2066c"' in text
    assert "ä.csv" in text
    assert parse(text) == config


@pytest.mark.parametrize(
    "log", ["delta://s3://bucket/log@v3", "delta://log@v3", "iceberg://s3://bucket@v12/"]
)
def test_a_version_of_a_table_is_no_credential(log):
    assert load_config(None, [f"data.input={log}"]).config.data.input == (log,)


def test_a_saved_configuration_of_before_is_read_whatever_its_addresses():
    saved = {"train": {"mlflow_uri": "https://user:hunter22@host"}}
    assert from_dict(saved).train.mlflow_uri == saved["train"]["mlflow_uri"]


@pytest.mark.parametrize(
    ("text", "files"),
    [
        ("a.csv, b c.csv", ("a.csv", "b c.csv")),
        ("*.csv ,s3://b/[x].csv", ("*.csv", "s3://b/[x].csv")),
        ('["a, b.csv"]', ("a, b.csv",)),
        ('"a, b.csv"', ("a, b.csv",)),
    ],
)
def test_commas_separate_the_values_of_a_list_without_the_blanks_around_them(text, files):
    assert load_config(None, [f"data.input={text}"]).config.data.input == files
    assert load_config(None, ["evaluate.ks=5, 10"]).config.evaluate.ks == (5, 10)
    assert load_config(None, ["data.separator=,"]).config.data.separator == ","
