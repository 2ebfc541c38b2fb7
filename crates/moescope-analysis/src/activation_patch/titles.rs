//! Findings of activation patching in words.
//!
//! A title names what carries most, and says so if it is not told from another sequence's vector: of many rows one is always the largest.

use super::{Carried, Direction, Moved, Part, Place};
use crate::instrument::LEVEL;
use crate::statistics::{Bootstrap, holm};
use crate::wording::{counted, stands_out};

/// Smallest share that is told, since less is no more than rounding.
const LEAST: f64 = 0.005;

/// A share with its interval.
fn share(found: &Bootstrap) -> String {
    let [estimate, low, high] = [found.estimate, found.low, found.high].map(per_cent);
    format!("{estimate} % ({low} to {high} %)")
}

/// Whole hundredths, without the sign of a negative zero.
fn per_cent(share: f64) -> String {
    format!("{:.0}", (100.0 * share).round() + 0.0)
}

/// The direction of a row.
fn of(row: &Carried, direction: Direction) -> &Moved {
    match direction {
        Direction::Denoise => &row.denoised,
        Direction::Noise => &row.noised,
    }
}

/// After which block the change of a later prediction has left the exchanged token for that where it is read.
pub(super) fn stream(rows: &[&Carried], direction: Direction) -> String {
    let at = |layer: usize, place: Place| {
        let row = rows.iter().find(|row| (row.spot.layer, row.spot.place) == (layer, place));
        row.map(|row| of(row, direction).share)
    };
    let mut layers: Vec<usize> = rows.iter().map(|row| row.spot.layer).collect();
    layers.dedup();
    let pairs: Vec<(usize, Bootstrap, Bootstrap)> = layers
        .into_iter()
        .filter_map(|layer| Some((layer, at(layer, Place::Exchanged)?, at(layer, Place::Reader)?)))
        .collect();
    let (verb, way) = match direction {
        Direction::Denoise => ("brings", "back"),
        Direction::Noise => ("takes", "away"),
    };
    let said = |(layer, exchanged, read): &(usize, Bootstrap, Bootstrap)| {
        format!(
            "after block {layer} the exchanged token {verb} {} of a later prediction {way} and the token where it is read {}",
            share(exchanged),
            share(read)
        )
    };
    let told = |exchanged: &Bootstrap, read: &Bootstrap| {
        let apart = stands_out(read, Some(exchanged)) || stands_out(exchanged, Some(read));
        if apart { "" } else { ", not told apart" }
    };
    // The block from which on it is so to the end.
    let last_before = pairs.iter().rposition(|(_, exchanged, read)| read.estimate <= exchanged.estimate);
    let over = last_before.map_or(0, |before| before + 1);
    let over = (over < pairs.len()).then_some(over);
    let title = match over {
        Some(over) => {
            let (layer, exchanged, read) = &pairs[over];
            let second = format!("{} against {}{}", share(read), share(exchanged), told(exchanged, read));
            match over.checked_sub(1).map(|before| &pairs[before]) {
                Some(before) => {
                    format!("{}; from block {layer} on the latter {verb} more: {second}", said(before))
                }
                None => format!("already {}{}", said(&pairs[over]), told(exchanged, read)),
            }
        }
        None => match pairs.last() {
            Some(last) => format!("even {}{}", said(last), told(&last.1, &last.2)),
            None => return String::new(),
        },
    };
    capital(&title)
}

/// The same with a capital letter at the beginning.
fn capital(text: &str) -> String {
    let mut letters = text.chars();
    letters.next().map_or_else(String::new, |first| first.to_uppercase().chain(letters).collect())
}

/// What carries most of the change, whether that is told from another sequence's vector, and what the next has; `things` are counted, one and many.
pub(super) fn most(
    rows: &[&Carried],
    prediction: &str,
    things: (&str, &str),
    name: impl Fn(&Carried) -> String,
) -> String {
    let p = holm(&rows.iter().map(|row| row.denoised.p_value).collect::<Vec<f64>>());
    let told = |row: &Carried, p: f64| {
        let moved = &row.denoised;
        p <= LEVEL && moved.share.low > 0.0 && moved.share.estimate > moved.null.max(LEAST)
    };
    let mut order: Vec<(&Carried, bool)> = rows.iter().zip(p).map(|(row, p)| (*row, told(row, p))).collect();
    order.sort_by(|a, b| b.0.denoised.share.estimate.total_cmp(&a.0.denoised.share.estimate));
    let Some((first, is_told)) = order.first() else { return String::new() };
    let (back, null) = (share(&first.denoised.share), per_cent(first.denoised.null));
    if !is_told {
        let count = order.iter().filter(|(_, told)| *told).count();
        return format!(
            "{count} of {} bring more of {prediction} back than another sequence's vector does; the largest share, {back} by {}, is not told from \
             that",
            counted(rows.len(), things.0, things.1),
            name(first)
        );
    }
    let said = format!(
        "{} brings {back} of {prediction} back, against {null} % with another sequence's vector, and takes {} away",
        capital(&name(first)),
        share(&first.noised.share)
    );
    match order.get(1) {
        Some((next, _)) if !stands_out(&first.denoised.share, Some(&next.denoised.share)) => {
            format!("{said}; it is not told from the next, {}", name(next))
        }
        _ => said,
    }
}

/// A part and its block, in words.
pub(super) fn of_block(row: &Carried) -> String {
    let block = row.spot.layer;
    match row.spot.part {
        Part::Attention => format!("attention in block {block}"),
        Part::FeedForward => format!("the feed-forward layer of block {block}"),
        Part::Ranked(0) => format!("the first expert of block {block}"),
        Part::Ranked(_) => format!("the second expert of block {block}"),
        part => format!("{} of block {block}", part.name()),
    }
}

/// The same with the token.
pub(super) fn of_block_at(row: &Carried) -> String {
    let place = match row.spot.place {
        Place::Exchanged => "at the exchanged token",
        Place::First => "one token after",
        Place::Second => "two tokens after",
        Place::Reader => "where it is read",
    };
    format!("{} {place}", of_block(row))
}

/// What routes alone do, after another finding.
pub(super) fn and_routes(title: &str, routes: Option<&Carried>) -> String {
    match routes {
        Some(row) if !title.is_empty() => {
            let (own, foreign) = (&row.denoised, per_cent(row.denoised.null));
            let told = if own.p_value <= 0.05 { "" } else { ", not told apart" };
            format!(
                "{title}; routes alone bring {} back, those of another sequence {foreign} %{told}",
                share(&own.share)
            )
        }
        _ => title.to_owned(),
    }
}

/// The part whose two directions differ most beyond their intervals.
pub(super) fn apart(rows: &[&Carried]) -> String {
    let gap = |row: &Carried| (row.denoised.share.estimate - row.noised.share.estimate).abs();
    let differs = |row: &Carried| {
        let (back, away) = (&row.denoised.share, &row.noised.share);
        stands_out(back, Some(away)) || stands_out(away, Some(back))
    };
    let told = rows.iter().filter(|row| differs(row) && gap(row) > LEAST);
    match told.max_by(|a, b| gap(a).total_cmp(&gap(b))) {
        Some(row) => format!(
            "{} brings {} of a later prediction back and takes {} away: {}",
            capital(&of_block_at(row)),
            share(&row.denoised.share),
            share(&row.noised.share),
            match row.denoised.share.estimate < row.noised.share.estimate {
                true => "more is needed of it than it gives alone",
                false => "others give the same without it",
            }
        ),
        None => format!(
            "None of {} is told to bring back another share of a later prediction than it takes away",
            counted(rows.len(), "part", "parts")
        ),
    }
}
