//! Plans of edits and gradients of logits, as a user of `record` meets them.

#![allow(clippy::unwrap_used)] // a test that cannot go on may panic

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use assert_cmd::Command;
use moescope::base::Tokens;
use moescope::trace::{Recording, TensorReader, TraceFolder, read_input_ids, write_recording};

fn moescope() -> Command {
    let mut command = Command::cargo_bin("moescope").unwrap();
    command.arg("--no-progress");
    command
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

/// A folder in which a model is recorded under plans.
struct Bench {
    folder: tempfile::TempDir,
    model: PathBuf,
}

impl Bench {
    /// The reference checkpoint of three routed layers, with its two sequences as `own` and two others as `other`.
    fn new() -> Bench {
        let model = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fixtures/checkpoints/qwen3_moe");
        let bench = Bench { folder: tempfile::tempdir().unwrap(), model };
        let own = read_input_ids(&bench.model.join("reference.safetensors")).unwrap();
        let other = own.ids().iter().map(|id| (id * 7 + 3) % 512).collect();
        let other = Tokens::new(other, own.batch(), own.positions()).unwrap();
        bench.ids("own", &own);
        bench.ids("other", &other);
        bench
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn ids(&self, name: &str, tokens: &Tokens) {
        let loss = vec![0.0; tokens.len() - tokens.batch()];
        let none = BTreeMap::new();
        let recording = Recording {
            tokens: tokens.clone(),
            values: none.clone(),
            gradients: none,
            loss,
            objective: None,
        };
        write_recording(&self.path(name), &recording, &[]).unwrap();
    }

    fn command(&self, ids: &str, hooks: &str, out: &str, more: &[&str]) -> Command {
        let mut command = moescope();
        command.args(["record", text(&self.model), "--ids", text(&self.path(ids)), "--hooks", hooks]);
        command.args(["--out", text(&self.path(out))]).args(more);
        command
    }

    /// Records under a plan, or under none.
    fn record(&self, ids: &str, hooks: &str, out: &str, plan: &str, more: &[&str]) -> TensorReader {
        fs::write(self.path("plan.toml"), plan).unwrap();
        let plan_path = self.path("plan.toml");
        let mut command = self.command(ids, hooks, out, more);
        if !plan.is_empty() {
            command.args(["--edit", text(&plan_path)]);
        }
        command.assert().success();
        TensorReader::open(&self.path(out)).unwrap()
    }

    /// What is said when a plan is refused; nothing may be written.
    fn refusal(&self, plan: &str) -> String {
        fs::write(self.path("plan.toml"), plan).unwrap();
        let plan_path = self.path("plan.toml");
        let mut command = self.command("own", "logits", "refused", &["--edit", text(&plan_path)]);
        let output = command.assert().code(2).get_output().clone();
        assert!(output.stdout.is_empty() && !self.path("refused").exists());
        String::from_utf8(output.stderr).unwrap()
    }
}

fn value(at: &str, rest: &str) -> String {
    format!("[[edit]]\nkind = \"value\"\nat = \"{at}\"\n{rest}\n")
}

fn route(layer: usize, rest: &str) -> String {
    format!("[[edit]]\nkind = \"route\"\nlayer = {layer}\n{rest}\n")
}

const ROUTES: &str = "blocks.*.mlp.router.hook_indices";

#[test]
fn a_patch_from_a_file_carries_another_run_over_and_a_replay_its_routes() {
    let bench = Bench::new();
    let hooks = format!("blocks.2.hook_resid_post,blocks.1.mlp.experts.*.hook_out,{ROUTES}");
    let donor = bench.record("other", &hooks, "donor", "", &[]);
    let plan = value("blocks.2.hook_resid_post", "op = \"patch\"\nfrom = \"donor\"");
    let patched = bench.record("own", "logits", "a", &plan, &[]);
    assert_eq!(patched.reals("logits").unwrap(), donor.reals("logits").unwrap());

    let replay = route(1, "op = \"replay\"\nfrom = \"donor\"");
    let replayed = bench.record("own", ROUTES, "b", &replay, &[]);
    let sets = |reader: &TensorReader, layer: usize| {
        let (_, chosen) = reader.integers(&format!("blocks.{layer}.mlp.router.hook_indices")).unwrap();
        let sorted = |chosen: &[i64]| {
            let mut chosen = chosen.to_vec();
            chosen.sort_unstable();
            chosen
        };
        chosen.chunks(4).map(sorted).collect::<Vec<_>>()
    };
    assert_eq!(sets(&replayed, 1), sets(&donor, 1));
    assert_ne!(sets(&replayed, 0), sets(&donor, 0));

    let expert = (0..16).find(|e| {
        let rows = donor.integers(&format!("blocks.1.mlp.experts.{e}.hook_out.rows")).unwrap().1;
        !rows.is_empty()
    });
    let name = format!("blocks.1.mlp.experts.{}.hook_out", expert.unwrap());
    let both = replay + &value(&name, "op = \"patch\"\nfrom = \"donor\"");
    let patched = bench.record("own", &name, "c", &both, &[]);
    assert_eq!(patched.reals(&name).unwrap(), donor.reals(&name).unwrap());
    let alone = value(&name, "op = \"patch\"\nfrom = \"donor\"");
    assert!(bench.refusal(&alone).contains("replay the routes"));
}

#[test]
fn edits_of_a_plan_compose_in_order() {
    let bench = Bench::new();
    let at = "blocks.0.hook_mlp_out";
    let (double, mean) = (value(at, "op = \"scale\"\nfactor = 2.0"), value(at, "op = \"mean\""));
    let zero = value(at, "op = \"zero\"\ntokens = { rows = [0] }");
    let seen = |out: &str, plan: String| bench.record("own", at, out, &plan, &[]).reals(at).unwrap().1;
    let plain = seen("a", String::new());
    let average = seen("b", mean.clone());
    assert!(average.chunks(64).all(|row| row == &average[..64]));
    let doubled = seen("c", double.clone() + &mean);
    assert!(doubled.iter().zip(&average).all(|(d, m)| (d - 2.0 * m).abs() < 1e-5));
    let last = seen("d", mean + &double + &zero);
    assert!(last[..64].iter().all(|x| *x == 0.0) && last[64] == 2.0 * average[0]);
    let from = value(at, "op = \"mean\"\nfrom = \"a\"");
    assert_eq!(seen("e", from), average, "the mean of a recorded file");
    let resampled = seen("f", value(at, "op = \"resample\"\nseed = 4"));
    assert!(
        resampled != plain && (0..66).all(|token| resampled[token * 64..][..64] != plain[token * 64..][..64])
    );
}

#[test]
fn route_operations_do_what_they_say() {
    let bench = Bench::new();
    let seen = |out: &str, plan: &str| {
        let hooks = format!("{ROUTES},blocks.1.mlp.router.hook_weights,blocks.1.mlp.router.hook_scores");
        let reader = bench.record("own", &hooks, out, plan, &[]);
        let (shape, chosen) = reader.integers("blocks.1.mlp.router.hook_indices").unwrap();
        (shape, chosen, reader.reals("blocks.1.mlp.router.hook_weights").unwrap().1)
    };
    let (_, plain, weights) = seen("a", "");
    let (shape, two, _) = seen("b", &route(1, "op = \"top-k\"\nk = 2\nrenormalise = true"));
    assert_eq!(shape, [2, 33, 2]);
    assert!(two.chunks(2).zip(plain.chunks(4)).all(|(two, four)| two == &four[..2]));
    let sums = |weights: &[f32]| weights.chunks(4).map(|w| w.iter().sum::<f32>()).collect::<Vec<f32>>();
    assert!(sums(&weights).iter().all(|sum| (sum - 1.0).abs() < 1e-5), "as the model does");
    let (_, same, raw) = seen("c", &route(1, "op = \"renormalise\"\nrenormalise = false"));
    assert!(same == plain && sums(&raw).iter().all(|sum| *sum < 0.999));
    let (_, shuffled, _) = seen("d", &route(1, "op = \"shuffle\"\nseed = 9"));
    let load =
        |chosen: &[i64]| (0..16).map(|e| chosen.iter().filter(|c| **c == e).count()).collect::<Vec<_>>();
    assert!(shuffled != plain && load(&shuffled) == load(&plain));
    let given = route(
        1,
        &format!("op = \"set-weight\"\nexperts = [{}]\nweight = 0.0\nrenormalise = false", plain[0]),
    );
    assert_eq!(seen("e", &given).2[0], 0.0);
    bench.record("own", ROUTES, "f", &route(0, "op = \"swap\"\nwith = 2"), &[]);
    bench.record("own", ROUTES, "g", &route(0, "op = \"temperature\"\ntemperature = 0.5"), &[]);
}

#[test]
fn plans_that_cannot_take_effect_are_refused() {
    let bench = Bench::new();
    bench.record("own", "blocks.0.hook_resid_post", "donor", "", &[]);
    let refused = |plan: &str, reasons: &[&str]| {
        let said = bench.refusal(plan);
        assert!(reasons.iter().all(|reason| said.contains(reason)), "{said}");
    };
    refused(&value("blocks.0.hook_resid_pots", "op = \"zero\""), &["hook_resid_post"]);
    refused(&value("logits", "op = \"zero\""), &["logits", "end of the pass"]);
    refused(
        &value("blocks.1.hook_resid_post", "op = \"patch\"\nfrom = \"donor\""),
        &["blocks.1.hook_resid_post", "absent"],
    );
    refused(&value("blocks.0.hook_resid_post", "op = \"patch\"\nfrom = \"nothing\""), &["nothing"]);
    refused(&route(0, "op = \"replay\"\nfrom = \"donor\""), &["hook_indices", "absent"]);
    refused(&route(0, "op = \"top-k\"\nk = 17"), &["1 to 16"]);
    refused(&route(0, "op = \"swap\"\nwith = 3"), &["layers 0 to 2"]);
    refused(&route(0, "op = \"temperature\"\ntemperature = -1.0"), &["above 0"]);
    refused(&route(0, "op = \"set-weight\"\nexperts = [0]\nweight = 1.0"), &["renormalise"]);
    let ids = Tokens::new(vec![1, 2, 3, 4], 1, 4).unwrap();
    bench.ids("short", &ids);
    bench.record("short", "blocks.0.hook_resid_post", "donor", "", &[]);
    refused(
        &value("blocks.0.hook_resid_post", "op = \"patch\"\nfrom = \"donor\""),
        &["1 sequences of 4 tokens", "2 of 33"],
    );
}

#[test]
fn the_gradient_of_a_difference_of_logits_is_that_of_finite_differences_with_routes_held() {
    let bench = Bench::new();
    bench.record("own", ROUTES, "routes", "", &[]);
    let held: String = (0..3).map(|layer| route(layer, "op = \"replay\"\nfrom = \"routes\"")).collect();
    let expert = TensorReader::open(&bench.path("routes")).unwrap();
    let expert = expert.integers("blocks.1.mlp.router.hook_indices").unwrap().1[20];
    let names = ["blocks.0.hook_resid_post".to_owned(), format!("blocks.1.mlp.experts.{expert}.hook_out")];
    let grad = ["--grad", "logit(7)-logit(9)@30"];
    let plain = bench.record("own", &names.join(","), "plain", "", &grad);
    let (shape, logits) = plain.reals("logits").unwrap();
    let objective = plain.reals("objective").unwrap();
    assert_eq!(objective.0, [2]);
    for (sequence, found) in objective.1.iter().enumerate() {
        let at = |token: usize| logits[(sequence * shape[1] + 30) * shape[2] + token];
        assert_eq!(*found, at(7) - at(9));
    }
    for (name, width) in names.iter().zip([64, 64]) {
        let gradient = plain.reals(&format!("grad/{name}")).unwrap().1;
        assert!(gradient.iter().any(|g| *g != 0.0));
        let direction: Vec<f32> = (0..width).map(|i| ((i * 5 + 1) % 3) as f32 - 1.0).collect();
        let slope: f32 =
            gradient.chunks(width).flat_map(|row| row.iter().zip(&direction).map(|(g, d)| g * d)).sum();
        let moved = |step: f32| {
            let vector: Vec<String> = direction.iter().map(|d| format!("{:?}", d * step)).collect();
            let add = value(name, &format!("op = \"add\"\nvector = [{}]", vector.join(", ")));
            let seen = bench.record("own", name, "moved", &(held.clone() + &add), &grad);
            seen.reals("objective").unwrap().1.iter().map(|x| f64::from(*x)).sum::<f64>()
        };
        let found = ((moved(1e-3) - moved(-1e-3)) / 2e-3) as f32;
        assert!((found - slope).abs() < 0.02 * slope.abs() + 0.01, "{name}: {found} and {slope}");
    }
}

#[test]
fn a_gradient_of_something_else_is_refused() {
    let bench = Bench::new();
    let refused = |of: &str, reason: &str| {
        let mut command = bench.command("own", "logits", "refused", &["--grad", of]);
        let output = command.assert().code(2).get_output().clone();
        let said = String::from_utf8(output.stderr).unwrap();
        assert!(said.contains(reason) && !bench.path("refused").exists(), "{said}");
    };
    refused("perplexity", "wanted loss");
    refused("logit(512)-logit(1)", "below 512");
    refused("logit(1)-logit(2)@33", "0 to 32");
    refused("logit('a')", "tokenizer.json");
}

/// A small run, trained by the command, with a tokenizer of its own.
fn trained(scratch: &Path) -> PathBuf {
    let (config, run) = (scratch.join("run.toml"), scratch.join("run"));
    let toml = "[model]\nfamily = \"moe\"\nd_model = 16\nlayers = 2\nheads = 2\nd_ff = 32\nexpansion = 2\ngranularity = 2\n\
                [data]\ncorpus = \"embedded\"\nvocab = 300\npositions = 16\nevaluation_windows = 2\n\
                [training]\nsteps = 4\nbatch = 4\nlearning_rate = 1e-3\nseed = 1\n";
    fs::write(&config, toml).unwrap();
    moescope().args(["train", "--config", text(&config), "--out", text(&run)]).assert().success();
    run
}

#[test]
fn a_run_of_ours_replays_what_routing_wrote_names_tokens_by_text_and_loses_experts() {
    let scratch = tempfile::tempdir().unwrap();
    let bench = Bench { model: trained(scratch.path()), ..Bench::new() };
    for (domain, sentence) in [
        ("birds", "The heron stands in the reeds and waits. "),
        ("maths", "Let x be prime; then x + 1 is even. "),
    ] {
        fs::create_dir_all(bench.path("text").join(domain)).unwrap();
        for file in 0..3 {
            let place = bench.path("text").join(domain).join(format!("{file}.txt"));
            fs::write(place, sentence.repeat(40 + file)).unwrap();
        }
    }
    let essay = bench.path("text/birds/0.txt");
    let (routes, corpus) = (bench.path("routes"), bench.path("text"));
    let call = ["routing", text(&bench.model), "--text", text(&corpus), "--out", text(&routes)];
    moescope().args(call).args(["--positions", "16", "--permutations", "9"]).assert().success();
    let ids = TraceFolder::open(&routes).unwrap().tokens().unwrap().ids;
    bench.ids("windows", &Tokens::new(ids.clone(), ids.len() / 16, 16).unwrap());
    let plain = bench.record("windows", "logits", "a", "", &[]).reals("logits").unwrap();
    for from in ["routes", "routes/routing.parquet"] {
        let plan = route(1, &format!("op = \"replay\"\nfrom = \"{from}\""));
        assert_eq!(bench.record("windows", "logits", "b", &plan, &[]).reals("logits").unwrap(), plain);
    }
    let seen =
        bench.record("windows", "blocks.0.hook_resid_post", "c", "", &["--grad", "logit('e')-logit(\"a\")"]);
    assert_eq!(seen.reals("objective").unwrap().0, [ids.len() / 16]);
    assert!(seen.reals("grad/blocks.0.hook_resid_post").unwrap().1.iter().any(|g| *g != 0.0));

    let out = bench.path("knocked");
    let mut call = vec![
        "knockout",
        text(&bench.model),
        "--experts",
        "0:1,1:2",
        "--text",
        text(&essay),
        "--vs",
        "random",
    ];
    call.extend(["--matched", "2", "--seed", "5", "--positions", "16", "--json", "--out", text(&out)]);
    let output = moescope().args(&call).assert().success().get_output().stdout.clone();
    let found: serde_json::Value = serde_json::from_slice(&output).unwrap();
    assert_eq!((found["units"].as_str(), found["matched"].as_array().unwrap().len()), (Some("windows"), 2));
    let interval = &found["removed_minus_matched"]["kl"];
    assert!(interval["ci_low"].as_f64() <= interval["estimate"].as_f64());
    assert!(found["removed"]["kl"]["estimate"].as_f64().unwrap() > 0.0);
    for file in ["report.html", "knockout.json", "tables/knockout.parquet", "tables/knockout_against.parquet"]
    {
        assert!(out.join(file).exists(), "{file}");
    }
    assert_eq!(
        fs::read_to_string(out.join("knockout.json")).unwrap().trim(),
        String::from_utf8(output).unwrap().trim()
    );
    let refused = |experts: &str, reason: &str| {
        let call = [
            "knockout",
            text(&bench.model),
            "--experts",
            experts,
            "--text",
            text(&essay),
            "--positions",
            "16",
        ];
        let output = moescope().args(call).assert().code(2).get_output().stderr.clone();
        assert!(String::from_utf8(output).unwrap().contains(reason), "{experts}");
    };
    refused("3", "`L:E`");
    refused("0:99", "0:99");
    refused("7:0", "routed layer");
}

#[test]
fn what_a_plan_takes_its_numbers_from_is_not_written_over() {
    let bench = Bench::new();
    let hook = "blocks.1.hook_resid_pre";
    bench.record("other", hook, "from", "edit = []", &[]);
    let before = fs::read(bench.path("from")).unwrap();
    let plan = format!("[[edit]]\nkind = \"value\"\nat = \"{hook}\"\nop = \"patch\"\nfrom = \"from\"\n");
    fs::write(bench.path("plan.toml"), plan).unwrap();
    let plan = bench.path("plan.toml");
    for (out, refused) in [("from", true), ("plan.toml", true), ("other-place", false)] {
        let done = bench.command("own", hook, out, &["--edit", text(&plan)]).output().unwrap();
        let said = String::from_utf8_lossy(&done.stderr);
        assert_eq!(done.status.success(), !refused, "{out}: {said}");
        assert_eq!(said.contains("would be written over"), refused, "{out}: {said}");
    }
    assert_eq!(fs::read(bench.path("from")).unwrap(), before);
}
