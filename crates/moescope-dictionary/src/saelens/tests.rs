//! Folders written, read back, read as SAELens read them, and refused.

use std::path::{Path, PathBuf};

use moescope_engine::Tensor;
use moescope_weights::Weights;
use serde_json::{Value, json};

use crate::testing::numbers;
use crate::{Dictionary, DictionaryError, Parts, Place, Rows, Rule};

fn fixtures() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fixtures/dictionaries")
}

/// Each architecture that can be written, by name.
fn all() -> Vec<(&'static str, Dictionary)> {
    let thresholds = Tensor::new([7], numbers(&[7], 9).data().iter().map(|x| x.abs()).collect()).unwrap();
    let jump = Rule::JumpRelu { thresholds };
    let cases = [
        ("standard", Rule::Relu, 4, true),
        ("topk", Rule::TopK { k: 2 }, 4, true),
        ("jumprelu", jump.clone(), 4, true),
        ("transcoder", Rule::Relu, 3, false),
        ("jumprelu_transcoder", jump, 3, false),
    ];
    let made = cases.map(|(name, rule, target, centred)| {
        let parts = Parts {
            rule,
            encoder: numbers(&[7, 4], 1),
            encoder_bias: numbers(&[7], 2),
            decoder: numbers(&[target, 7], 3),
            bias: numbers(&[target], 4),
            centred,
        };
        let place = Place {
            model: "tiny".into(),
            hook: "blocks.0.hook_resid_post".into(),
            target_hook: (!centred).then(|| "blocks.1.hook_mlp_out".into()),
        };
        (name, Dictionary::new(parts, place).unwrap())
    });
    made.into()
}

#[test]
fn what_is_written_is_read_back_to_the_bit() {
    let folder = tempfile::tempdir().unwrap();
    for (name, dictionary) in all() {
        let path = folder.path().join(name);
        dictionary.save(&path, &json!({ "seed": 3 })).unwrap();
        assert_eq!(Dictionary::open(&path).unwrap(), dictionary, "{name}");
        let text = std::fs::read_to_string(path.join("cfg.json")).unwrap();
        let configuration: Value = serde_json::from_str(&text).unwrap();
        assert_eq!(configuration["architecture"], name);
        assert_eq!(configuration["metadata"]["moescope"]["seed"], 3);
    }
}

/// The example `saelens_opens` wrote the folders in `fixtures/dictionaries/ours`; `expect.py` opened them with SAELens and kept what came
/// out.
#[test]
fn saelens_computed_the_same_from_the_folders_that_we_write() {
    let expected = Weights::open(&fixtures().join("expected.safetensors")).unwrap();
    let x = Tensor::new([5, 4], expected.tensor("x").unwrap().read().unwrap()).unwrap();
    let folder = tempfile::tempdir().unwrap();
    for (name, _) in all() {
        let (again, kept) = (folder.path().join(name), fixtures().join("ours").join(name));
        let dictionary = Dictionary::open(&kept).unwrap();
        dictionary.save(&again, &json!(null)).unwrap();
        for file in ["cfg.json", "sae_weights.safetensors"] {
            let read = |path: &Path| std::fs::read(path.join(file)).unwrap();
            assert!(
                read(&again) == read(&kept),
                "{name}/{file}: the format changed; follow fixtures/dictionaries/expect.py"
            );
        }
        compare(&dictionary, &x, &expected, &format!("ours.{name}"));
    }
}

/// The folders in `fixtures/dictionaries/theirs` were written by SAELens.
#[test]
fn what_saelens_wrote_computes_the_same_here() {
    let expected = Weights::open(&fixtures().join("expected.safetensors")).unwrap();
    let x = Tensor::new([5, 4], expected.tensor("x").unwrap().read().unwrap()).unwrap();
    let names =
        ["standard", "topk", "topk_rescaled", "jumprelu", "batchtopk", "transcoder", "jumprelu_transcoder"];
    for name in names {
        let dictionary = Dictionary::open(&fixtures().join("theirs").join(name)).unwrap();
        compare(&dictionary, &x, &expected, &format!("theirs.{name}"));
    }
}

