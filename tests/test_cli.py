import json
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any, get_args

import polars as pl
import pytest

from twotower import __version__
from twotower.index.build import NAMED

COMMANDS = (
    "download",
    "inspect",
    "prepare",
    "hold-out",
    "train",
    "evaluate",
    "ablate",
    "report",
    "tune",
    "index",
    "recommend",
    "info",
    "run",
)


@pytest.fixture(scope="module")
def made(
    exit_code: Any, shop: Path, small_variants: Any, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """A folder with a data set, models and a bundle, made by the commands themselves."""
    from twotower.workflow.variants import VARIANTS

    folder = tmp_path_factory.mktemp("made")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TWOTOWER_CACHE", str(folder / "cache"))
        for name, variant in small_variants.items():
            patch.setitem(VARIANTS, name, variant)
        data, text = ("--data", folder / "data"), ("--text-encoder", "hashing")
        for command in (
            ("prepare", shop, "--k-core", 0, "--out", folder / "data", "--json",
 folder / "data.json"),
            *(
                ("train", *data, "--model", name, *text, "--out", folder / "models" / name)
                for name in ("mf", "lightgcn", "v5")
            ),
            (
                "evaluate", *data, folder / "models" / "mf", folder / "models" / "v5",
                "--json", folder / "results.json",
            ),
            (
                "index", *data, folder / "models" / "v5", "--kind", "exact",
                "--reranker", folder / "models" / "lightgcn",
                "--results", folder / "results.json",
                "--out", folder / "bundle", "--json", folder / "bundle.json",
            ),
        ):  # fmt: skip
            assert exit_code(*command) == 0, command
    return folder


def read(path: Path) -> Any:
    return json.loads(path.read_text())


def test_the_version_is_printed(cli: Any) -> None:
    assert cli("--version") == (0, f"{__version__}\n", "")


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_help_with_an_example(command: str, cli: Any) -> None:
    done = cli(command, "--help")
    assert done.status == 0
    assert f"Example: twotower {command} " in re.sub(r"\s+", " ", done.out)
    assert "--json" in done.out


def test_every_kind_of_index_is_named_in_the_help(cli: Any) -> None:
    shown = re.sub(r"\s+|│", " ", cli("index", "--help").out)
    shown = re.sub(r" +", " ", shown)
    assert all(f"{kind}," in shown or f"{kind} (" in shown for kind in ("auto", *NAMED))
    refused = cli("run", "sample", "--out", "runs/none", "--kind", "annoy")
    assert refused.status == 2
    assert "unknown kind of index 'annoy'; choose from exact, flat, " in refused.error


def test_every_baseline_is_named_in_the_help(cli: Any) -> None:
    from twotower.workflow.baselines import BASELINES, TEXT_BASELINES

    shown = re.sub(r"[\s│]+", " ", cli("evaluate", "--help").out)
    assert all(f"{name}," in shown or f"{name};" in shown for name in (*BASELINES, *TEXT_BASELINES))


def test_a_dash_is_standard_output_and_quiet_leaves_out_notes(made: Path, cli: Any) -> None:
    recommend = ("recommend", "--bundle", made / "bundle", "--user", "u04", "-k", 2)
    done = cli(*recommend, "--json", "-")
    assert len(json.loads(done.out)) == 2
    assert "user u04" in done.error
    evaluate = ("evaluate", "--data", made / "data", "--baseline", "als", "--protocol", "full")
    loud, quiet = cli(*evaluate), cli(*evaluate, "--quiet")
    assert "✓ als: test HR@10" in loud.out
    assert "✓" not in quiet.out
    assert "als" in quiet.out  # the table
    done = cli(*evaluate, "--json", "-")
    assert {row["model"] for row in json.loads(done.out)["rows"]} == {"als"}


def test_replacing_a_bundle_is_said(made: Path, cli: Any, tmp_path: Path) -> None:
    index = ("index", made / "models" / "v5", "--data", made / "data", "--kind", "exact")
    index += ("--no-refit", "--out", tmp_path / "bundle")
    assert "in place of the bundle" not in cli(*index).out
    assert "in place of the bundle that was there" in re.sub(r"\s+", " ", cli(*index).out)


def test_all_commands_are_listed(cli: Any) -> None:
    listed = cli("--help").out
    assert all(command in listed for command in COMMANDS)


def test_importing_the_command_line_loads_no_torch() -> None:
    code = "import sys, twotower.cli; print({'torch', 'faiss', 'onnxruntime'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.stdout.strip() == "set()", done.stderr


def test_results_are_written_for_machines(made: Path) -> None:
    summary = read(made / "data.json")
    assert (summary["users"], summary["items"], summary["interactions"]) == (60, 150, 720)
    results = read(made / "results.json")
    assert {row["model"] for row in results["rows"]} == {"popularity", "item-knn", "mf", "v5"}
    assert results["meta"]["machine"]
    assert read(made / "bundle.json").items() <= read(made / "bundle" / "manifest.json").items()


@pytest.mark.usefixtures("small_models")
def test_one_training_serves_the_tables_of_new_users_and_new_items(
    made: Path, cli: Any, tmp_path: Path
) -> None:
    cold, text = tmp_path / f"cold-{'x' * 80}", ("--text-encoder", "hashing")
    shares = ("--users", 0.2, "--items", 0.3)
    done = cli("hold-out", "--data", made / "data", "--out", cold, *shares)
    assert done.status == 0, done.error
    assert "held out: 12 users, 12 items" in done.out
    assert f"data set written to {cold}\n" in done.out  # a line, however long the path
    model, file = tmp_path / "v5", tmp_path / "rows.json"
    assert cli("train", "--data", cold, "--model", "v5", *text, "--out", model).status == 0
    names = ("full", "by-activity", "beyond-accuracy", "hold-outs", "history-5-all")
    options = [part for name in names for part in ("--protocol", name)]
    options += ["--baseline", "popularity", "--baseline", "content", *text, "--json", file]
    done = cli("evaluate", "--data", cold, model, *options)
    assert done.status == 0, done.error
    rows = read(file)["rows"]
    assert {row["model"] for row in rows} == {"popularity", "content", "v5"}
    protocols = {row["protocol"] for row in rows}
    assert {"new-users", "known-users", "new-items", "activity-8-15"} <= protocols
    for protocol in protocols:
        assert protocol in done.out
    assert_mistake(
        cli("evaluate", "--data", made / "data", model, "--protocol", "full"),
        "was trained on data set 'shop' with another fingerprint than 'shop' has",
    )


def test_a_known_user_gets_a_table_and_a_file(made: Path, cli: Any, tmp_path: Path) -> None:
    file = tmp_path / "found.json"
    done = cli("recommend", "--bundle", made / "bundle", "--user", "u04", "-k", 4, "--json", file)
    assert done.status == 0
    assert done.error == ""
    found = read(file)
    assert [item["rank"] for item in found] == [1, 2, 3, 4]
    for item in found:
        assert item["item_id"] in done.out
    assert "user u04" in done.out


def test_somebody_new_names_items_after_one_history_option(
    made: Path, cli: Any, tmp_path: Path
) -> None:
    bundle, files = ("--bundle", made / "bundle"), [tmp_path / f"{i}.json" for i in range(3)]
    done = cli("recommend", *bundle, "--history", "i00", "i02", "i04", "--json", files[0])
    assert done.status == 0
    assert "a cold-start user" in done.out
    options = [part for item in ("i00", "i02", "i04") for part in ("--history", item)]
    assert cli("recommend", *bundle, *options, "--json", files[1]).status == 0
    assert read(files[0]) == read(files[1])
    assert not {"i00", "i02", "i04"} & {item["item_id"] for item in read(files[0])}
    options = ("--history", "i00", "i02", "i04", "--rerank", "--json", files[2])
    assert cli("recommend", *bundle, *options).status == 0  # options may follow the ids
    assert len(read(files[2])) == 10


def test_an_unknown_user_gets_popular_items_that_are_marked(
    made: Path, cli: Any, tmp_path: Path
) -> None:
    file = tmp_path / "found.json"
    bundle = ("recommend", "--bundle", made / "bundle")
    done = cli(*bundle, "--user", "nobody", "-k", 3, "--json", file)
    assert done.status == 0
    assert "popular items: nothing is known of this user" in done.out
    found = read(file)
    assert [item["source"] for item in found] == ["popular"] * 3
    counts = [item["score"] for item in found]
    assert counts == sorted(counts, reverse=True)
    done = cli(*bundle, "--history", "i00", "i99", "--json", file)
    assert "not in the bundle, and passed over: i99" in done.out
    assert {item["source"] for item in read(file)} == {"model"}


def test_a_batch_says_what_it_wrote_and_for_whom_it_has_nothing(
    made: Path, cli: Any, tmp_path: Path
) -> None:
    users, out = tmp_path / "users.parquet", tmp_path / "out.parquet"
    pl.DataFrame({"user_id": ["u04", "joined-today"]}).write_parquet(users)
    batch = ("recommend", "--bundle", made / "bundle", "--batch", users, "--out", out, "-k", 3)
    done = cli(*batch)
    assert "6 items for 2 users written to" in done.out
    assert "1 of them are not in the bundle and get popular items" in done.out
    assert pl.read_parquet(out)["source"].to_list() == ["model"] * 3 + ["popular"] * 3
    done = cli(*batch, "--unknown", "skip")
    assert "3 items for 2 users written to" in done.out
    assert "1 of them are not in the bundle and are left out" in done.out
    done = cli(*batch, "--unknown", "fail")
    assert_mistake(done, "unknown user 'joined-today'; pass --unknown popular")


@pytest.mark.parametrize("suffix", [".csv", ".jsonl", ".parquet"])
def test_a_batch_is_read_and_written_as_the_suffix_says(
    suffix: str, made: Path, cli: Any, tmp_path: Path
) -> None:
    users, out = tmp_path / f"users{suffix}", tmp_path / f"out{suffix}"
    write = {".csv": "write_csv", ".jsonl": "write_ndjson", ".parquet": "write_parquet"}[suffix]
    scan = {".csv": pl.read_csv, ".jsonl": pl.read_ndjson, ".parquet": pl.read_parquet}[suffix]
    getattr(pl.DataFrame({"user_id": ["u04", "u07"], "age": [3, 4]}), write)(users)
    batch = ("recommend", "--bundle", made / "bundle", "--batch", users, "-k", 2, "--out")
    done = cli(*batch, out)
    assert done.status == 0, done.error
    found = scan(out)
    assert found["user_id"].to_list() == ["u04", "u04", "u07", "u07"]
    done = cli(*batch, "-")
    assert [json.loads(line)["item_id"] for line in done.out.splitlines()] == found[
        "item_id"
    ].to_list()
    assert "4 items for 2 users written" in done.error


def test_a_bundle_its_users_and_its_answers_may_be_at_urls(
    made: Path, cli: Any, tmp_path: Path
) -> None:
    files = pytest.importorskip("fsspec").filesystem("memory")
    files.pipe("/shop/users/1.csv", b"user_id\nu04\n")
    files.put(f"{made}/bundle/", "/shop/bundle/", recursive=True)
    there = ("--batch", "memory://shop/users", "--out", "memory://shop/out/recs.csv")
    done = cli("recommend", "--bundle", "memory://shop/bundle", *there, "-k", 2)
    assert done.status == 0, done.error
    assert "2 items for 1 users written to memory://shop/out/recs.csv" in done.out
    (tmp_path / "users.csv").write_text("user_id\nu04\n")
    here = ("--batch", tmp_path / "users.csv", "--out", tmp_path / "recs.csv")
    cli("recommend", "--bundle", made / "bundle", *here, "-k", 2)
    assert files.cat("/shop/out/recs.csv") == (tmp_path / "recs.csv").read_bytes()
    files.rm("/shop", recursive=True)


@pytest.mark.usefixtures("small_models")
def test_training_finds_embedded_texts(made: Path, cli: Any, tmp_path: Path) -> None:
    data = ("--data", made / "data", "--text-encoder", "hashing")
    done = cli("embed", *data, "--json", tmp_path / "embedded.json")
    assert done.status == 0, done.error
    found = read(tmp_path / "embedded.json")
    assert found["items"] == len(read_ids(made / "data"))
    (file,) = Path(found["cache"]).iterdir()
    written = file.stat().st_mtime_ns
    done = cli("train", *data, "--model", "v5", "--out", tmp_path / "v5")
    assert done.status == 0, done.error
    assert file.stat().st_mtime_ns == written


def test_who_has_had_everything_is_told_so(made: Path, cli: Any, tmp_path: Path) -> None:
    everything = read_ids(made / "data")
    user = ("recommend", "--bundle", made / "bundle", "--user", "u04", "--history", *everything)
    done = cli(*user, "-k", 3, "--json", tmp_path / "found.json")
    assert done.status == 0, done.error
    assert "no items: nothing is left that they have not had; pass --include-seen" in done.out
    assert read(tmp_path / "found.json") == []
    done = cli(*user, "-k", 3, "--include-seen", "--json", tmp_path / "found.json")
    assert len(read(tmp_path / "found.json")) == 3


def read_ids(data: Path) -> list[str]:
    return pl.read_parquet(data / "catalogue.parquet")["item_id"].to_list()


@pytest.mark.parametrize(
    ("folder", "told"),
    [
        ("data", "60 users, 150 items, 720 interactions"),
        ("models/v5", "family: two_tower"),
        ("bundle", "model: v5, fitted on all interactions"),
    ],
)
def test_info_says_what_a_folder_holds(
    folder: str, told: str, made: Path, cli: Any, tmp_path: Path
) -> None:
    done = cli("info", made / folder, "--json", tmp_path / "info.json")
    assert done.status == 0
    assert told in done.out
    assert read(tmp_path / "info.json")


@pytest.mark.usefixtures("small_models")
def test_a_trained_model_is_not_trained_again(made: Path, cli: Any) -> None:
    weights = made / "models" / "mf" / "weights.safetensors"
    before = weights.stat().st_mtime_ns
    options = (
        "--data",
        made / "data",
        "--text-encoder",
        "hashing",
        "--out",
        made / "models" / "mf",
    )
    done = cli("train", "--model", "mf", *options)
    assert done.status == 0
    assert "mf seed 0 found trained" in done.out
    assert weights.stat().st_mtime_ns == before


@pytest.mark.usefixtures("small_models")
def test_run_does_it_all_and_again(shop: Path, cli: Any, tmp_path: Path) -> None:
    out = tmp_path / "out"
    options = ("--k-core", 0, "--text-encoder", "hashing", "--out", out)
    models = [part for name in ("popularity", "mf", "v5") for part in ("--model", name)]
    models += ["--protocol", "full", "--protocol", "by-activity"]
    for _ in range(2):
        done = cli("run", shop, *models, *options)
        assert done.status == 0, done.error
        assert "user u" in done.out
        assert "a cold-start user" in done.out
        rows = read(out / "results.json")["rows"]
        assert {row["model"] for row in rows} == {"popularity", "mf", "v5", "v5+rerank"}
        assert {row["protocol"] for row in rows} == {"full", "activity-8-15", "timing"}
        assert read(out / "bundle" / "results.json")["rows"] == rows
    assert "v5 seed 0 found trained" in done.out
    command = next(line for line in done.out.splitlines() if line.startswith("cold-start user:"))
    again = cli(*command.split("twotower ")[1].split())  # the command shown is one that works
    assert again.status == 0

    other = cli("run", shop, *models, *options, "--k-core", 2)
    assert_mistake(other, "was prepared with other settings than wanted now; delete it, or")


@pytest.mark.usefixtures("small_models")
def test_run_takes_the_words_of_prepare_or_what_prepare_wrote(
    shop: Path, cli: Any, tmp_path: Path
) -> None:
    log = (shop / "interactions.csv").read_text().replace("user_id,item_id", "buyer,sku", 1)
    (tmp_path / "log.csv").write_text(log.replace("timestamp", "at", 1))
    words = ("--column", "user=buyer", "--column", "item=sku", "--column", "time=at", "--k-core", 0)
    words += ("--catalogue", shop / "items.csv", "--split", "global-time", "--name", "mine")
    prepared, model = tmp_path / "prepared", ("--model", "popularity")
    done = cli("prepare", tmp_path / "log.csv", *words, "--out", prepared)
    assert done.status == 0, done.error
    given = cli("run", "--dataset", prepared, *model, "--out", tmp_path / "one")
    assert given.status == 0, given.error
    assert "data set mine was given prepared" in given.out
    raw = ("run", "--dataset", tmp_path / "log.csv", *words[:-2], *model, "--out", tmp_path / "two")
    for _ in range(2):
        again = cli(*raw)
        assert again.status == 0, again.error
    assert "found prepared" in again.out
    first, second = (read(tmp_path / name / "results.json")["rows"] for name in ("one", "two"))
    assert [row["value"] for row in first] == [row["value"] for row in second]
    other = cli("run", "--dataset", prepared, *model, "--out", tmp_path / "one", "--k-core", 2)
    assert_mistake(other, "prepared is prepared already, and prepare.k_core is asked for; give the")
    other = cli(*raw, "--min-rating", 2)
    assert_mistake(other, "was prepared with other settings than wanted now; delete it, or")


def assert_mistake(done: tuple[int, str, str], told: str) -> None:
    """Exit code 2 and one readable line on stderr."""
    status, _, error = done
    assert status == 2, done
    assert re.fullmatch(r"twotower: [^\n]+\n", error), error
    assert told in error


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ("prepare nowhere --out {out}", "data set 'nowhere' not found: nowhere does not exist"),
        ("run --dataset nowhere --out {out}", "data set 'nowhere' not found"),
        ("run --dataset {shop} --out {out} --model v99", "unknown model 'v99'; pass one of"),
        ("run --dataset {shop} --out {out} --k-core -1", "k_core: "),
        (
            "ablate --dataset {made}/data --variant popularity --k-core 2 --out {out}",
            "data is prepared already, and prepare.k_core is asked for; give the",
        ),
        (
            "tune mf --dataset {made}/data --k-core 2 --out {out}",
            "data is prepared already, and prepare.k_core is asked for; give the",
        ),
        ("prepare {shop} --out {out} --column user", "--column must be name=column, got 'user'"),
        ("prepare {shop} --out {out} --column user=buyer", "has no column 'buyer'"),
        ("prepare {shop} --out {out} --k-core 50", "no interaction is left in the 50-core"),
        ("prepare {shop} --out {out} --catalogue no.csv", "catalogue no.csv does not exist"),
        ("train --data {made}/data --out {out} --model v99", "unknown model 'v99'"),
        ("train --data {made}/data --out {out} --text-encoder x", "unknown text encoder 'x'"),
        (
            "train --data nowhere --out {out} --model mf",
            "nowhere is not a readable prepared data set",
        ),
        ("train --data {made}/data --out {made}/models/mf --model v1", "holds a model with other"),
        ("evaluate --data {made}/data nowhere", "nowhere is not a readable trained model"),
        ("evaluate --data {made}/data --protocol best", "unknown protocol 'best'; pass one of"),
        ("evaluate --data {made}/data --protocol new-users", "no users of 'shop' were held out"),
        ("evaluate --data {made}/data --baseline best", "unknown baseline 'best'; pass one of"),
        ("evaluate --data {made}/data --no-baselines", "nothing to evaluate; pass a trained"),
        (
            "evaluate --data {made}/data {made}/models/mf {made}/models/mf",
            "models/mf both hold 'mf' of seed 0; pass one of them",
        ),
        ("hold-out --data {made}/data --out {out} --users 2", "users must be a share from 0 to"),
        ("index nowhere --data {made}/data --out {out}", "nowhere is not a readable trained model"),
        ("index {made}/models/mf --data {made}/data --out {out}", "'mf' has no towers to serve"),
        ("recommend --bundle nowhere --user u00", "nowhere is not a readable bundle: it is not"),
        (
            "recommend --bundle {made}/data --user u00",
            "made0/data is a prepared data set, not a bundle; train a model on it with "
            "'twotower train', and make a bundle of the model with 'twotower index'",
        ),
        (
            "recommend --bundle {made}/models/v5 --user u00",
            "models/v5 is a trained model, not a bundle; make a bundle of it with 'twotower index'",
        ),
        ("recommend --bundle {made} --user u00", "but holds bundle; give {made}/bundle"),
        (
            "recommend --bundle {shop} --user u00",
            "is not a bundle: {shop}/manifest.json is missing; give",
        ),
        (
            "evaluate --data {made}/data {made}/models",
            "but holds lightgcn; give {made}/models/lightgcn",
        ),
        (
            "evaluate --data {made}/data {made}/bundle",
            "bundle is a bundle, not a trained model; give the folder that 'twotower train' wrote",
        ),
        (
            "train --data {shop} --out {out} --model mf",
            "shop is not a prepared data set: {shop}/manifest.json is missing; prepare it first "
            "with 'twotower prepare {shop} --out …', and give what it wrote",
        ),
        ("train --data {made}/bundle --out {out}", "is a bundle, not a prepared data set; give"),
        ("train --data {made} --out {out}", "but holds data; give {made}/data"),
        ("recommend --bundle {made}/bundle --strict --history i00 -zz", "unknown item '-zz'; pass"),
        ("recommend --bundle {made}/bundle --strict --history=-zz -u", "unknown item '-zz'; pass"),
        (
            "prepare {shop} --out {out} --column visitor=user_id",
            "--column visitor=user_id: there is no column 'visitor'; name one of user, item, ",
        ),
        (
            "prepare {shop} --out {out} --weight view",
            "--weight must be KIND=NUMBER, got 'view'; such",
        ),
        ("prepare {shop} --out {out} --weight buy=x", "--weight must be KIND=NUMBER, got 'buy=x'"),
        (
            "prepare {shop} --out {out} --weight buy=1 --target by",
            "target must be kinds of a positiv",
        ),
        (
            "prepare {shop} --out {out} --target buy",
            "have no weights; give them: --weight view=0.2",
        ),
        ("prepare {shop} --out {out} --weight buy=1", "cannot determine the event column of"),
        (
            "recommend --bundle {made}/bundle --user nobody --strict",
            "unknown user 'nobody'; pass --history ID ID",
        ),
        ("recommend --bundle {made}/bundle --user u00 -k 0", "k must be at least 1, got 0"),
        ("recommend --bundle {made}/bundle --strict --history i00 i99", "unknown item 'i99'; pass"),
        ("recommend --bundle {made}/bundle i00", "unexpected argument 'i00'; write --history"),
        ("recommend --bundle {made}/bundle", "no user to recommend for; give --user ID, --history"),
        (
            "recommend --bundle {made}/bundle --batch {shop}/items.csv --out {out}.csv",
            "items.csv has no column 'user_id', it has 'item_id', ",
        ),
        (
            "recommend --bundle {made}/bundle --batch all --out {out}.xlsx",
            "out.xlsx does not say what kind of file it is; end it in .csv, .jsonl or .parquet",
        ),
        (
            "recommend --bundle {made}/bundle --batch {shop} --out {out}.csv",
            "items.csv has no column 'user_id', it has 'item_id', ",
        ),
        (
            "recommend --bundle {made}/bundle --batch {made}/models --out {out}.csv",
            "models has no file of users; give a folder with .csv, .jsonl or .parquet files",
        ),
        (
            "recommend --bundle {made}/bundle --user u00 --engine ray",
            "--engine and --workers are of a batch; give --batch and --out too",
        ),
        (
            "recommend --bundle {made}/bundle --batch all --out {out}.csv --workers 2",
            "--workers is for a cluster; pass --engine ray with it, or leave it out",
        ),
        (
            "recommend --bundle memory://no/bundle --user u00",
            "memory://no/bundle does not exist; give the URL of a file or a folder",
        ),
        ("embed --data {made}/data --model mf", "the model 'mf' reads no text; name one that"),
        (
            "recommend --bundle {made}/bundle --strict --user -u99",
            "unknown user '-u99'; pass --history ID ID",
        ),
        ("info {shop}", "holds neither manifest.json nor model.json; give a folder that"),
        ("info {shop}/items.csv", "items.csv is a file; give a folder that prepare"),
        ("info {shop}/nothing", "nothing does not exist; give a folder that prepare"),
        ("info {made}", "nor model.json; give {made}/bundle or {made}/data"),
        ("download toys-and-gems --out {out}", "toys-and-gems"),
    ],
)
def test_a_mistake_is_one_line(
    arguments: str, told: str, made: Path, shop: Path, cli: Any, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    done = cli(*(word.format(made=made, shop=shop, out=out) for word in arguments.split()))
    assert_mistake(done, told.format(made=made, shop=shop))
    assert not out.exists()


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (
            "--user nobody",
            "user nobody is not in the bundle\npopular items: nothing is known of this",
        ),
        ("--history i99", "not in the bundle, and passed over: i99\n"),
        ("--history i00,i01", "ids are separated by spaces: --history i00 i01\n"),
        ("--history i00 -k 100000", " of 100,000: no more items can be recommended\n"),
    ],
)
def test_what_was_not_read_is_said_above_the_items(
    arguments: str, told: str, made: Path, cli: Any
) -> None:
    done = cli("recommend", "--bundle", made / "bundle", *arguments.split())
    assert done.status == 0
    assert told in done.out


