//! Hook names as a user meets them: the page in the documentation, the list of a model, and every name that a table promises.

#![allow(clippy::unwrap_used)] // a test that cannot go on may panic

use std::path::{Path, PathBuf};
use std::process::Output;

use assert_cmd::Command;
use moescope::base::{ALIASES, HookPoint, Site};
use moescope::hooks_page::hooks_page;
use moescope::trace::TensorReader;

const PAGE: &str = include_str!("../../../docs/hooks.md");

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fixtures/checkpoints").join(name)
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

fn call(arguments: &[&str]) -> Output {
    Command::cargo_bin("moescope").unwrap().args(arguments).output().unwrap()
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// A recording of hooks of a fixture over its reference input.
fn record(model: &str, hooks: &str, more: &[&str], out: &Path) -> Output {
    let (folder, ids) = (fixture(model), fixture(model).join("reference.safetensors"));
    let fixed = ["record", text(&folder), "--ids", text(&ids), "--hooks", hooks, "--out", text(out)];
    call(&[&fixed[..], more].concat())
}

#[test]
fn the_page_of_hooks_is_up_to_date() {
    let (_, rest) = PAGE.split_once("<!-- made from the hook points -->\n\n").unwrap();
    let (found, _) = rest.split_once("\n<!-- end -->").unwrap();
    let made = hooks_page();
    assert_eq!(found, made, "the table of docs/hooks.md is not that of the code; put there:\n{made}");
}

#[test]
fn every_other_name_is_recorded_under_its_name_here_in_every_model_that_has_it() {
    let scratch = tempfile::tempdir().unwrap();
    let mut tried = std::collections::BTreeSet::new();
    for model in ["gpt2", "llama", "qwen2_moe", "deepseek_v3", "gpt_oss", "jetmoe", "olmo2"] {
        let listed = call(&["--json", "record", text(&fixture(model)), "--list-hooks"]);
        let listed: Vec<serde_json::Value> = serde_json::from_slice(&listed.stdout).unwrap();
        let mut names = Vec::new();
        for hook in &listed {
            for alias in hook["aliases"].as_array().unwrap() {
                names.push((alias.as_str().unwrap().to_owned(), hook["name"].as_str().unwrap().to_owned()));
            }
            let point: HookPoint = hook["name"].as_str().unwrap().parse().unwrap();
            tried.insert(point.site());
        }
        let out = scratch.path().join(format!("{model}.safetensors"));
        let asked: Vec<&str> = names.iter().map(|(alias, _)| alias.as_str()).collect();
        let done = record(model, &asked.join(","), &[], &out);
        assert!(done.status.success(), "{model}: {}", said(&done));
        let reader = TensorReader::open(&out).unwrap();
        let stored: Vec<&str> = reader.names().collect();
        for (alias, name) in &names {
            assert!(stored.contains(&name.as_str()), "{model}: `{alias}` is not stored as `{name}`");
            assert!(said(&done).contains(&format!("`{alias}` is stored under its name here, `{name}`")));
        }
    }
    assert_eq!(tried.len(), Site::ALL.len(), "every hook point is one of some model");
    assert!(ALIASES.iter().all(|alias| tried.contains(&alias.site)));
}

#[test]
fn lists_and_stars_name_what_is_there_and_nothing_silently() {
    let scratch = tempfile::tempdir().unwrap();
    let out = scratch.path().join("x.safetensors");
    for hooks in [
        "blocks.*.mlp.experts.{0,3}.hook_out_weighted",
        "resid_post.*",
        "blocks.*.hook_out",
        "blocks.{0,1}.ln2.hook_normalized",
    ] {
        let done = record("qwen3_moe", hooks, &[], &out);
        assert!(done.status.success(), "{hooks}: {}", said(&done));
    }
    for (hooks, reason) in [
        ("blocks.*.mlp.experts.{0,99}.hook_post", "`blocks.*.mlp.experts.99.hook_post` matches no hook"),
        ("blocks.*.mlp.routr.*", "did you mean `blocks.*.mlp.router.*`"),
        ("blocks.0.mlp.router.hook_weigths", "did you mean `blocks.0.mlp.router.hook_weights`"),
        ("resid_pots.0", "did you mean `resid_post.0`"),
        ("blocks.0.mlp.hook_expert_weights", "--compat tl2"),
    ] {
        let refused = record("qwen3_moe", hooks, &[], &scratch.path().join("none"));
        assert_eq!(refused.status.code(), Some(2), "{hooks}");
        assert!(said(&refused).contains(reason), "{hooks}: {}", said(&refused));
    }
    assert!(!scratch.path().join("none").exists());
    let both = record("qwen3_moe", "blocks.*.mlp.hook_expert_weights", &["--compat", "tl2"], &out);
    assert!(both.status.success(), "{}", said(&both));
    assert!(TensorReader::open(&out).unwrap().names().any(|name| name == "blocks.0.mlp.hook_expert_weights"));
}

#[test]
fn margins_stand_beside_what_is_recorded_of_a_router_and_nowhere_else() {
    let scratch = tempfile::tempdir().unwrap();
    let out = scratch.path().join("x.safetensors");
    let done = record("qwen3_moe", "blocks.1.mlp.router.{hook_indices,hook_select}", &[], &out);
    assert!(done.status.success(), "{}", said(&done));
    let reader = TensorReader::open(&out).unwrap();
    let (shape, margins) = reader.reals("blocks.1.mlp.router.margin").unwrap();
    let (_, select) = reader.reals("blocks.1.mlp.router.hook_select").unwrap();
    let (axes, indices) = reader.integers("blocks.1.mlp.router.hook_indices").unwrap();
    assert_eq!(shape, axes[..2]);
    let experts = select.len() / margins.len();
    for (token, margin) in margins.iter().enumerate() {
        let mut sorted = select[token * experts..][..experts].to_vec();
        sorted.sort_by(|a, b| b.total_cmp(a));
        assert_eq!(*margin, sorted[axes[2] - 1] - sorted[axes[2]], "token {token}");
    }
    assert!(!indices.is_empty() && reader.names().any(|name| name == "blocks.1.mlp.router.relative_margin"));
    assert!(!reader.names().any(|name| name.starts_with("blocks.0.mlp.router")));
    let plain = record("qwen3_moe", "blocks.1.hook_resid_post", &[], &out);
    assert!(plain.status.success());
    assert!(!TensorReader::open(&out).unwrap().names().any(|name| name.contains("margin")));
}

#[test]
fn the_list_of_a_model_says_how_long_axes_are() {
    let listed = call(&["record", text(&fixture("qwen3_moe")), "--list-hooks"]);
    let listed = String::from_utf8(listed.stdout).unwrap();
    let config = std::fs::read_to_string(fixture("qwen3_moe").join("config.json")).unwrap();
    let config: serde_json::Value = serde_json::from_str(&config).unwrap();
    let line = |name: &str| listed.lines().find(|line| line.starts_with(&format!("{name} "))).unwrap();
    let number = |key: &str| config[key].as_u64().unwrap();
    for (name, wanted) in [
        ("blocks.0.hook_resid_pre", format!("[batch, pos, d_model={}]", number("hidden_size"))),
        ("blocks.1.mlp.router.hook_indices", format!("[batch, pos, slot={}]", number("num_experts_per_tok"))),
        ("blocks.1.mlp.experts.0.hook_post", format!("[row, neuron={}]", number("moe_intermediate_size"))),
        (
            "blocks.0.attn.hook_pattern",
            format!("[batch, head={}, query, key]", number("num_attention_heads")),
        ),
        ("blocks.0.ln1.hook_scale", "[batch, pos, 1]".into()),
        ("logits", format!("[batch, pos, vocab={}]", number("vocab_size"))),
    ] {
        assert!(line(name).contains(&wanted), "{}", line(name));
    }
    assert!(line("blocks.0.hook_resid_post").contains("resid_post.0"));
}

#[test]
fn json_tells_under_which_name_a_value_is_stored() {
    let scratch = tempfile::tempdir().unwrap();
    let out = scratch.path().join("x.safetensors");
    let done = record("qwen3_moe", "resid_post.0,blocks.1.hook_resid_pre", &["--json"], &out);
    assert!(done.status.success(), "{}", said(&done));
    let told: serde_json::Value = serde_json::from_slice(&done.stdout).unwrap();
    assert_eq!(told["renamed"], serde_json::json!({ "resid_post.0": "blocks.0.hook_resid_post" }));
}