fn compare(dictionary: &Dictionary, x: &Tensor, expected: &Weights, name: &str) {
    let target = Some(Tensor::zeros([x.rows(), dictionary.target_width()]));
    let (features, written) = dictionary.reconstruct(&Rows { input: x.clone(), target }).unwrap();
    for (kind, found) in [("features", features), ("written", written)] {
        let wanted = expected.tensor(&format!("{name}.{kind}")).unwrap().read().unwrap();
        assert_eq!(found.len(), wanted.len(), "{name} {kind}");
        for (found, wanted) in found.data().iter().zip(&wanted) {
            assert!((found - wanted).abs() <= 2e-5 * (1.0 + wanted.abs()), "{name} {kind}: {found} {wanted}");
        }
    }
}

/// A folder of the first dictionary with a changed configuration.
fn opened_with(change: impl Fn(&mut Value)) -> Result<Dictionary, DictionaryError> {
    let folder = tempfile::tempdir().unwrap();
    all()[0].1.save(folder.path(), &json!(null)).unwrap();
    let path = folder.path().join("cfg.json");
    let mut configuration: Value = serde_json::from_str(&std::fs::read_to_string(&path).unwrap()).unwrap();
    change(&mut configuration);
    std::fs::write(&path, configuration.to_string()).unwrap();
    Dictionary::open(folder.path())
}

#[test]
fn the_versions_before_six_had_all_keys_side_by_side() {
    let old = opened_with(|configuration| {
        *configuration = json!({
            "d_in": 4, "d_sae": 7, "hook_name": "blocks.0.hook_resid_post", "model_name": "tiny",
            "activation_fn_str": "topk", "activation_fn_kwargs": { "k": 3 }, "hook_head_index": null,
            "normalize_activations": false, "finetuning_scaling_factor": false,
        });
    })
    .unwrap();
    assert_eq!((old.rule(), old.place()), (&Rule::TopK { k: 3 }, all()[0].1.place()));
}

#[test]
fn whatever_would_change_the_result_and_is_not_computed_is_refused_by_name() {
    for (key, value) in [
        ("architecture", json!("gated")),
        ("normalize_activations", json!("layer_norm")),
        ("reshape_activations", json!("other")),
        ("finetuning_scaling_factor", json!(true)),
        ("activation_fn", json!("tanh-relu")),
        ("hook_head_index", json!(2)),
        ("d_sae", json!("many")),
    ] {
        let message =
            opened_with(|configuration| configuration[key] = value.clone()).unwrap_err().to_string();
        assert!(message.contains(&format!("`{key}` is")) && message.contains("cfg.json"), "{message}");
    }
    let message = opened_with(|configuration| configuration["d_sae"] = json!(8)).unwrap_err().to_string();
    assert!(
        message.contains("W_enc") && message.contains("[4, 7]") && message.contains("[4, 8]"),
        "{message}"
    );
    assert!(opened_with(|configuration| *configuration = json!("text")).is_err());
}

#[test]
fn damaged_and_missing_files_are_errors_and_so_is_a_transcoder_without_a_name() {
    let folder = tempfile::tempdir().unwrap();
    assert!(Dictionary::open(folder.path()).unwrap_err().to_string().contains("cfg.json"));
    let (_, dictionary) = &all()[2];
    dictionary.save(folder.path(), &json!(null)).unwrap();
    let path = folder.path().join("sae_weights.safetensors");
    let whole = std::fs::read(&path).unwrap();
    for length in (0..whole.len()).step_by(7) {
        std::fs::write(&path, &whole[..length]).unwrap();
        assert!(Dictionary::open(folder.path()).is_err(), "{length} bytes");
    }
    let parts = Parts {
        rule: Rule::TopK { k: 1 },
        encoder: numbers(&[2, 2], 1),
        encoder_bias: numbers(&[2], 2),
        decoder: numbers(&[3, 2], 3),
        bias: numbers(&[3], 4),
        centred: false,
    };
    let place = Place { target_hook: Some("blocks.0.hook_mlp_out".into()), ..Place::default() };
    let transcoder = Dictionary::new(parts, place).unwrap();
    let message = transcoder.save(&folder.path().join("t"), &json!(null)).unwrap_err().to_string();
    assert!(message.contains("batchtopk"), "{message}");
}