def test_a_model_of_another_release_is_one_line(made: Path, cli: Any, tmp_path: Path) -> None:
    description = read(made / "models" / "mf" / "model.json")
    changed = {**description, "variant": {"model": {"kind": "mystery"}}}
    (tmp_path / "model.json").write_text(json.dumps(changed))
    done = cli("evaluate", "--data", made / "data", tmp_path)
    assert_mistake(done, "does not describe a variant of this release")


def test_a_broken_description_is_one_line(cli: Any, tmp_path: Path) -> None:
    (tmp_path / "manifest.json").write_text('{"schema_version": ')
    assert_mistake(cli("info", tmp_path), "manifest.json cannot be read")


def test_files_of_the_users_own_are_never_replaced(shop: Path, cli: Any, tmp_path: Path) -> None:
    source = tmp_path / "source"
    shutil.copytree(shop, source)
    done = cli("prepare", source, "--k-core", 0, "--out", source)
    assert_mistake(done, "source exists and was not written by twotower; choose another folder")
    assert sorted(path.name for path in source.iterdir()) == ["interactions.csv", "items.csv"]
    again = [cli("prepare", source, "--k-core", 0, "--out", tmp_path / "data") for _ in range(2)]
    assert [done.status for done in again] == [0, 0]  # what prepare wrote, it may replace


