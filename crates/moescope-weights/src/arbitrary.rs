//! Headers and indices that say anything at all: an error or weights, and never a panic.

use std::fs;
use std::path::Path;

use proptest::prelude::*;
use serde_json::{Map, Value, json};

use crate::Weights;

/// Opens and reads all that is there.
fn look_at_all(path: &Path) {
    let Ok(weights) = Weights::open(path) else { return };
    for name in weights.names() {
        let tensor = weights.tensor(name).unwrap();
        assert!(tensor.len() <= 1 << 20, "{name} {:?}", tensor.shape());
        let _ = tensor.read();
    }
}

/// A pair of GGUF metadata of this kind, whose lengths may lie.
fn pair(key: &str, kind: u32, element: u32, length: u64, bytes: &[u8]) -> Vec<u8> {
    let mut pair = (key.len() as u64).to_le_bytes().to_vec();
    pair.extend(key.as_bytes());
    pair.extend(kind.to_le_bytes());
    match kind {
        8 => pair.extend(length.to_le_bytes()),
        9 => {
            pair.extend(element.to_le_bytes());
            pair.extend(length.to_le_bytes());
        }
        _ => {}
    }
    pair.extend(bytes);
    pair
}

fn length() -> impl Strategy<Value = u64> {
    prop_oneof![4 => 0_u64..12, 1 => prop::sample::select(vec![1 << 31, 1 << 61, u64::MAX - 7, u64::MAX])]
}

/// JSON of any form, but not deep.
fn anything() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        (0_u64..9).prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<u64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        prop::sample::select(vec!["", "F32", "U8", "a.safetensors", "..", "a/b", "\u{0}", "."])
            .prop_map(Value::from),
    ];
    leaf.prop_recursive(3, 12, 4, |inside| {
        prop_oneof![
            prop::collection::vec(inside.clone(), 0..4).prop_map(Value::from),
            prop::collection::hash_map(
                "[a-c]|dtype|shape|data_offsets|weight_map|__metadata__",
                inside,
                0..4
            )
            .prop_map(|keys| Value::Object(keys.into_iter().collect())),
        ]
    })
}

/// A header of two tensors that fit, in which one place is something else.
fn header(tensor: usize, key: &str, instead: Option<Value>) -> Value {
    let mut header = json!({
        "a": {"dtype": "F32", "shape": [2, 1], "data_offsets": [0, 8]},
        "b": {"dtype": "F32", "shape": [2], "data_offsets": [8, 16]},
    });
    let entry = header[["a", "b"][tensor]].as_object_mut().unwrap();
    match instead {
        Some(value) => drop(entry.insert(key.into(), value)),
        None => drop(entry.remove(key)),
    }
    header
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn gguf_metadata_of_any_kind_and_length(
        pairs in prop::collection::vec(
            (
                prop::sample::select(vec!["k", "general.alignment", "split.count", "general.architecture"]),
                prop_oneof![8 => 0_u32..14, 1 => any::<u32>()],
                prop_oneof![8 => 0_u32..14, 1 => any::<u32>()],
                length(),
                prop::collection::vec(prop_oneof![2 => Just(0_u8), 1 => any::<u8>()], 0..24),
            ),
            0..4,
        ),
        claimed in prop_oneof![4 => Just(None), 1 => length().prop_map(Some)],
    ) {
        let count = claimed.unwrap_or(pairs.len() as u64);
        let mut file = [&b"GGUF"[..], &3_u32.to_le_bytes(), &0_u64.to_le_bytes(), &count.to_le_bytes()].concat();
        for (key, kind, element, length, bytes) in &pairs {
            file.extend(pair(key, *kind, *element, *length, bytes));
        }
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.gguf");
        fs::write(&path, file).unwrap();
        look_at_all(&path);
    }

    #[test]
    fn an_alignment_is_a_power_of_two_or_refused(alignment in prop_oneof![0_u32..70, any::<u32>()]) {
        let mut file = [&b"GGUF"[..], &3_u32.to_le_bytes(), &0_u64.to_le_bytes(), &1_u64.to_le_bytes()].concat();
        file.extend(pair("general.alignment", 4, 0, 0, &alignment.to_le_bytes()));
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.gguf");
        fs::write(&path, file).unwrap();
        prop_assert_eq!(Weights::open(&path).is_ok(), alignment.is_power_of_two() && alignment <= 1 << 20);
    }

    #[test]
    fn an_index_of_any_form(index in anything(), map in anything(), within in any::<bool>()) {
        let folder = tempfile::tempdir().unwrap();
        let text = if within { json!({ "weight_map": map }) } else { index };
        fs::write(folder.path().join("model.safetensors.index.json"), text.to_string()).unwrap();
        let one = r#"{"a":{"dtype":"U8","shape":[2],"data_offsets":[0,2]}}"#;
        let shard = [&(one.len() as u64).to_le_bytes()[..], one.as_bytes(), &[1, 2]].concat();
        fs::write(folder.path().join("a.safetensors"), shard).unwrap();
        look_at_all(folder.path());
    }

    #[test]
    fn a_safetensors_header_of_any_form(
        whole in anything(),
        (tensor, key, instead) in (0_usize..2, prop::sample::select(vec!["dtype", "shape", "data_offsets", "more"]), prop::option::of(anything())),
        form in 0_u8..4,
        length in prop::option::weighted(0.1, length()),
    ) {
        let text = match form {
            0 => whole.to_string(),
            1 => json!({ "__metadata__": whole, "a": {"dtype": "U8", "shape": [16], "data_offsets": [0, 16]} }).to_string(),
            _ => header(tensor, key, instead).to_string(),
        };
        let length = length.unwrap_or(text.len() as u64);
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.safetensors");
        fs::write(&path, [&length.to_le_bytes()[..], text.as_bytes(), &[7; 16]].concat()).unwrap();
        look_at_all(&path);
    }

    /// As many tensors as a header may name, each of no bytes, one of them with more than there are.
    #[test]
    fn many_tensors_of_no_bytes(count in 1_usize..400, liar in any::<prop::sample::Index>(), axis in any::<u64>()) {
        let mut tensors: Map<String, Value> = Map::new();
        for number in 0..count {
            let shape = if number == liar.index(count) { vec![axis, 0] } else { vec![0, 3] };
            tensors.insert(format!("t{number}"), json!({"dtype": "F32", "shape": shape, "data_offsets": [0, 0]}));
        }
        let text = Value::Object(tensors).to_string();
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.safetensors");
        fs::write(&path, [&(text.len() as u64).to_le_bytes()[..], text.as_bytes()].concat()).unwrap();
        look_at_all(&path);
    }
}
