//! Every format against its reference, and files that lie.

use std::fs;
use std::path::{Path, PathBuf};

use proptest::prelude::*;

use crate::{MetadataValue, NumberFormat, Weights, WeightsError};

fn fixtures() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fixtures/weights")
}

fn bits(numbers: &[f32]) -> Vec<u32> {
    numbers.iter().map(|number| number.to_bits()).collect()
}

#[test]
fn every_format_gives_the_numbers_of_its_reference_to_the_bit() {
    let expected = Weights::open(&fixtures().join("expected.safetensors")).unwrap();
    let sets =
        [Weights::open(&fixtures().join("quantised")), Weights::open(&fixtures().join("formats.gguf"))];
    let sets = sets.map(Result::unwrap);
    let mut formats = std::collections::BTreeSet::new();
    for name in expected.names() {
        let wanted = expected.tensor(name).unwrap();
        let found = sets.iter().find_map(|set| set.get(name)).unwrap_or_else(|| panic!("{name}"));
        assert_eq!(found.shape(), wanted.shape(), "{name}");
        let numbers = found.read().unwrap();
        assert_eq!(bits(&numbers), bits(&wanted.read().unwrap()), "{name}");
        formats.insert(found.format().to_string());
        found.require_finite(0, &numbers).unwrap();
    }
    assert_eq!(sets.iter().map(|set| set.names().count()).sum::<usize>(), expected.names().count());
    assert_eq!(formats.len(), 19, "{formats:?}");
}

#[test]
fn rows_are_parts_of_the_whole_also_after_their_pages_were_released() {
    for path in ["quantised", "formats.gguf"] {
        let weights = Weights::open(&fixtures().join(path)).unwrap();
        for name in weights.names() {
            let tensor = weights.tensor(name).unwrap();
            let whole = tensor.read().unwrap();
            let (rows, row) = (tensor.shape()[0], tensor.len() / tensor.shape()[0]);
            for first in 0..rows {
                let end = rows.min(first + 2);
                let mut part = vec![0.0; (end - first) * row];
                tensor.read_rows(first..end, &mut part).unwrap();
                assert_eq!(bits(&part), bits(&whole[first * row..end * row]), "{name} {first}");
                tensor.release(first..end);
            }
            assert_eq!(bits(&tensor.read().unwrap()), bits(&whole));
        }
    }
}

#[test]
fn rows_that_are_not_there_and_room_that_does_not_fit_are_refused() {
    let weights = Weights::open(&fixtures().join("formats.gguf")).unwrap();
    let tensor = weights.tensor("Q4_K").unwrap();
    assert_eq!((tensor.shape(), tensor.format()), (&[2, 3, 512][..], NumberFormat::Q4K));
    assert_eq!(tensor.bytes(), 2 * 3 * 2 * 144);
    let mut row = vec![0.0; 3 * 512];
    tensor.read_rows(1..2, &mut row).unwrap();
    for (first, end) in [(2, 3), (0, 2), (1, usize::MAX), (1, 0)] {
        let error = tensor.read_rows(first..end, &mut row).unwrap_err().to_string();
        assert!(error.contains("Q4_K"), "{error}");
    }
    assert!(tensor.read_into(&mut row).is_err());
    assert!(matches!(weights.tensor("Q9").unwrap_err(), WeightsError::NoTensor { .. }));
}

#[test]
fn weights_that_are_not_finite_are_named_with_their_place() {
    let weights = Weights::open(&fixtures().join("formats.gguf")).unwrap();
    let error = weights.tensor("F32").unwrap().require_finite(64, &[1.0, f32::NAN]).unwrap_err().to_string();
    assert!(error.contains("`F32` holds NaN at entry 65"), "{error}");
}

