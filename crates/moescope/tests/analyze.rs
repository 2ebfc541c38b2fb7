//! The case of instruments as a user meets it: on a routed and a dense model, and where it cannot run.

#![allow(clippy::unwrap_used)] // a test that cannot go on may panic

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Output;
use std::sync::OnceLock;

use assert_cmd::Command;
use serde_json::Value;

fn call(arguments: &[&str]) -> Output {
    Command::cargo_bin("moescope").unwrap().arg("--no-progress").args(arguments).output().unwrap()
}

fn text_of(path: &Path) -> &str {
    path.to_str().unwrap()
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// A routed and a dense run of two steps, and text of two domains, made once for all tests.
fn setting() -> &'static Path {
    static FOLDER: OnceLock<tempfile::TempDir> = OnceLock::new();
    let make = || {
        let folder = tempfile::tempdir().unwrap();
        for (domain, word) in [("birds", "heron"), ("tools", "hammer")] {
            let place = folder.path().join("text").join(domain);
            fs::create_dir_all(&place).unwrap();
            for document in 0..10 {
                let line = |i: usize| format!("The {word} of day {} is number {document}. ", i * i % 17);
                fs::write(place.join(format!("{document}.txt")), (0..12).map(line).collect::<String>())
                    .unwrap();
            }
        }
        for (name, family) in [("moe", "\"moe\"\nexpansion = 2\ngranularity = 2"), ("dense", "\"dense\"")] {
            let config = folder.path().join(format!("{name}.toml"));
            let toml = format!(
                "[model]\nfamily = {family}\nd_model = 16\nlayers = 2\nheads = 2\nd_ff = 32\n\
                 [data]\ncorpus = \"embedded\"\nvocab = 300\npositions = 64\nevaluation_windows = 2\n\
                 [training]\nsteps = 2\ncheckpoints = [0, 1]\nbatch = 4\nlearning_rate = 1e-3\nseed = 1\n"
            );
            fs::write(&config, toml).unwrap();
            let done =
                call(&["train", "--config", text_of(&config), "--out", text_of(&folder.path().join(name))]);
            assert!(done.status.success(), "{}", said(&done));
        }
        folder
    };
    FOLDER.get_or_init(make).path()
}

fn analyze(names: &str, model: &str, out: &str, more: &[&str]) -> (Output, PathBuf) {
    let (model, text, out) = (setting().join(model), setting().join("text"), setting().join(out));
    let fixed =
        ["--json", "analyze", names, text_of(&model), "--text", text_of(&text), "--out", text_of(&out)];
    let sizes = ["--positions", "32", "--permutations", "9"];
    (call(&[&fixed, &sizes[..], more].concat()), out)
}

fn document(output: &Output) -> Value {
    assert!(output.status.success(), "{}", said(output));
    serde_json::from_slice(&output.stdout).unwrap()
}

/// Every table of an analysis is one that its instrument says it gives.
fn assert_tables_were_said(told: &Value) {
    for instrument in told["instruments"].as_array().unwrap() {
        let gives = instrument["about"]["gives"].as_array().unwrap();
        for table in instrument["tables"].as_array().into_iter().flatten() {
            assert!(gives.iter().any(|gives| gives["table"] == *table), "{table} of {}", instrument["about"]);
        }
    }
}

