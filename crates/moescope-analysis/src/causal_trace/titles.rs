//! Findings of causal tracing in words.

use super::{Place, Reach, Recovery, Restored};
use crate::instrument::LEVEL;
use crate::statistics::{Bootstrap, holm};
use crate::wording::{counted, stands_out};

/// Whether routes were held, in a word.
pub(super) fn routes(row: &Recovery) -> &'static str {
    if row.held { "held" } else { "free" }
}

/// What is restored at which token, and whether routes are held.
pub(super) fn at(row: &Recovery) -> String {
    let place = match (row.reach, row.place) {
        (Reach::Own, _) => "",
        (Reach::Later, Place::Subject) => " at subject",
        (Reach::Later, Place::Reader) => " at reader",
    };
    format!("{}{place}, routes {}", row.restored.name(), routes(row))
}

/// The layer that brings most back, whether it is told from the others, and what its single expert does.
pub(super) fn own(found: &[Recovery]) -> String {
    let of = |restored: Restored, held: bool| {
        found.iter().filter(move |row| (row.restored, row.held) == (restored, held))
    };
    let mut layers: Vec<&Recovery> = of(Restored::FeedForward, false).collect();
    layers.sort_by(|a, b| b.recovery.estimate.total_cmp(&a.recovery.estimate));
    let Some(most) = layers.first() else { return String::new() };
    let share = |found: &Bootstrap| {
        let [estimate, low, high] = [found.estimate, found.low, found.high].map(|share| 100.0 * share);
        format!("{estimate:.0} % ({low:.0} to {high:.0} %)")
    };
    let next = layers.get(1);
    let (block, back) = (most.layer, share(&most.recovery));
    let seen = most.recovery.low > most.null.max(0.0);
    if !seen {
        return format!(
            "No feed-forward layer is seen to bring a disturbed prediction back beyond another sequence's vector; that of block {block} comes \
             first with {back}"
        );
    }
    let told = match next.filter(|next| !stands_out(&most.recovery, Some(&next.recovery))) {
        None => format!(
            "Of all feed-forward layers that of block {block} brings most of a disturbed prediction back: {back}"
        ),
        Some(next) => format!(
            "The feed-forward layer of block {block} brings {back} of a disturbed prediction back, and is not told from the next, that of block \
             {}: {}",
            next.layer,
            share(&next.recovery)
        ),
    };
    let same = |restored: Restored, held: bool| {
        let row = of(restored, held).find(|row| row.layer == most.layer);
        row.map(|row| 100.0 * row.recovery.estimate)
    };
    match (same(Restored::Expert, false), same(Restored::FeedForward, true), same(Restored::Expert, true)) {
        (Some(expert), Some(held), Some(expert_held)) => format!(
            "{told}; in block {block} one expert alone {expert:.0} %, with routes held {held:.0} % and {expert_held:.0} %"
        ),
        _ => told,
    }
}

/// The rows that bring something back, and more than another sequence's vector does, most first; p-values are corrected over all of them (Holm).
fn told<'r>(rows: &[&'r Recovery]) -> Vec<&'r Recovery> {
    let p = holm(&rows.iter().map(|row| row.p_value).collect::<Vec<f64>>());
    let more = |row: &Recovery| row.recovery.low > 0.0 && row.recovery.estimate > row.null;
    let told = rows.iter().zip(p).filter(|(row, p)| *p <= LEVEL && more(row));
    let mut told: Vec<&Recovery> = told.map(|(row, _)| *row).collect();
    told.sort_by(|a, b| b.recovery.estimate.total_cmp(&a.recovery.estimate));
    told
}

/// The layer or expert that brings most of a later prediction back, and at which token. The stream is left out: after the last block all of a prediction is in
/// it.
pub(super) fn later(found: &[Recovery]) -> String {
    let parts: Vec<&Recovery> = found.iter().filter(|row| row.restored != Restored::Stream).collect();
    match told(&parts).first() {
        Some(row) => format!(
            "Of a later prediction most comes back in block {} by the {}: {:.0} % ({:.0} to {:.0} %) against {:.0} % with another sequence's vector",
            row.layer,
            at(row),
            100.0 * row.recovery.estimate,
            100.0 * row.recovery.low,
            100.0 * row.recovery.high,
            100.0 * row.null
        ),
        None => {
            "No layer or expert brings a later prediction back more surely than another sequence's vector"
                .into()
        }
    }
}

/// The head that brings most back, and whether it is told from the next.
pub(super) fn heads(heads: &[Recovery]) -> String {
    let told = told(&heads.iter().collect::<Vec<&Recovery>>());
    let Some(most) = told.first() else {
        return format!(
            "None of {} alone brings a later prediction back more surely than another sequence's value",
            counted(heads.len(), "head", "heads")
        );
    };
    let name = |row: &Recovery| format!("{} of block {}", row.restored.name(), row.layer);
    let share = 100.0 * most.recovery.estimate;
    let said = format!(
        "Alone, {} brings {share:.0} % of a later prediction back, against {:.0} % with another sequence's value",
        name(most),
        100.0 * most.null
    );
    match told.get(1) {
        Some(next) if !stands_out(&most.recovery, Some(&next.recovery)) => {
            format!("{said}; it is not told from the next, {}", name(next))
        }
        _ => said,
    }
}
