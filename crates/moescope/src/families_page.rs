//! The families of checkpoints as a page of Markdown: the generated half of `docs/families.md`.

use std::fmt::Write;

use moescope_model::{COMMON_KEYS, FamilySupport, guarded_keys};

/// Three tables: what the families are, which keys are read, which are refused.
///
/// Everything in it is what the code goes by; nothing is written by hand.
pub fn families_page(families: &[FamilySupport]) -> String {
    let mut page = String::new();
    push(&mut page, "| `model_type` | class of the reference | experts, in a block | GGUF | fixtures |");
    push(&mut page, "|---|---|---|---|---|");
    for family in families {
        let experts = if family.routed { code(&family.experts, "<br>") } else { "dense".into() };
        let gguf = family.gguf.map_or_else(String::new, |name| format!("`{name}`"));
        let cells = [code(&[family.model_type], ""), code(&[family.architecture], ""), experts, gguf];
        push(&mut page, &format!("| {} | {} |", cells.join(" | "), code(&family.fixtures, "<br>")));
    }
    push(
        &mut page,
        "\nKeys that every family reads; what is in brackets is another spelling of what stands before it:\n",
    );
    let common = COMMON_KEYS.map(|spellings| match spellings {
        [one] => code(&[one], ""),
        [first, others @ ..] => format!("`{first}` ({})", code(others, ", ")),
        [] => String::new(),
    });
    push(&mut page, &format!("{}.\n", common.join(", ")));
    push(&mut page, "| `model_type` | keys that it reads besides |");
    push(&mut page, "|---|---|");
    for family in families {
        push(&mut page, &format!("| `{}` | {} |", family.model_type, code(&family.keys, ", ")));
    }
    push(
        &mut page,
        "\nKeys that are refused, by name, in a family that does not read them, unless they stand at the value without effect:\n",
    );
    push(&mut page, &format!("{}.", code(&guarded_keys(), ", ")));
    page
}

/// Texts as code, one after the other.
fn code<T: AsRef<str>>(texts: &[T], between: &str) -> String {
    texts.iter().map(|text| format!("`{}`", text.as_ref())).collect::<Vec<_>>().join(between)
}

fn push(page: &mut String, line: &str) {
    // Writing into a text cannot fail.
    let _ = writeln!(page, "{line}");
}