#[test]
fn all_instruments_run_on_a_routed_model_and_repeat_to_the_byte() {
    let (output, out) = analyze("all", "moe", "all", &[]);
    let told = document(&output);
    let instruments = told["instruments"].as_array().unwrap();
    assert!(instruments.len() >= 10);
    assert_tables_were_said(&told);
    for instrument in instruments {
        assert!(instrument.get("left_out").is_none(), "{instrument}");
        for table in instrument["tables"].as_array().unwrap() {
            assert!(out.join(format!("tables/{}.parquet", table.as_str().unwrap())).exists(), "{table}");
        }
    }
    let report = fs::read_to_string(out.join("report.html")).unwrap();
    assert!(report.contains("Expert cache") && report.contains("What this does not show"));
    let written: Value = serde_json::from_slice(&fs::read(out.join("analysis.json")).unwrap()).unwrap();
    assert_eq!(written, told);

    let (again, second) = analyze("all", "moe", "again", &["--threads", "1"]);
    assert_eq!(document(&again), told);
    for table in fs::read_dir(out.join("tables")).unwrap() {
        let name = table.unwrap().file_name();
        assert_eq!(
            fs::read(out.join("tables").join(&name)).unwrap(),
            fs::read(second.join("tables").join(&name)).unwrap(),
            "{name:?}"
        );
    }
}

#[test]
fn on_a_dense_model_what_needs_routes_is_left_out_or_refused() {
    let told = document(&analyze("all", "dense", "dense-all", &[]).0);
    assert_tables_were_said(&told);
    let left: Vec<&str> = told["instruments"]
        .as_array()
        .unwrap()
        .iter()
        .filter(|instrument| instrument.get("left_out").is_some())
        .map(|instrument| instrument["about"]["name"].as_str().unwrap())
        .collect();
    assert!(left.contains(&"routing") && !left.contains(&"calibration"), "{left:?}");
    let (refused, out) = analyze("calibration,expert-cache", "dense", "refused", &[]);
    assert_eq!(refused.status.code(), Some(2));
    assert!(said(&refused).contains("expert-cache: the model is dense"), "{}", said(&refused));
    assert!(!out.join("analysis.json").exists() && !out.join("report.html").exists());
}

#[test]
fn what_the_others_found_is_kept_where_one_cannot_run() {
    // One domain alone: there is no other to be told from it.
    let one = setting().join("text/birds");
    let (moe, out) = (setting().join("moe"), setting().join("kept"));
    let ask = |names: &str| {
        let paths = ["analyze", names, text_of(&moe), "--text", text_of(&one), "--out", text_of(&out)];
        call(&[&paths[..], &["--positions", "32", "--permutations", "9"]].concat())
    };
    let nothing = ask("domain-probe");
    assert_eq!(nothing.status.code(), Some(2));
    assert!(said(&nothing).contains("domain-probe") && !out.join("analysis.json").exists());
    let kept = ask("calibration,domain-probe");
    assert_eq!(kept.status.code(), Some(2));
    assert!(said(&kept).contains("domain-probe") && said(&kept).contains("what the others found is in"));
    let told: Value = serde_json::from_slice(&fs::read(out.join("analysis.json")).unwrap()).unwrap();
    assert!(told["instruments"][0]["tables"].is_array() && told["instruments"][1]["left_out"].is_string());
}

#[test]
fn an_excerpt_is_as_long_as_is_asked_for() {
    // Windows so short that there are more than the 64 that are read in any case.
    let calibrated = |out: &str, more: &[&str]| {
        let [model, text, out] = ["moe", "text", out].map(|name| setting().join(name));
        let paths =
            ["analyze", "calibration", text_of(&model), "--text", text_of(&text), "--out", text_of(&out)];
        let output = call(&[&["--json"], &paths[..], &["--positions", "4"], more].concat());
        let told = document(&output)["instruments"][0]["reads_tokens"].clone();
        (told, fs::read(out.join("tables/calibration.parquet")).unwrap())
    };
    let usual = calibrated("usual", &[]);
    let short = calibrated("excerpt", &["--excerpt", "10"]);
    let longer = calibrated("longer", &["--excerpt", "1000000"]);
    assert_eq!((&short.0, &longer.0), (&10.into(), &1_000_000.into()));
    assert!(usual.1 == longer.1 && usual.1 != short.1, "less is read where less is asked for");
    let (refused, _) = analyze("calibration", "moe", "none", &["--excerpt", "0"]);
    assert_eq!(refused.status.code(), Some(2));
}

