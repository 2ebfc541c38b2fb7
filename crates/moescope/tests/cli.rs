//! The program as a user meets it: exit codes, messages, and what is left on the disk.

#![allow(clippy::unwrap_used)] // a test that cannot go on may panic

use std::fs;
use std::path::{Path, PathBuf};

use assert_cmd::Command;
use moescope::base::Tokens;
use moescope::trace::TensorReader;

fn moescope() -> Command {
    let mut command = Command::cargo_bin("moescope").unwrap();
    command.arg("--no-progress");
    command
}

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fixtures/checkpoints").join(name)
}

/// Runs a call that must fail on its input, and returns what it says.
fn refusal(arguments: &[&str]) -> String {
    let output = moescope().args(arguments).assert().code(2).get_output().clone();
    assert!(output.stdout.is_empty(), "a refusal prints no data");
    String::from_utf8(output.stderr).unwrap()
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

/// A safetensors file with two sequences of token ids, made by the program's own writer by way of the reference.
fn reference_ids() -> PathBuf {
    fixture("qwen3_moe").join("reference.safetensors")
}

#[test]
fn help_names_every_command_of_the_contract() {
    let output = moescope().arg("--help").assert().success().get_output().stdout.clone();
    let help = String::from_utf8(output).unwrap();
    for command in [
        "study", "train", "record", "routing", "analyze", "knockout", "validate", "inspect", "bench",
        "export",
    ] {
        assert!(help.contains(command), "{command} is missing from the help");
    }
}

#[test]
fn unknown_presets_and_missing_files_are_refused_with_the_next_step() {
    let misspelt = refusal(&["study", "quik"]);
    assert!(misspelt.contains("did you mean `quick`") && misspelt.contains("quick, standard, smoke"));
    assert!(!refusal(&["study", "colours"]).contains("did you mean"));
    assert!(refusal(&["study", "nowhere.toml"]).contains("cannot read nowhere.toml"));
    assert!(refusal(&["study", "--config", "nowhere.toml"]).contains("nowhere.toml"));
    assert!(refusal(&["inspect", "nowhere"]).contains("nowhere"));
}

#[test]
fn a_mistake_in_a_study_file_is_shown_with_its_place_and_leaves_nothing() {
    let scratch = tempfile::tempdir().unwrap();
    let (config, out) = (scratch.path().join("s.toml"), scratch.path().join("out"));
    let preset =
        moescope().args(["study", "smoke", "--print-config"]).assert().success().get_output().stdout.clone();
    let preset = String::from_utf8(preset).unwrap();
    fs::write(&config, preset.replace("heads", "haeds")).unwrap();
    let message = refusal(&["study", "--config", text(&config), "--out", text(&out)]);
    assert!(message.contains("did you mean `heads`"), "{message}");
    fs::write(&config, preset.replace("expansion = 2", "expansion = \"two\"")).unwrap();
    let message = refusal(&["study", "--config", text(&config), "--out", text(&out)]);
    assert!(message.contains("s.toml:"), "{message}");
    fs::write(&config, preset.replace("d_ff = 64", "d_ff = 63")).unwrap();
    let message = refusal(&["study", text(&config), "--out", text(&out)]);
    let line = 1 + preset.lines().position(|line| line.starts_with("granularities")).unwrap();
    assert!(
        message.contains(&format!("s.toml:{line}:17: ")) && message.contains("2 with d_ff = 63"),
        "{message}"
    );
    assert!(!out.exists());
}

#[test]
fn a_plan_has_a_line_for_each_kind_of_model() {
    let plan = |more: &[&str]| {
        let call = moescope().args(["study", "smoke", "--dry-run"]).args(more).assert().success();
        String::from_utf8(call.get_output().stdout.clone()).unwrap()
    };
    let plain = plan(&[]);
    for kind in ["dense-1x", "moe-g2", "hash-g2", "untrained-dense-2x", "arithmetic-moe-g1"] {
        assert!(plain.lines().any(|line| line.split_whitespace().next() == Some(kind)), "{kind}: {plain}");
    }
    let json: serde_json::Value = serde_json::from_str(&plan(&["--json"])).unwrap();
    let runs = json["kinds"].as_array().unwrap().iter().map(|kind| kind["runs"].as_u64().unwrap());
    assert_eq!(runs.sum::<u64>(), json["runs"].as_u64().unwrap());
    assert!(json["kinds"][0]["seconds_per_run"].as_f64().unwrap() > 0.0);
}

#[test]
fn a_plan_for_text_that_is_not_there_is_refused() {
    let call =
        moescope().args(["study", "smoke", "--dry-run", "--corpus", "no/such/folder"]).assert().code(2);
    let message = String::from_utf8_lossy(&call.get_output().stderr).into_owned();
    assert!(message.contains("no/such/folder") && call.get_output().stdout.is_empty(), "{message}");
}

/// Starts a call, sends it Ctrl-C once it listens, and returns how it ended.
#[cfg(target_os = "linux")]
fn interrupted(arguments: &[&str]) -> std::process::Output {
    use std::process::{Command, Stdio};
    let mut command = Command::new(env!("CARGO_BIN_EXE_moescope"));
    let child = command.args(arguments).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let id = child.id().to_string();
    let listens = || {
        let status = fs::read_to_string(format!("/proc/{id}/status")).unwrap();
        let caught = status.lines().find_map(|line| line.strip_prefix("SigCgt:")).unwrap();
        u64::from_str_radix(caught.trim(), 16).unwrap() & 0b10 != 0 // signal 2
    };
    while !listens() {
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
    assert!(Command::new("kill").args(["-INT", &id]).status().unwrap().success());
    child.wait_with_output().unwrap()
}

#[test]
#[cfg(target_os = "linux")]
fn ctrl_c_ends_a_plan_and_the_preparation_of_a_study_with_130() {
    let scratch = tempfile::tempdir().unwrap();
    let out = scratch.path().join("out");
    let calls: [&[&str]; 2] =
        [&["study", "standard", "--dry-run"], &["study", "standard", "--out", text(&out)]];
    for call in calls {
        let ended = interrupted(call);
        assert_eq!(ended.status.code(), Some(130), "{call:?}: {ended:?}");
        assert!(ended.stdout.is_empty(), "{call:?}: {ended:?}");
        assert!(String::from_utf8_lossy(&ended.stderr).contains("interrupted while"), "{call:?}: {ended:?}");
    }
    assert!(!out.exists());
}

#[test]
fn a_file_is_no_place_for_a_study() {
    let scratch = tempfile::tempdir().unwrap();
    let file = scratch.path().join("afile");
    fs::write(&file, "precious").unwrap();
    let message = refusal(&["study", "smoke", "--out", text(&file)]);
    assert!(message.contains("afile is a file; choose a folder"), "{message}");
}

#[test]
fn a_corpus_that_is_missing_or_empty_is_refused_before_a_folder_is_made() {
    let scratch = tempfile::tempdir().unwrap();
    let (corpus, out) = (scratch.path().join("corpus"), scratch.path().join("out"));
    let call = ["study", "smoke", "--corpus", text(&corpus), "--out", text(&out)];
    assert!(refusal(&call).contains("corpus"));
    fs::create_dir_all(corpus.join("empty_domain")).unwrap();
    assert!(refusal(&call).contains("empty_domain"));
    fs::write(corpus.join("empty_domain/bad.txt"), [b'a', 0xff]).unwrap();
    let message = refusal(&call);
    assert!(message.contains("bad.txt") && message.contains('1'), "{message}");
    assert!(!out.exists());
}

#[test]
fn a_foreign_folder_is_not_written_to() {
    let scratch = tempfile::tempdir().unwrap();
    fs::write(scratch.path().join("thesis.tex"), "precious").unwrap();
    let message = refusal(&["study", "smoke", "--out", text(scratch.path())]);
    assert!(message.contains("not a study"), "{message}");
    assert_eq!(fs::read_dir(scratch.path()).unwrap().count(), 1);
}

#[test]
fn inspect_reads_a_checkpoint_from_its_headers() {
    let output = moescope()
        .args(["inspect", text(&fixture("qwen3_moe")), "--json"])
        .assert()
        .success()
        .get_output()
        .stdout
        .clone();
    let found: serde_json::Value = serde_json::from_slice(&output).unwrap();
    assert_eq!(found["family"], "qwen3_moe");
    assert_eq!(found["layers"], 3);
    assert_eq!(found["experts"], 16);
    assert_eq!(found["experts_per_token"], 4);
    assert_eq!(found["d_model"], 64);
    let granularity = found["granularity"].as_str().unwrap();
    assert!(granularity.starts_with("4 (Warsaw: active width "), "{granularity}");
}

#[test]
fn record_stores_values_gradients_and_single_experts_under_their_names() {
    let scratch = tempfile::tempdir().unwrap();
    let out = scratch.path().join("r.safetensors");
    let hooks =
        "blocks.*.hook_resid_post,blocks.1.mlp.router.hook_indices,blocks.0.mlp.experts.{0,3}.hook_post";
    let model = fixture("qwen3_moe");
    let ids = reference_ids();
    let call = [
        "record",
        text(&model),
        "--ids",
        text(&ids),
        "--hooks",
        hooks,
        "--grad",
        "loss",
        "--out",
        text(&out),
    ];
    moescope().args(call).assert().success();
    let reader = TensorReader::open(&out).unwrap();
    assert_eq!(reader.reals("logits").unwrap().0, [2, 33, 512]);
    assert_eq!(reader.reals("loss").unwrap().0, [2, 32]);
    assert_eq!(reader.reals("blocks.2.hook_resid_post").unwrap().0, [2, 33, 64]);
    assert_eq!(reader.reals("grad/blocks.0.hook_resid_post").unwrap().0, [2, 33, 64]);
    assert_eq!(reader.integers("blocks.1.mlp.router.hook_indices").unwrap().0, [2, 33, 4]);
    let rows = reader.integers("blocks.0.mlp.experts.3.hook_post.rows").unwrap().0;
    assert_eq!(reader.reals("blocks.0.mlp.experts.3.hook_post").unwrap().0, [rows[0], 24]);
}

#[test]
fn an_edit_changes_what_comes_after_it_and_nothing_before() {
    let scratch = tempfile::tempdir().unwrap();
    let (plan, model, ids) = (scratch.path().join("plan.toml"), fixture("qwen3_moe"), reference_ids());
    fs::write(&plan, "[[edit]]\nkind = \"value\"\nat = \"blocks.1.hook_mlp_out\"\nop = \"zero\"\n").unwrap();
    let record = |out: &str, more: &[&str]| {
        let out = scratch.path().join(out);
        let mut call =
            vec!["record", text(&model), "--ids", text(&ids), "--hooks", "blocks.*.hook_resid_post"];
        call.extend(["--out", text(&out)]);
        call.extend(more);
        moescope().args(call).assert().success();
        TensorReader::open(&out).unwrap()
    };
    let (plain, edited) = (record("a", &[]), record("b", &["--edit", text(&plan)]));
    let same = |name: &str| plain.reals(name).unwrap() == edited.reals(name).unwrap();
    assert!(same("blocks.0.hook_resid_post"));
    assert!(!same("blocks.1.hook_resid_post") && !same("logits"));
    fs::write(
        &plan,
        "[[edit]]\nkind = \"value\"\nat = \"blocks.1.hook_mlp_out\"\nop = \"zero\"\nfactor = 2.0\n",
    )
    .unwrap();
    let out = scratch.path().join("c");
    let mut call =
        vec!["record", text(&model), "--ids", text(&ids), "--hooks", "logits", "--out", text(&out)];
    call.extend(["--edit", text(&plan)]);
    assert!(refusal(&call).contains("`factor`"), "a key that does nothing must be refused");
}

#[test]
fn a_hook_that_matches_nothing_gets_a_suggestion_and_writes_no_file() {
    let scratch = tempfile::tempdir().unwrap();
    let out = scratch.path().join("r.safetensors");
    let (model, ids) = (fixture("qwen3_moe"), reference_ids());
    let call = [
        "record",
        text(&model),
        "--ids",
        text(&ids),
        "--hooks",
        "blocks.0.hook_resid_pots",
        "--out",
        text(&out),
    ];
    assert!(refusal(&call).contains("blocks.0.hook_resid_post"));
    assert!(!out.exists());
}

#[test]
fn every_listed_hook_can_be_recorded() {
    let scratch = tempfile::tempdir().unwrap();
    let (out, model, ids) = (scratch.path().join("all.safetensors"), fixture("qwen3_moe"), reference_ids());
    moescope()
        .args(["record", text(&model), "--ids", text(&ids), "--hooks", "*", "--out", text(&out)])
        .assert()
        .success();
    let listed = moescope()
        .args(["record", text(&model), "--list-hooks", "--json"])
        .assert()
        .success()
        .get_output()
        .stdout
        .clone();
    let listed: Vec<serde_json::Value> = serde_json::from_slice(&listed).unwrap();
    let reader = TensorReader::open(&out).unwrap();
    let stored: Vec<&str> = reader.names().collect();
    for hook in &listed {
        assert!(stored.contains(&hook["name"].as_str().unwrap()), "{} was not stored", hook["name"]);
    }
    assert!(listed.len() > 100);
}

#[test]
fn a_truncated_checkpoint_is_an_error_that_names_the_file() {
    let scratch = tempfile::tempdir().unwrap();
    for file in ["config.json", "model.safetensors"] {
        fs::copy(fixture("qwen3_moe").join(file), scratch.path().join(file)).unwrap();
    }
    let weights = scratch.path().join("model.safetensors");
    let whole = fs::read(&weights).unwrap();
    for length in [0, 7, 100, whole.len() / 2, whole.len() - 1] {
        fs::write(&weights, &whole[..length]).unwrap();
        assert!(
            refusal(&["inspect", text(scratch.path())]).contains("model.safetensors"),
            "at {length} bytes"
        );
    }
}

#[test]
fn sizes_that_make_no_model_are_refused() {
    assert!(
        refusal(&["bench", "train", "--ffn", "moe", "--d-ff", "100", "--granularity", "3"]).contains('3')
    );
    assert!(refusal(&["bench", "forward", "--reps", "0"]).contains("--reps"));
}

#[test]
fn bench_prints_rates_as_one_document() {
    let small = [
        "--d-model",
        "16",
        "--layers",
        "1",
        "--heads",
        "2",
        "--d-ff",
        "32",
        "--vocab",
        "50",
        "--seq",
        "16",
        "--batch",
        "2",
    ];
    let output = moescope()
        .args([
            "bench",
            "train",
            "--ffn",
            "moe",
            "--granularity",
            "2",
            "--expansion",
            "2",
            "--reps",
            "2",
            "--json",
        ])
        .args(small)
        .assert()
        .success()
        .get_output()
        .stdout
        .clone();
    let found: serde_json::Value = serde_json::from_slice(&output).unwrap();
    assert!(found["tokens_per_core_second_median"].as_f64().unwrap() > 0.0);
    assert!(found["tokens_per_second_best"].as_f64() >= found["tokens_per_second_median"].as_f64());
}

/// A small run, trained by the command, in a folder of its own.
fn trained(scratch: &Path) -> PathBuf {
    let config = scratch.join("run.toml");
    let run = scratch.join("run");
    let toml = "[model]\nfamily = \"moe\"\nd_model = 16\nlayers = 2\nheads = 2\nd_ff = 32\nexpansion = 2\ngranularity = 2\n\
                [data]\ncorpus = \"embedded\"\nvocab = 300\npositions = 16\nevaluation_windows = 2\n\
                [training]\nsteps = 4\nbatch = 4\nlearning_rate = 1e-3\nseed = 1\n";
    fs::write(&config, toml).unwrap();
    moescope().args(["train", "--config", text(&config), "--out", text(&run)]).assert().success();
    run
}

#[test]
fn a_trained_run_can_be_recorded_routed_and_exported() {
    let scratch = tempfile::tempdir().unwrap();
    let run = trained(scratch.path());
    for file in ["config.json", "model.safetensors", "tokenizer.json", "run.json", "metrics.parquet"] {
        assert!(run.join(file).exists(), "{file} is missing");
    }
    let corpus = scratch.path().join("text");
    for (domain, sentence) in [
        ("birds", "The heron stands in the reeds and waits. "),
        ("maths", "Let x be prime; then x + 1 is even. "),
    ] {
        fs::create_dir_all(corpus.join(domain)).unwrap();
        for file in 0..3 {
            fs::write(corpus.join(domain).join(format!("{file}.txt")), sentence.repeat(20 + file)).unwrap();
        }
    }
    let (routes, plain, values) =
        (scratch.path().join("routes"), scratch.path().join("plain"), scratch.path().join("v.safetensors"));
    let call = [
        "routing",
        text(&run),
        "--text",
        text(&corpus),
        "--out",
        text(&routes),
        "--positions",
        "16",
        "--permutations",
        "9",
    ];
    moescope().args(call).assert().success();
    assert!(fs::read_to_string(routes.join("report.html")).unwrap().contains("birds"));
    assert!(routes.join("routing.parquet").exists());
    let essay = corpus.join("birds/0.txt");
    let call = [
        "record",
        text(&run),
        "--text",
        text(&essay),
        "--hooks",
        "blocks.*.mlp.router.*",
        "--out",
        text(&values),
    ];
    moescope().args(call).assert().success();
    moescope().args(["export", text(&run), "--out", text(&plain)]).assert().success();
    let mut exported: Vec<String> = fs::read_dir(&plain)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    exported.sort();
    assert_eq!(exported, ["config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json"]);
    assert!(refusal(&["export", text(&run), "--out", text(&plain)]).contains("not empty"));
}

#[test]
fn reference_ids_are_what_the_program_reads() {
    let tokens: Tokens = moescope::trace::read_input_ids(&reference_ids()).unwrap();
    assert_eq!((tokens.batch(), tokens.positions()), (2, 33));
}
