//! Choosing documents evenly, so that a domain meets its budget.

use moescope_corpus::Document;

/// Documents evenly spaced in the list, of about `budget` bytes in all.
pub(super) fn thin(documents: Vec<Document>, budget: usize) -> Vec<Document> {
    let total: usize = documents.iter().map(|document| document.text.len()).sum();
    let mut passed = 0u64;
    let mut taken = 0usize;
    let mut kept = Vec::new();
    for document in documents {
        passed += document.text.len() as u64;
        // The share of the budget that is due by now; a document is taken when it comes no further ahead.
        let due = (passed * budget as u64 / total.max(1) as u64) as usize;
        if taken + document.text.len() / 2 <= due {
            taken += document.text.len();
            kept.push(document);
        }
    }
    kept
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_budget_is_met_evenly() {
        let documents = (0..100).map(|i| Document::new(i.to_string(), "x".repeat(100))).collect();
        let kept = thin(documents, 2_000);
        assert_eq!(kept.len(), 20);
        let first_half = kept.iter().filter(|document| document.name.parse::<usize>().unwrap() < 50).count();
        assert_eq!(first_half, 10);
    }

    #[test]
    fn a_large_budget_keeps_everything() {
        let documents = vec![Document::new("a", "xx"), Document::new("b", "yyyy")];
        assert_eq!(thin(documents.clone(), 100), documents);
    }
}