def test_a_folder_that_cannot_be_written_is_one_line(shop: Path, cli: Any, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    done = cli("prepare", shop, "--k-core", 0, "--out", tmp_path / "file" / "data")
    assert_mistake(done, str(tmp_path / "file"))


def test_an_option_that_does_not_exist_is_exit_code_2(cli: Any) -> None:
    done = cli("recommend", "--bundel", "x")
    assert done.status == 2
    assert "--bundel" in done.error
    assert "Traceback" not in done.error


def test_an_interruption_says_how_to_go_on(cli: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    import twotower.data.download as downloads

    def interrupt(*_: Any, **__: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(downloads, "download", interrupt)
    done = cli("download", "video-games", "--out", "x")
    assert done == (130, done.out, "twotower: interrupted; run the same command to go on\n")


def test_the_installed_command_behaves_alike(made: Path) -> None:
    command = [sys.executable, "-c", "from twotower.cli import main; main()", "recommend"]
    done = subprocess.run(
        [*command, "--bundle", made / "bundle", "--user", "nobody", "--strict"],
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert_mistake((done.returncode, done.stdout, done.stderr), "unknown user 'nobody'")


def test_every_word_of_the_declaration_is_an_option() -> None:
    """The command line, dataset.toml and Python say the same."""
    import inspect

    from twotower.cli.source import _words
    from twotower.data.events import EventRules
    from twotower.data.readers import ReadOptions
    from twotower.data.readers.options import Compression, Format, TimeUnit
    from twotower.data.settings import PrepareSettings
    from twotower.data.splits import KINDS

    options = inspect.signature(_words).parameters
    models = (ReadOptions, PrepareSettings, EventRules)
    words = {word for model in models for word in model.model_fields} - {"format"}
    assert words <= set(options)
    for option, kinds in (
        ("time_unit", get_args(TimeUnit)), ("compression", get_args(Compression)),
        ("file_format", get_args(Format)), ("split", KINDS),
    ):  # fmt: skip
        literal = get_args(get_args(options[option].annotation)[0])[0]
        assert get_args(literal) == tuple(kinds)
