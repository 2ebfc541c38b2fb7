//! Options that several families spell alike.

use serde_json::Value;

use crate::ModelError;
use crate::folder::Configuration;
use crate::variation::{Activation, Biases};

/// The activation that a key names; `usual` where it is absent.
pub(super) fn activation(
    configuration: &Configuration,
    key: &str,
    usual: Activation,
) -> Result<Activation, ModelError> {
    Ok(match configuration.text_if(key)? {
        None => usual,
        Some("silu" | "swish") => Activation::Silu,
        Some("gelu" | "gelu_python") => Activation::Gelu,
        Some("gelu_new" | "gelu_fast" | "gelu_pytorch_tanh" | "gelu_python_tanh" | "gelu_accurate") => {
            Activation::GeluTanh
        }
        Some("quick_gelu") => Activation::QuickGelu,
        Some("relu") => Activation::Relu,
        Some(other) => {
            let wanted = "`silu`, `gelu`, `gelu_new`, `gelu_pytorch_tanh`, `quick_gelu` or `relu`";
            return Err(configuration.complain(key, other, wanted));
        }
    })
}

/// A flag that may be true where it is absent. Null is then refused: the reference takes it for false or fails.
pub(super) fn flag(configuration: &Configuration, key: &str, usual: bool) -> Result<bool, ModelError> {
    match configuration.get(key) {
        None if usual && configuration.has(key) => {
            Err(configuration.complain(key, "null", "true, false or absent"))
        }
        None => Ok(usual),
        Some(_) => configuration.flag(key),
    }
}

/// A number that is `usual` where it is absent.
pub(super) fn number(configuration: &Configuration, key: &str, usual: f64) -> Result<f64, ModelError> {
    Ok(configuration.number_if(key)?.unwrap_or(usual))
}

/// Biases of all four products of attention, where `attention_bias` says so.
pub(super) fn attention_bias(configuration: &Configuration, usual: bool) -> Result<Biases, ModelError> {
    let biased = flag(configuration, "attention_bias", usual)?;
    Ok(Biases { attention_inputs: biased, attention_output: biased, ..Biases::default() })
}

/// The window of each block, from the key `layer_types`, or from `usual` where that is absent. A window as long as the longest
/// sequence is none.
pub(super) fn windows(
    configuration: &Configuration,
    window: Option<usize>,
    (layers, longest): (usize, usize),
    usual: impl Fn(usize) -> bool,
) -> Result<Vec<Option<usize>>, ModelError> {
    let sliding = match configuration.get("layer_types") {
        None => (0..layers).map(usual).collect(),
        Some(value) => kinds(configuration, value, layers)?,
    };
    if sliding.contains(&true) && window.is_none() && configuration.get("layer_types").is_some() {
        let wanted = "a number of keys, for the layers of sliding attention";
        return Err(configuration.complain("sliding_window", "absent", wanted));
    }
    let window = window.filter(|window| *window < longest);
    let windows: Vec<Option<usize>> = sliding.iter().map(|sliding| window.filter(|_| *sliding)).collect();
    Ok(if windows.iter().all(Option::is_none) { Vec::new() } else { windows })
}

/// The same window in every block. Families of this kind do not follow `layer_types`, which must then say the same.
pub(super) fn same_windows(
    configuration: &Configuration,
    window: Option<usize>,
    (layers, longest): (usize, usize),
) -> Result<Vec<Option<usize>>, ModelError> {
    if let Some(value) = configuration.get("layer_types") {
        let kind = if window.is_some() { "sliding_attention" } else { "full_attention" };
        if kinds(configuration, value, layers)?.contains(&window.is_none()) {
            let wanted = format!("`{kind}` in every layer, as `sliding_window` decides in this family");
            return Err(configuration.complain("layer_types", value, wanted));
        }
    }
    let window = window.filter(|window| *window < longest);
    Ok(if window.is_none() { Vec::new() } else { vec![window; layers] })
}