#[test]
fn mistakes_are_named_with_the_next_step() {
    let (unknown, _) = analyze("calibratoin", "moe", "unknown", &[]);
    assert_eq!(unknown.status.code(), Some(2));
    assert!(said(&unknown).contains("did you mean `calibration`?"), "{}", said(&unknown));

    let (short, _) = analyze("routing", "moe", "short", &["--positions", "1"]);
    assert_eq!(short.status.code(), Some(2));

    let foreign = setting().join("foreign");
    fs::create_dir_all(&foreign).unwrap();
    fs::write(foreign.join("mine.txt"), "mine").unwrap();
    let (refused, _) = analyze("routing", "moe", "foreign", &[]);
    assert_eq!(refused.status.code(), Some(2), "{}", said(&refused));
    assert_eq!(fs::read_dir(&foreign).unwrap().count(), 1);

    let without = call(&["analyze", "routing"]);
    assert_eq!(without.status.code(), Some(2));
}

#[test]
fn the_list_tells_question_null_limit_and_results_of_each() {
    let output = call(&["--json", "analyze", "--list"]);
    let told = document(&output);
    for instrument in told["instruments"].as_array().unwrap() {
        for key in ["name", "question", "null", "does_not_show", "source", "passes"] {
            assert!(instrument[key].as_str().is_some_and(|text| !text.is_empty()), "{instrument}");
        }
        for table in instrument["gives"].as_array().unwrap() {
            let number = &table["numbers"][0];
            assert!(table["rows"].is_array() && number["column"].is_string() && number["unit"].is_string());
            assert!(number["range"].is_object() || number["range"].is_string(), "{number}");
        }
    }
    let reads = |name: &str| {
        let all = told["instruments"].as_array().unwrap();
        all.iter().find(|instrument| instrument["name"] == name).unwrap()["reads_tokens"].clone()
    };
    assert_eq!((reads("routing"), reads("calibration")), (Value::Null, 32_768.into()));
    let plain = call(&["analyze", "--list"]);
    let plain = String::from_utf8_lossy(&plain.stdout);
    assert!(
        plain.contains("reads: all of the text") && plain.contains("reads: at most 8192 tokens"),
        "{plain}"
    );
    assert!(plain.contains("induction  (causal)"));
    assert!(plain.contains("gives expert_cache [layer, room]: hit_rate (share of slots, 0 to 1)"), "{plain}");
}

#[test]
fn checkpoints_and_other_models_are_compared_with_the_last() {
    let checkpoints = setting().join("moe/checkpoints");
    let against = ["--against", text_of(&checkpoints)];
    let (output, out) = analyze("saturation,model-agreement,model-similarity", "moe", "against", &against);
    let told = document(&output);
    assert_eq!(told["against"][0], text_of(&checkpoints));
    assert_tables_were_said(&told);
    for table in ["saturation", "model_agreement", "model_similarity"] {
        assert!(out.join(format!("tables/{table}.parquet")).exists(), "{table}");
    }
    let findings = told["instruments"][0]["findings"][0].as_str().unwrap();
    assert!(findings.starts_with("Routes had settled to"), "{findings}");
    let (itself, _) =
        analyze("model-agreement", "moe", "itself", &["--against", text_of(&setting().join("moe"))]);
    let finding = document(&itself)["instruments"][0]["findings"][0].as_str().unwrap().to_owned();
    assert!(finding.contains("chooses 100 % as well"), "{finding}");
}

