//! Findings of causal tracing in words.
//!
//! A title names what has the largest share, and says so if it is not told from another sequence's vector: of many rows one is always the
//! largest.

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

/// What comes back, with its interval.
fn share(found: &Bootstrap) -> String {
    let [estimate, low, high] = [found.estimate, found.low, found.high].map(|share| 100.0 * share);
    format!("{estimate:.0} % ({low:.0} to {high:.0} %)")
}

/// The layer that brings most back, whether it is told from the others, and what its single expert does.
pub(super) fn own(found: &[Recovery]) -> String {
    let of = |restored: Restored, held: bool| {
        found.iter().filter(move |row| (row.restored, row.held) == (restored, held))
    };
    let mut layers: Vec<&Recovery> = of(Restored::FeedForward, false).collect();
    layers.sort_by(|a, b| b.recovery.estimate.total_cmp(&a.recovery.estimate));
    let Some(most) = layers.first() else { return String::new() };
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
    let told = told(&parts);
    let Some(most) = largest(&parts) else { return String::new() };
    let (back, null) = (share(&most.recovery), 100.0 * most.null);
    if told.first() == Some(&most) {
        return format!(
            "Of a later prediction most comes back in block {} by the {}: {back} against {null:.0} % with another sequence's vector",
            most.layer,
            at(most)
        );
    }
    format!(
        "{} of {} bring more of a later prediction back than another sequence's vector does; the largest share, {back} in block {} by the {}, is not \
         told from that",
        told.len(),
        counted(
            parts.len(),
            "layer or expert, by token and routes,",
            "layers and experts, by token and routes,"
        ),
        most.layer,
        at(most)
    )
}

/// The row with the largest share, whether it is told from the null or not.
fn largest<'r>(rows: &[&'r Recovery]) -> Option<&'r Recovery> {
    rows.iter().copied().max_by(|a, b| a.recovery.estimate.total_cmp(&b.recovery.estimate))
}

/// The head that brings most back, and whether it is told from the next.
pub(super) fn heads(heads: &[Recovery]) -> String {
    let all: Vec<&Recovery> = heads.iter().collect();
    let told = told(&all);
    let Some(most) = largest(&all) else { return String::new() };
    let name = |row: &Recovery| format!("{} of block {}", row.restored.name(), row.layer);
    let [share, null] = [most.recovery.estimate, most.null].map(|share| 100.0 * share);
    if told.first() != Some(&most) {
        return format!(
            "{} of {} alone bring more of a later prediction back than another sequence's value does; the largest share, {share:.0} % by {}, is not told \
             from that",
            told.len(),
            counted(heads.len(), "head", "heads"),
            name(most)
        );
    }
    let said = format!(
        "Alone, {} brings {share:.0} % of a later prediction back, against {null:.0} % with another sequence's value",
        name(most)
    );
    match told.get(1) {
        Some(next) if !stands_out(&most.recovery, Some(&next.recovery)) => {
            format!("{said}; it is not told from the next, {}", name(next))
        }
        _ => said,
    }
}