/// For each layer, whether it sees a window alone.
fn kinds(configuration: &Configuration, value: &Value, layers: usize) -> Result<Vec<bool>, ModelError> {
    let kind = |value: &Value| match value.as_str() {
        Some("full_attention") => Some(false),
        Some("sliding_attention") => Some(true),
        _ => None,
    };
    let list = value.as_array().and_then(|list| list.iter().map(kind).collect::<Option<Vec<_>>>());
    match list {
        Some(list) if list.len() >= layers => Ok(list[..layers].to_vec()),
        _ => {
            let wanted = format!("`full_attention` or `sliding_attention` for each of {layers} layers");
            Err(configuration.complain("layer_types", value, wanted))
        }
    }
}

/// The window of a family that has one key for all its layers; null is none. One of no keys is refused: a token sees itself at least.
pub(super) fn window(
    configuration: &Configuration,
    usual: Option<usize>,
) -> Result<Option<usize>, ModelError> {
    let absent = !configuration.has("sliding_window");
    let given = configuration.size_if("sliding_window")?;
    match given {
        Some(0) => Err(configuration.complain("sliding_window", 0, "1 key or more, or null for no window")),
        given => Ok(if absent { usual } else { given }),
    }
}

/// The window of a family that has a switch for it.
pub(super) fn switched_window(configuration: &Configuration) -> Result<Option<usize>, ModelError> {
    match configuration.flag("use_sliding_window")? {
        true => window(configuration, Some(4096)),
        false => Ok(None),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn windows_follow_the_list_or_the_usual_and_vanish_where_they_reach_everything() {
        let found = |keys, window| {
            let configuration = Configuration::of(keys);
            windows(&configuration, window, (3, 100), |layer| layer != 1).unwrap()
        };
        assert_eq!(found(json!({}), Some(8)), [Some(8), None, Some(8)]);
        assert!(found(json!({}), None).is_empty() && found(json!({}), Some(100)).is_empty());
        let list = json!({"layer_types": ["full_attention", "sliding_attention", "full_attention"]});
        assert_eq!(found(list, Some(8)), [None, Some(8), None]);
        let chunked = Configuration::of(json!({"layer_types": ["a", "b", "c"]}));
        assert!(windows(&chunked, Some(8), (3, 100), |_| true).is_err());
    }

    #[test]
    fn where_one_key_decides_for_all_layers_the_list_of_their_kinds_must_agree() {
        let of = |kind: &str, window| {
            let configuration = Configuration::of(json!({"layer_types": [kind, kind]}));
            same_windows(&configuration, window, (2, 100))
        };
        assert_eq!(of("sliding_attention", Some(8)).unwrap(), [Some(8), Some(8)]);
        assert!(of("full_attention", None).unwrap().is_empty());
        assert!(of("sliding_attention", Some(100)).unwrap().is_empty());
        for refused in [of("full_attention", Some(8)), of("sliding_attention", None)] {
            assert!(refused.unwrap_err().to_string().contains("`layer_types`"));
        }
    }

    #[test]
    fn an_absent_window_is_usual_and_null_is_none() {
        let found = |keys| window(&Configuration::of(keys), Some(5)).unwrap();
        assert_eq!(found(json!({})), Some(5));
        assert_eq!(found(json!({"sliding_window": null})), None);
        let none = Configuration::of(json!({"sliding_window": 0}));
        assert!(window(&none, None).unwrap_err().to_string().contains("1 key or more"));
        assert_eq!(found(json!({"sliding_window": 7})), Some(7));
    }

    #[test]
    fn null_is_no_flag_where_a_missing_one_is_true() {
        let found = |keys, usual| flag(&Configuration::of(keys), "a", usual);
        assert!(found(json!({}), true).unwrap() && !found(json!({"a": false}), true).unwrap());
        assert!(!found(json!({"a": null}), false).unwrap());
        assert!(found(json!({"a": null}), true).unwrap_err().to_string().contains("null"));
    }
}