#[test]
fn models_of_one_last_name_have_names_of_their_own_and_one_named_twice_is_refused() {
    let moe = setting().join("moe");
    let copy = tempfile::tempdir().unwrap();
    let twin = copy.path().join("twin/moe");
    std::fs::create_dir_all(&twin).unwrap();
    for file in std::fs::read_dir(&moe).unwrap().flatten().filter(|entry| entry.path().is_file()) {
        std::fs::copy(file.path(), twin.join(file.file_name())).unwrap();
    }
    let both = ["--against", text_of(&moe), "--against", text_of(&twin)];
    let (output, _) = analyze("model-agreement,model-similarity", "moe", "twins", &both);
    let told = document(&output);
    let finding = told["instruments"][0]["findings"][0].as_str().unwrap();
    assert!(finding.contains("twin/moe 100 %"), "{finding}");
    let similarity = told["instruments"][1]["findings"][0].as_str().unwrap();
    assert!(similarity.contains("of 2 others have a CKA of 1.00"), "{similarity}");
    let slash = format!("{}/", moe.display());
    let (twice, _) =
        analyze("model-agreement", "moe", "twice", &["--against", text_of(&moe), "--against", &slash]);
    assert_eq!(twice.status.code(), Some(2));
    assert!(said(&twice).contains("are one model; name each once"), "{}", said(&twice));
}

#[test]
fn a_comparison_without_other_models_and_other_models_without_a_comparison_are_refused() {
    let (alone, _) = analyze("saturation", "moe", "alone", &[]);
    assert_eq!(alone.status.code(), Some(2));
    assert!(said(&alone).contains("--against MODEL"), "{}", said(&alone));
    let (idle, _) = analyze("calibration", "moe", "idle", &["--against", text_of(&setting().join("moe"))]);
    assert_eq!(idle.status.code(), Some(2));
    assert!(said(&idle).contains("model-agreement"), "{}", said(&idle));
    let (missing, _) = analyze("saturation", "moe", "missing", &["--against", "/nowhere/at/all"]);
    assert_eq!(missing.status.code(), Some(2));
}

/// Ctrl-C after so many milliseconds, while an instrument shuffles far longer than anybody waits.
#[cfg(target_os = "linux")]
fn interrupted_after(milliseconds: u64, out: &Path) -> Output {
    use std::process::{Command, Stdio};
    let (model, text) = (setting().join("moe"), setting().join("text"));
    let mut command = Command::new(env!("CARGO_BIN_EXE_moescope"));
    command.args([
        "--no-progress",
        "analyze",
        "induction,routing",
        text_of(&model),
        "--text",
        text_of(&text),
    ]);
    command.args(["--out", text_of(out), "--positions", "32", "--permutations", "1000000"]);
    let child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    std::thread::sleep(std::time::Duration::from_millis(milliseconds));
    let id = child.id().to_string();
    assert!(Command::new("kill").args(["-INT", &id]).status().unwrap().success());
    child.wait_with_output().unwrap()
}

#[test]
#[cfg(target_os = "linux")]
fn ctrl_c_keeps_what_instruments_have_found() {
    let out = setting().join("interrupted");
    // A machine that is busy may need longer to come to the second instrument.
    let waits = [1_500, 5_000, 20_000];
    let ended =
        waits.iter().map(|wait| interrupted_after(*wait, &out)).find(|_| out.join("analysis.json").exists());
    let ended = ended.expect("the first instrument ends some time");
    assert_eq!(ended.status.code(), Some(130), "{}", said(&ended));
    assert!(said(&ended).contains("what 1 of 2 instruments found is in"), "{}", said(&ended));
    let written: Value = serde_json::from_slice(&fs::read(out.join("analysis.json")).unwrap()).unwrap();
    assert!(written["instruments"][0].get("left_out").is_none());
    assert_eq!(written["instruments"][1]["left_out"], "interrupted before its end");
    assert!(out.join("tables/induction.parquet").exists() && out.join("report.html").exists());
    assert_eq!(written["interrupted"], true);
    assert!(!out.join("unfinished.txt").exists());
    // What was whole before is not given for less.
    fs::write(out.join("analysis.json"), "{}").unwrap();
    let again = interrupted_after(6_000, &out);
    assert!(said(&again).contains("stays as it was"), "{}", said(&again));
    assert_eq!(fs::read_to_string(out.join("analysis.json")).unwrap(), "{}");
}
