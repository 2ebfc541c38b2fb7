//! Configurations that lie: whatever `config.json` says, opening and running answer or refuse, and never panic.

use std::path::{Path, PathBuf};
use std::sync::LazyLock;

use moescope_base::{Request, Subject, Tokens};
use proptest::prelude::*;
use serde_json::{Map, Value, json};

use super::{describe, inspect};
use crate::model::Model;
use crate::parity::fixture;
use crate::subject::ModelSubject;

/// Checkpoints of every family, with what their configuration says.
static FOLDERS: LazyLock<Vec<(PathBuf, Map<String, Value>)>> = LazyLock::new(|| {
    let mut folders: Vec<PathBuf> = ["checkpoints", "transformers_opens"]
        .iter()
        .flat_map(|kind| std::fs::read_dir(fixture(kind)).unwrap())
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.join("config.json").exists())
        .collect();
    folders.sort();
    let keys = |folder: &Path| {
        let text = std::fs::read_to_string(folder.join("config.json")).unwrap();
        serde_json::from_str(&text).unwrap()
    };
    folders.into_iter().map(|folder| (folder.clone(), keys(&folder))).collect()
});

/// Keys of all families, so that one meets those of others.
static KEYS: LazyLock<Vec<String>> = LazyLock::new(|| {
    let mut keys: Vec<String> = FOLDERS.iter().flat_map(|(_, keys)| keys.keys().cloned()).collect();
    let others =
        ["rope_scaling", "rope_theta", "rotary_pct", "head_dim", "layer_types", "n_group", "clip_qkv"];
    keys.extend(others.map(String::from));
    keys.sort();
    keys.dedup();
    keys
});

/// What one key becomes.
#[derive(Clone, Debug)]
enum Change {
    Absent,
    Value(Value),
    /// The value that another checkpoint has there.
    Borrowed(prop::sample::Index),
    /// A change inside the object or the list that stands there.
    Within(prop::sample::Index, Value),
}

fn value() -> impl Strategy<Value = Value> {
    let huge = [1_u64 << 30, (1 << 30) + 2, 1 << 32, 1 << 62, u64::MAX];
    prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        (0_u64..70).prop_map(Value::from),
        prop::sample::select(huge.to_vec()).prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        prop::sample::select(vec![-1.0, 0.0, 1e-300, 0.3, 1.5, 1e30, 1e308, -1e308]).prop_map(Value::from),
        prop::sample::select(vec!["", "silu", "gelu", "yarn", "greedy", "\u{0}", "full_attention"])
            .prop_map(Value::from),
        prop::collection::vec(0_u64..5, 0..4).prop_map(Value::from),
        Just(json!({})),
        prop::sample::select(vec!["linear", "dynamic", "yarn", "llama3", "longrope", "mrope"]).prop_map(
            |kind| json!({
                "rope_type": kind, "factor": 4.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
                "short_factor": [1.0, 2.0], "long_factor": [3.0],
            })
        ),
        prop::collection::vec(
            prop::sample::select(vec!["full_attention", "sliding_attention", "chunked"]),
            0..5
        )
        .prop_map(Value::from),
    ]
}

fn change() -> impl Strategy<Value = Change> {
    prop_oneof![
        1 => Just(Change::Absent),
        4 => value().prop_map(Change::Value),
        2 => any::<prop::sample::Index>().prop_map(Change::Borrowed),
        2 => (any::<prop::sample::Index>(), value()).prop_map(|(place, value)| Change::Within(place, value)),
    ]
}

fn apply(keys: &mut Map<String, Value>, key: &str, change: &Change) {
    match change {
        Change::Absent => drop(keys.remove(key)),
        Change::Value(value) => drop(keys.insert(key.into(), value.clone())),
        Change::Borrowed(place) => {
            let (_, others) = &FOLDERS[place.index(FOLDERS.len())];
            keys.extend(others.get(key).map(|value| (key.to_owned(), value.clone())));
        }
        Change::Within(place, value) => match keys.get_mut(key) {
            Some(Value::Object(parts)) if !parts.is_empty() => {
                let name = parts.keys().nth(place.index(parts.len())).unwrap().clone();
                parts.insert(name, value.clone());
            }
            Some(Value::Array(parts)) if !parts.is_empty() => {
                let place = place.index(parts.len());
                parts[place] = value.clone();
            }
            _ => drop(keys.insert(key.into(), value.clone())),
        },
    }
}

