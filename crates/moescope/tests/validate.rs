//! The bench as a user meets it, and the page that is made from it.

#![allow(clippy::unwrap_used)] // a test that cannot go on may panic

use std::fs;

use assert_cmd::Command;
use moescope::analysis::instrument::CASE;
use serde_json::Value;

const PAGE: &str = include_str!("../../../docs/validity.md");

/// The made part of the page, with the numbers of the run left out.
fn shape(page: &str) -> Vec<String> {
    let row = |line: &str| {
        let cells: Vec<&str> = line.split(" | ").collect();
        // Of a row of the second table: instrument, what it says, where, and what is promised.
        if cells.len() == 7 { cells[..4].join(" | ") } else { line.to_owned() }
    };
    page.lines().filter(|line| line.starts_with('|')).map(row).collect()
}

/// Judgements of promises of silence whose reading held in every world.
fn never_silent(told: &Value) -> Vec<&Value> {
    let judgements = told["judgements"].as_array().unwrap().iter();
    judgements
        .filter(|judgement| {
            judgement["promise"]["finds"] == false && judgement["hits"] == judgement["worlds"]
        })
        .collect()
}

/// By chance a reading holds in one world of twenty where silence is promised, so one world says nothing against it. In four worlds it
/// holds six times in a million: what speaks in the first is asked in three more.
fn require_silence(told: &Value) {
    let mut names: Vec<&str> =
        never_silent(told).iter().map(|judgement| judgement["instrument"].as_str().unwrap()).collect();
    names.dedup();
    if names.is_empty() {
        return;
    }
    let output = Command::cargo_bin("moescope")
        .unwrap()
        .args(["--json", "--no-progress", "validate", "--seeds", "1", "--silent-seeds", "4"])
        .args(["--only", &names.join(",")])
        .output()
        .unwrap();
    let told: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(never_silent(&told), Vec::<&Value>::new(), "false alarms in every world");
}

#[test]
fn a_quick_run_has_the_shape_of_the_page_and_keeps_what_can_be_kept() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("bench");
    let output = Command::cargo_bin("moescope")
        .unwrap()
        .args(["--json", "--no-progress", "validate", "--seeds", "1", "--out", out.to_str().unwrap()])
        .output()
        .unwrap();
    let told: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(
        told["unlike"],
        serde_json::json!([]),
        "tables are not what `gives` of their instruments says"
    );
    // The exit code says what the document says.
    assert_eq!(output.status.code(), Some(i32::from(told["broken"] != 0)));
    // No planted model is compared with two others at once.
    assert_eq!(told["unseen"], serde_json::json!(["model_similarity_last"]));
    let judgements = told["judgements"].as_array().unwrap();
    for judgement in judgements.iter().filter(|judgement| judgement["promise"]["finds"] == true) {
        assert_eq!(judgement["verdict"], "found", "{judgement}");
    }
    require_silence(&told);
    let promises: usize = CASE.iter().map(|instrument| instrument.about().promises.len()).sum();
    assert_eq!(judgements.len(), promises);
    let made = fs::read_to_string(out.join("validity.md")).unwrap();
    let (_, rest) = PAGE.split_once("<!-- made by moescope validate -->\n\n").unwrap();
    let (found, _) = rest.split_once("\n<!-- end -->").unwrap();
    assert_eq!(shape(found), shape(&made), "make docs/validity.md anew from `moescope validate --out DIR`");
    let report = fs::read_to_string(out.join("report.html")).unwrap();
    assert!(report.contains("What is planted") && report.contains("promises"));
    assert!(out.join("tables/validity.parquet").exists());
    let written: Value = serde_json::from_slice(&fs::read(out.join("validity.json")).unwrap()).unwrap();
    assert_eq!(written, told);
}

#[test]
fn the_page_hides_no_broken_promise() {
    let rows: Vec<&str> = PAGE.lines().filter(|line| line.starts_with("| `")).collect();
    let broken: Vec<&&str> =
        rows.iter().filter(|row| row.contains("false alarm") || row.contains("missed")).collect();
    let counted = PAGE.lines().find(|line| line.contains("promises kept")).unwrap();
    assert!(
        counted.contains(&format!("{} of {} promises kept", rows.len() - broken.len(), rows.len())),
        "{counted}"
    );
    // Whatever is broken is spoken of before the tables.
    let (spoken, _) = PAGE.split_once("<!-- made by moescope validate -->").unwrap();
    for row in broken {
        let instrument = row.split(" | ").next().unwrap().trim_start_matches("| ");
        assert!(spoken.contains(&format!("- {instrument}")), "{instrument} is broken and not spoken of");
    }
}

#[test]
fn an_instrument_alone_does_what_it_does_among_all() {
    let output = Command::cargo_bin("moescope")
        .unwrap()
        .args([
            "--json",
            "--no-progress",
            "validate",
            "--seeds",
            "2",
            "--silent-seeds",
            "3",
            "--only",
            "expert-cache",
        ])
        .output()
        .unwrap();
    let told: Value = serde_json::from_slice(&output.stdout).unwrap();
    let judgements = told["judgements"].as_array().unwrap();
    assert!(!judgements.is_empty() && judgements.iter().all(|j| j["instrument"] == "expert-cache"));
    for judgement in judgements {
        let silent = judgement["promise"]["finds"] == false;
        assert_eq!(judgement["worlds"], if silent { 3 } else { 2 }, "{judgement}");
    }
}

#[test]
fn mistakes_are_refused_and_leave_nothing() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("mine.txt"), "mine").unwrap();
    let call = |arguments: &[&str]| {
        let output = Command::cargo_bin("moescope").unwrap().args(arguments).output().unwrap();
        (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned())
    };
    let (code, said) = call(&["validate", "--seeds", "0"]);
    assert!(code == Some(2) && said.contains("--seeds 0; wanted 1 or more"), "{said}");
    let (code, said) = call(&["validate", "--silent-seeds", "0"]);
    assert!(code == Some(2) && said.contains("--silent-seeds 0; wanted 1 or more"), "{said}");
    let (code, said) = call(&["validate", "--only", "routing,calibraton"]);
    assert!(code == Some(2) && said.contains("did you mean `calibration`"), "{said}");
    let (code, said) = call(&["validate", "--seeds", "1", "--out", folder.path().to_str().unwrap()]);
    assert!(code == Some(2) && said.contains("mine.txt"), "{said}");
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
}
