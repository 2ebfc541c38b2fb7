use serde::Serialize;
use serde_json::Value;

/// Names the fields in which two values of one type differ, `` `a.b` is 1 there and 2 here ``.
pub(crate) fn differences<T: Serialize>(there: &T, here: &T) -> Vec<String> {
    let value = |x: &T| serde_json::to_value(x).expect("plain data becomes JSON");
    let mut found = Vec::new();
    compare("", &value(there), &value(here), &mut found);
    found
}

fn compare(path: &str, there: &Value, here: &Value, found: &mut Vec<String>) {
    match (there, here) {
        (Value::Object(left), Value::Object(right)) if left.keys().eq(right.keys()) => {
            for ((key, left), right) in left.iter().zip(right.values()) {
                let path = if path.is_empty() { key.clone() } else { format!("{path}.{key}") };
                compare(&path, left, right, found);
            }
        }
        _ if there == here => {}
        _ => found.push(format!("`{path}` is {there} there and {here} here")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Serialize)]
    struct Outer {
        same: u32,
        rate: f32,
        inner: Option<Inner>,
    }

    #[derive(Serialize)]
    struct Inner {
        list: Vec<u32>,
    }

    #[test]
    fn only_what_differs_is_named() {
        let one = Outer { same: 1, rate: 0.5, inner: Some(Inner { list: vec![1] }) };
        let two = Outer { same: 1, rate: 0.25, inner: Some(Inner { list: vec![2] }) };
        assert_eq!(
            differences(&one, &two),
            ["`inner.list` is [1] there and [2] here", "`rate` is 0.5 there and 0.25 here"]
        );
        assert!(differences(&one, &one).is_empty());
    }
}