#[test]
fn metadata_keep_their_kind() {
    let weights = Weights::open(&fixtures().join("formats.gguf")).unwrap();
    let metadata = weights.metadata().unwrap();
    let unsigned = ["a.u8", "a.u16", "a.u32", "a.u64"].map(|key| metadata.unsigned(key).unwrap());
    assert_eq!(unsigned, [200, 60_000, 4_000_000_000, (1 << 63) + 1]);
    let signed = ["a.i8", "a.i16", "a.i32", "a.i64"].map(|key| metadata.get(key).cloned().unwrap());
    assert_eq!(signed, [-3, -30_000, -7, -(1 << 40)].map(MetadataValue::Signed));
    assert_eq!((metadata.real("a.f32"), metadata.real("a.f64")), (Some(0.5), Some(1e-5)));
    assert_eq!((metadata.flag("a.flag"), metadata.text("a.text")), (Some(true), Some("żółw")));
    assert_eq!(metadata.texts("a.texts").unwrap(), ["one", "", "three"]);
    assert_eq!(metadata.integers("a.integers").unwrap(), [1, -2, 3]);
    assert_eq!(metadata.reals("a.reals").unwrap(), [0.25, -1.5]);
    assert_eq!(metadata.integers("a.flags").unwrap(), [1, 0]);
    assert_eq!((metadata.text("a.u8"), metadata.unsigned("a.i8")), (None, None));
    assert_eq!(metadata.iter().count(), 17);
    assert!(Weights::open(&fixtures().join("quantised")).unwrap().metadata().is_none());
}

/// A safetensors file with this header and so many bytes behind it.
fn safetensors(path: &Path, header: &str, room: usize) {
    let mut bytes = (header.len() as u64).to_le_bytes().to_vec();
    bytes.extend(header.as_bytes());
    bytes.extend((0..room).map(|byte| byte as u8));
    fs::write(path, bytes).unwrap();
}