/// The folder under another configuration, with the same files of weights.
fn reconfigured(folder: &Path, keys: &Map<String, Value>) -> tempfile::TempDir {
    let copy = tempfile::tempdir().unwrap();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_str().unwrap();
        if name.starts_with("model") {
            std::fs::hard_link(&path, copy.path().join(name))
                .or_else(|_| std::fs::copy(&path, copy.path().join(name)).map(drop))
                .unwrap();
        }
    }
    std::fs::write(copy.path().join("config.json"), Value::Object(keys.clone()).to_string()).unwrap();
    copy
}

/// All that can be asked of a folder.
fn look_at_all(folder: &Path) -> bool {
    let described = describe(folder);
    let inspected = inspect(folder);
    assert!(described.is_ok() || inspected.is_err());
    let Ok(model) = Model::open(folder) else { return false };
    assert!(inspected.is_ok(), "what opens can be inspected");
    let length = model.description().max_positions.min(18);
    let tokens = Tokens::new((0..length as u32).map(|place| place % 7).collect(), 1, length).unwrap();
    let outcome = ModelSubject::new(model).run(&Request::of(&tokens));
    outcome.is_ok()
}

#[test]
fn every_configuration_is_read_as_it_stands() {
    assert!(FOLDERS.len() >= 20);
    for (folder, keys) in FOLDERS.iter() {
        assert!(look_at_all(reconfigured(folder, keys).path()), "{}", folder.display());
    }
}

/// More turning coordinates than numbers count, in either place of the key.
#[test]
fn a_share_of_turning_coordinates_beyond_all_numbers_is_refused() {
    let share = Value::from(4_611_686_018_427_387_904_u64);
    let mut refused = 0;
    for (folder, keys) in FOLDERS.iter() {
        for key in ["partial_rotary_factor", "rotary_pct"] {
            let mut changed = keys.clone();
            changed.insert(key.into(), share.clone());
            if let Some(Value::Object(parts)) = changed.get_mut("rope_parameters") {
                parts.insert(key.into(), share.clone());
            }
            refused += usize::from(!look_at_all(reconfigured(folder, &changed).path()));
        }
    }
    assert!(refused > 0);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn an_arbitrary_configuration_never_panics(
        folder in any::<prop::sample::Index>(),
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<bool>(), change()), 1..4),
    ) {
        let (folder, keys) = &FOLDERS[folder.index(FOLDERS.len())];
        let mut changed = keys.clone();
        for (place, own, change) in &changes {
            // Half of the changes hit a key that the family reads.
            let key = match own {
                true => keys.keys().nth(place.index(keys.len())).unwrap(),
                false => &KEYS[place.index(KEYS.len())],
            };
            apply(&mut changed, key, change);
        }
        look_at_all(reconfigured(folder, &changed).path());
    }

    /// Most changes hit keys, kinds and numbers of the metadata.
    #[test]
    fn a_damaged_gguf_file_never_panics(
        family in prop::sample::select(vec!["llama", "mixtral", "qwen2", "qwen2_moe", "qwen3", "qwen3_moe", "gpt_oss"]),
        changes in prop::collection::vec((24_usize..2500, prop_oneof![Just(0_u8), Just(255), any::<u8>()]), 1..4),
        more in any::<bool>(),
    ) {
        let mut bytes = std::fs::read(fixture(&format!("gguf/{family}.gguf"))).unwrap();
        for (place, byte) in changes {
            // Several neighbours at once make numbers that are far off.
            let length = if more { 4 } else { 1 };
            bytes[place..place + length].fill(byte);
        }
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.gguf");
        std::fs::write(&path, bytes).unwrap();
        look_at_all(&path);
    }
}
