//! From measurements to answers: one question per file. The rules by which a verdict follows from its claims are
//! documented at each `verdict` function and, for readers, in `docs/verdicts.md`.

mod models;
#[cfg(test)]
mod planted;
mod q1_techniques;
mod q2_width;
mod q3_granularity;
mod q3_law;
mod q4_paths;
mod q5_applications;

pub(crate) use models::models;
pub(crate) use q1_techniques::answer as q1;
pub(crate) use q2_width::answer as q2;
pub(crate) use q3_granularity::answer as q3;
pub(crate) use q4_paths::answer as q4;
pub(crate) use q5_applications::answer as q5;

use moescope_base::{Figure, FigureKind, Table};

use crate::claim::{Claim, Wording};
use crate::results::{Results, loss, mean};
use crate::tabulate::claims_table;
use crate::tabulate::digits;
use crate::{Family, StudyError};

/// The limit of every claim that compares families at their best learning rates.
const RATES_ON_THEIR_OWN_LOSSES: &str = "The best of three learning rates is chosen on the losses that are then compared, and may lie at \
     the end of those tried; the table of rates shows where.";

/// Sentences about a quantity of a subject, in comparison with something.
fn compare(subject: &str, quantity: &str, other: &str) -> Wording {
    Wording {
        above: format!("{subject} has a higher {quantity} than {other}"),
        below: format!("{subject} has a lower {quantity} than {other}"),
        same: format!("{subject} and {other} have the same {quantity}, within the margin"),
        open: format!("not decided: whether {subject} and {other} differ in {quantity}"),
    }
}

/// Sentences about whether something is above what chance gives.
fn beyond_chance(statement: &str, chance: &str) -> Wording {
    Wording {
        above: format!("{statement}, beyond {chance}"),
        below: format!("not the case that {statement}: it falls below {chance}"),
        same: format!("{statement} no more than {chance} gives"),
        open: format!("not decided: whether {statement}, beyond {chance}"),
    }
}

/// The claims of a question as a table with its forest plots, one for each unit, since different units share no axis.
fn claims_exhibit(id: &str, title: &str, claims: &[Claim]) -> Result<(Vec<Table>, Vec<Figure>), StudyError> {
    let mut units: Vec<&str> = claims.iter().map(|c| c.evidence.unit.as_str()).collect();
    units.sort_unstable();
    units.dedup();
    let mut tables = Vec::new();
    let mut figures = Vec::new();
    for (index, unit) in units.iter().enumerate() {
        let rows: Vec<Claim> = claims.iter().filter(|c| c.evidence.unit == *unit).cloned().collect();
        // A single claim is told in full by the list of claims; a picture of one point tells nothing more.
        if rows.len() < 2 {
            continue;
        }
        let name = format!("{id}_claims_{}", index + 1);
        let decided = rows.iter().filter(|c| c.decision != crate::claim::Decision::Open).count();
        figures.push(Figure {
            id: name.clone(),
            title: format!("{decided} of {} claims in {} are decided", rows.len(), unit_in_words(unit)),
            caption: format!(
                "{title}. Points are means over seeds, bars 95 % t-intervals; the line marks no difference. A claim counts \
                 as decided by its corrected test, not by whether its bar touches the line."
            ),
            table: name.clone(),
            kind: FigureKind::Forest { label: "contrast".into(), estimate: "estimate".into(), reference: Some(0.0) },
        });
        tables.push(claims_table(&name, &format!("{title}, in {}", unit_in_words(unit)), unit, &rows)?);
    }
    Ok((tables, figures))
}

fn unit_in_words(unit: &str) -> &str {
    if unit.is_empty() { "pure numbers" } else { unit }
}

/// A warning where the coarse MoE, against which granularity is judged, is no better on average than a dense model of the same
/// active width: what granularity gains may then be a handicap of choosing one expert.
fn weak_baseline(results: &Results) -> Option<String> {
    let of = |family| mean(&results.language(family, loss));
    let at_best = |family| mean(&results.loss_at(family, results.best_rate(family)));
    let (coarse, dense) = (Family::Moe { granularity: 1 }, Family::Dense { times: 1 });
    (of(coarse) >= of(dense)).then(|| {
        format!(
            "Mind the baseline: {coarse} is itself no better than {dense} here ({} against {} nats; {} against {} at their best learning \
             rates), so part of what granularity would gain may be the handicap of a single expert under raw softmax weights.",
            digits(of(coarse)),
            digits(of(dense)),
            digits(at_best(coarse)),
            digits(at_best(dense))
        )
    })
}

/// `a, b and c`.
fn enumerate(parts: &[String]) -> String {
    match parts {
        [] => String::new(),
        [one] => one.clone(),
        [init @ .., last] => format!("{} and {last}", init.join(", ")),
    }
}