#[test]
fn shards_must_be_there_and_hold_each_name_once() {
    let folder = tempfile::tempdir().unwrap();
    let place = |name: &str| folder.path().join(name);
    let refused = |part: &str| {
        let error = Weights::open(folder.path()).unwrap_err().to_string();
        assert!(error.contains(part), "{error}");
    };
    refused("there is none of these");
    let one = |name: &str| format!(r#"{{"{name}":{{"dtype":"U8","shape":[2],"data_offsets":[0,2]}}}}"#);
    safetensors(&place("a.safetensors"), &one("x"), 2);
    assert_eq!(Weights::open(folder.path()).unwrap().tensor("x").unwrap().read().unwrap(), [0.0, 1.0]);
    safetensors(&place("b.safetensors"), &one("x"), 2);
    refused("a.safetensors, b.safetensors; name one");
    let index = |text: &str| fs::write(place("model.safetensors.index.json"), text).unwrap();
    index(r#"{"weight_map": {"x": "a.safetensors", "y": "b.safetensors"}}"#);
    refused("the tensor `x` also stands in another shard");
    index(r#"{"weight_map": {"x": "a.safetensors", "y": "c.safetensors"}}"#);
    refused("the shard `c.safetensors` is missing, and the index names it for `y`");
    index(r#"{"weight_map": {"x": "../a.safetensors"}}"#);
    refused("not a plain file name");
    index("{}");
    refused("not the JSON");
}

#[test]
fn numbers_and_scales_that_disagree_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.safetensors");
    let open = |header: &str, room| {
        safetensors(&path, header, room);
        Weights::open(&path)
    };
    let refused = |header: &str, room, part: &str| {
        let error = open(header, room).unwrap_err().to_string();
        assert!(error.contains(part), "{error}");
    };
    refused(
        r#"{"w":{"dtype":"F8_E4M3","shape":[2,2],"data_offsets":[0,4]},"w_scale_inv":{"dtype":"F32","shape":[2,1],"data_offsets":[4,12]}}"#,
        12,
        "`w_scale_inv` has shape [2, 1], wanted [1, 1] for blocks of 128 × 128",
    );
    refused(
        r#"{"w_blocks":{"dtype":"U8","shape":[1,1,1,8],"data_offsets":[0,8]},"w_scales":{"dtype":"U8","shape":[1,1,1],"data_offsets":[8,9]}}"#,
        9,
        "`w_blocks` has shape [1, 1, 1, 8], wanted [expert, output, group, 16]",
    );
    refused(
        r#"{"w_blocks":{"dtype":"U8","shape":[1,1,1,16],"data_offsets":[0,16]},"w_scales":{"dtype":"U8","shape":[1,1],"data_offsets":[16,17]}}"#,
        17,
        "`w_scales` has shape [1, 1]",
    );
    // Either of them alone is a tensor of bytes.
    let alone = r#"{"w_blocks":{"dtype":"U8","shape":[1,1,1,16],"data_offsets":[0,16]}}"#;
    assert_eq!(open(alone, 16).unwrap().names().collect::<Vec<_>>(), ["w_blocks"]);
    let flags = open(r#"{"w":{"dtype":"BOOL","shape":[2],"data_offsets":[0,2]}}"#, 2).unwrap();
    assert!(flags.tensor("w").unwrap().read().unwrap_err().to_string().contains("stored as BOOL"));
}

#[test]
fn a_matrix_in_fp8_without_its_scales_is_refused_where_the_model_has_them() {
    let folder = tempfile::tempdir().unwrap();
    let header = r#"{"v":{"dtype":"F8_E4M3","shape":[2],"data_offsets":[0,2]},"w":{"dtype":"F8_E4M3","shape":[1,2],"data_offsets":[2,4]}}"#;
    safetensors(&folder.path().join("model.safetensors"), header, 4);
    // Nobody says that there are scales: the numbers are what they are.
    assert_eq!(Weights::open(folder.path()).unwrap().names().count(), 2);
    let say = |method: &str| {
        let text = format!("{{\"quantization_config\": {{\"quant_method\": \"{method}\"}}}}");
        fs::write(folder.path().join("config.json"), text).unwrap();
        Weights::open(folder.path())
    };
    assert!(say("mxfp4").is_ok());
    let error = say("fp8").unwrap_err().to_string();
    assert!(error.contains("`w` is in FP8") && error.contains("`w_scale_inv` are missing"), "{error}");
}

#[test]
fn axes_of_length_zero_hold_nothing_and_break_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.safetensors");
    let huge = "[0,1099511627776,1099511627776]";
    let header = format!(
        r#"{{"a":{{"dtype":"F32","shape":{huge},"data_offsets":[0,0]}},"w":{{"dtype":"F8_E4M3","shape":{huge},"data_offsets":[0,0]}},"w_scale_inv":{{"dtype":"F32","shape":[0,8589934592,8589934592],"data_offsets":[0,0]}},"m_blocks":{{"dtype":"U8","shape":[0,1099511627776,1099511627776,16],"data_offsets":[0,0]}},"m_scales":{{"dtype":"U8","shape":{huge},"data_offsets":[0,0]}}}}"#
    );
    safetensors(&path, &header, 0);
    let weights = Weights::open(&path).unwrap();
    assert_eq!(weights.names().collect::<Vec<_>>(), ["a", "m", "w"]);
    for name in weights.names() {
        let tensor = weights.tensor(name).unwrap();
        assert!(tensor.is_empty() && tensor.read().unwrap().is_empty());
        tensor.read_rows(0..0, &mut []).unwrap();
        assert!(tensor.read_rows(0..1, &mut []).is_err());
        tensor.release(0..1);
    }
    assert_eq!((weights.numbers(), weights.bytes()), (0, 0));
}

/// Opens a file and reads all that it gives. Whatever it holds, this must not panic.
fn look_at_all(path: &Path) -> bool {
    let Ok(weights) = Weights::open(path) else { return false };
    for name in weights.names() {
        let tensor = weights.tensor(name).unwrap();
        assert!(tensor.len() <= 1 << 20, "{name} {:?}", tensor.shape());
        let _ = tensor.read();
        let _ = tensor
            .read_rows(0..1, &mut vec![0.0; tensor.len() / tensor.shape().first().unwrap_or(&1).max(&1)]);
    }
    true
}

/// A fixture with some bytes written over and the end cut off.
fn damaged(name: &str, changes: &[(usize, u8)], cut: usize) -> Vec<u8> {
    let mut bytes = fs::read(fixtures().join(name)).unwrap();
    // Most changes hit the header, where they can do harm.
    for (place, byte) in changes {
        let place = place % (bytes.len().min(2000));
        bytes[place] = *byte;
    }
    bytes.truncate(bytes.len() - cut.min(bytes.len()));
    bytes
}

const SECOND: &str = "quantised/model-00002-of-00002.safetensors";

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn damaged_files_never_panic(
        changes in prop::collection::vec((0_usize..2000, any::<u8>()), 0..6),
        cut in prop_oneof![3 => Just(0_usize), 1 => 0_usize..14_000],
        file in prop::sample::select(vec!["formats.gguf", SECOND, "quantised/model-00001-of-00002.safetensors"]),
    ) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a");
        fs::write(&path, damaged(file, &changes, cut)).unwrap();
        fs::copy(fixtures().join("quantised/config.json"), folder.path().join("config.json")).unwrap();
        let opened = look_at_all(&path);
        prop_assert!(opened || cut > 0 || !changes.is_empty());
        // What follows the last tensor of a GGUF file only fills it up.
        prop_assert!(!opened || cut < 32);
    }

    #[test]
    fn random_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..300), version in 1_u32..5) {
        let folder = tempfile::tempdir().unwrap();
        for (name, front) in [("a.safetensors", [].to_vec()), ("a.gguf", [&b"GGUF"[..], &version.to_le_bytes()].concat())] {
            let path = folder.path().join(name);
            fs::write(&path, [front, bytes.clone()].concat()).unwrap();
            look_at_all(&path);
        }
    }

    #[test]
    fn an_arbitrary_safetensors_header_never_panics(
        kind in prop::sample::select(vec!["U8", "F32", "BF16", "F4", "F6_E2M3", "F8_E4M3", "C64", "Q7"]),
        shape in prop::collection::vec(prop_oneof![0_u64..9, any::<u64>()], 0..5),
        offsets in (0_u64..40, prop_oneof![0_u64..40, any::<u64>()]),
        name in prop::sample::select(vec!["w", "w_blocks", "w_scales", "w_scale_inv"]),
    ) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.safetensors");
        let header = format!(
            r#"{{"{name}":{{"dtype":"{kind}","shape":{shape:?},"data_offsets":[{},{}]}}}}"#, offsets.0, offsets.1
        );
        safetensors(&path, &header, 36);
        look_at_all(&path);
    }

    /// Tensors that lie anywhere: what opens has them one after the other, without gaps and up to the end.
    #[test]
    fn tensors_that_overlap_or_leave_gaps_are_refused(
        places in prop::collection::vec((0_u64..24, 0_u64..12), 1..4),
        room in 0_usize..40,
    ) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.safetensors");
        let entry = |(number, (start, length)): (usize, &(u64, u64))| {
            format!(r#""t{number}":{{"dtype":"U8","shape":[{length}],"data_offsets":[{start},{}]}}"#, start + length)
        };
        let entries: Vec<String> = places.iter().enumerate().map(entry).collect();
        safetensors(&path, &format!("{{{}}}", entries.join(",")), room);
        let mut sorted = places.clone();
        sorted.sort_unstable();
        let end = sorted.iter().try_fold(0, |end, (start, length)| (*start == end).then_some(end + length));
        prop_assert_eq!(look_at_all(&path), end == Some(room as u64), "{:?} in {}", places, room);
    }

    /// A GGUF file of two tensors about which the header says anything.
    #[test]
    fn an_arbitrary_gguf_header_never_panics(
        counts in (prop_oneof![4 => Just(2_u64), 1 => any::<u64>()], prop_oneof![4 => Just(0_u64), 1 => any::<u64>()]),
        tensors in prop::collection::vec(
            (
                prop::collection::vec(prop_oneof![4 => 0_u64..70, 1 => any::<u64>()], 0..5),
                prop_oneof![3 => 0_u32..32, 1 => any::<u32>()],
                prop_oneof![3 => (0_u64..4).prop_map(|place| 32 * place), 1 => any::<u64>()],
            ),
            2,
        ),
        room in 0_usize..200,
    ) {
        let mut bytes = [&b"GGUF"[..], &3_u32.to_le_bytes(), &counts.0.to_le_bytes(), &counts.1.to_le_bytes()].concat();
        for (number, (shape, kind, offset)) in tensors.iter().enumerate() {
            bytes.extend(1_u64.to_le_bytes());
            bytes.push(b'a' + number as u8);
            bytes.extend((shape.len() as u32).to_le_bytes());
            bytes.extend(shape.iter().flat_map(|axis| axis.to_le_bytes()));
            bytes.extend(kind.to_le_bytes());
            bytes.extend(offset.to_le_bytes());
        }
        bytes.resize(bytes.len().next_multiple_of(32) + room, 7);
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.gguf");
        fs::write(&path, bytes).unwrap();
        look_at_all(&path);
    }
}
