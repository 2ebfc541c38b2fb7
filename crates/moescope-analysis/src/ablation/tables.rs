//! What components are worth, as tables and figures.

use moescope_base::{Column, Figure, FigureKind, Table};

use super::effects::{Effect, Effects, How};
use crate::AnalysisError;
use crate::statistics::{Bootstrap, Resampling, bootstrap, holm, spearman};
use crate::tabulate::bootstrap_columns;

/// Components that are drawn.
const DRAWN: usize = 10;

fn keys(rows: &[&Effect]) -> Vec<Column> {
    let text = |of: &dyn Fn(&Effect) -> String| rows.iter().map(|row| of(row)).collect::<Vec<String>>();
    let number = |row: &Effect| row.component.place().1.map_or_else(String::new, |number| number.to_string());
    vec![
        Column::key("component", "what is taken out", text(&|row| row.component.to_string())),
        Column::key(
            "kind",
            "head, attention, feed-forward layer, expert or neuron",
            text(&|row| row.component.kind().into()),
        ),
        Column::integer_key(
            "layer",
            "",
            "block, counted from 0",
            rows.iter().map(|row| row.component.place().0 as i64).collect(),
        ),
        Column::key("number", "of the head, expert or neuron", text(&number)),
        Column::key(
            "how",
            "zero, mean over the text, the value of another token, or renormalised",
            text(&|row| row.how.name().into()),
        ),
    ]
}

/// One row for each component and each way of taking it out.
///
/// # Errors
/// If the columns make no table.
pub(super) fn table(name: &str, title: &str, rows: &[&Effect]) -> Result<Table, AnalysisError> {
    let values: Vec<Bootstrap> = rows.iter().map(|row| row.loss).collect();
    let mut columns = keys(rows);
    let nats = "nats per token";
    columns.extend(bootstrap_columns("loss", nats, "rise of the loss without it", &values));
    columns.push(Column::null("loss", nats, "a component that does nothing", vec![0.0; rows.len()]));
    let p = rows.iter().map(|row| row.p_value).collect();
    columns.push(Column::p_value("loss", "of no change, two-sided, t over documents", p));
    let method = "Heads and neurons have their part of the value exchanged, experts their answers before the weight. `renormalised` gives an expert no weight \
                  and scales the others of its tokens up to the sum that they had with it. Does not show what the component does.";
    Ok(Table::new(name, title, method, columns)?)
}

/// Whether two ways of taking components out put them in the same order.
///
/// # Errors
/// If the columns make no table.
pub(super) fn agreement(found: &Effects, resampling: Resampling) -> Result<Option<Table>, AnalysisError> {
    let mut rows: Vec<(&'static str, &'static str, Bootstrap, usize)> = Vec::new();
    for (place, first) in How::ALL.iter().enumerate() {
        for second in &How::ALL[place + 1..] {
            let pairs = pairs(found, *first, *second);
            if pairs.len() > 3 {
                rows.push((
                    first.name(),
                    second.name(),
                    correlation(found, &pairs, resampling)?,
                    pairs.len(),
                ));
            }
        }
    }
    if rows.is_empty() {
        return Ok(None);
    }
    let text = |of: fn(&(&'static str, &'static str, Bootstrap, usize)) -> &'static str| {
        rows.iter().map(|row| of(row).to_owned()).collect::<Vec<String>>()
    };
    let mut columns = vec![
        Column::key("how", "one way", text(|row| row.0)),
        Column::key("other", "another way", text(|row| row.1)),
    ];
    let values: Vec<Bootstrap> = rows.iter().map(|row| row.2).collect();
    let meaning = "Spearman's, of the rises of the loss over components";
    columns.extend(bootstrap_columns("correlation", "rank correlation", meaning, &values));
    columns.push(Column::null(
        "correlation",
        "rank correlation",
        "ways that agree in nothing",
        vec![0.0; rows.len()],
    ));
    columns.push(Column::count(
        "components",
        "",
        "that are taken out both ways",
        rows.iter().map(|r| r.3 as i64).collect(),
    ));
    let method = "Components of all kinds together; intervals resample documents. Components that differ much in size agree for that reason alone.";
    Ok(Some(Table::new(
        "ablation_agreement",
        "Whether ways of taking components out agree",
        method,
        columns,
    )?))
}

/// Effects of the components that are taken out in both ways; experts alone are renormalised.
fn pairs(found: &Effects, first: How, second: How) -> Vec<(&Effect, &Effect)> {
    let of = |how: How| found.all.iter().filter(move |effect| effect.how == how);
    of(first)
        .filter_map(|one| Some((one, of(second).find(|other| other.component == one.component)?)))
        .collect()
}

/// Rank correlation over components, with an interval over documents: rises are summed anew over each draw of these, components are as they are.
///
/// Documents are drawn and not components, because the components of one model are all that it has.
fn correlation(
    found: &Effects,
    pairs: &[(&Effect, &Effect)],
    resampling: Resampling,
) -> Result<Bootstrap, AnalysisError> {
    let of = |drawn: &[usize]| {
        let tokens: f64 = drawn.iter().map(|document| found.tokens[*document]).sum();
        let rise =
            |effect: &Effect| drawn.iter().map(|document| effect.rises[*document]).sum::<f64>() / tokens;
        let (first, second): (Vec<f64>, Vec<f64>) = pairs.iter().map(|(a, b)| (rise(a), rise(b))).unzip();
        // Components that all do nothing have no order.
        spearman(&first, &second).map_or(0.0, |found| found.coefficient)
    };
    bootstrap(found.tokens.len(), of, resampling)
}

/// The components without which the loss rises most when they are zero, each in all ways.
pub(super) fn largest(found: &Effects) -> Vec<&Effect> {
    let mut zero: Vec<&Effect> = found.all.iter().filter(|effect| effect.how == How::Zero).collect();
    zero.sort_by(|a, b| b.loss.estimate.total_cmp(&a.loss.estimate).then(a.component.cmp(&b.component)));
    zero.truncate(DRAWN);
    let of = |one: &&Effect| {
        let component = one.component;
        found.all.iter().filter(move |effect| effect.component == component).collect::<Vec<&Effect>>()
    };
    zero.iter().flat_map(of).collect()
}

/// What is lost without the components that matter most.
pub(super) fn figure(found: &Effects) -> Figure {
    let zero: Vec<&Effect> = found.all.iter().filter(|effect| effect.how == How::Zero).collect();
    let p = holm(&zero.iter().map(|effect| effect.p_value).collect::<Vec<f64>>());
    let needed = zero.iter().zip(&p).filter(|(effect, p)| **p <= 0.05 && effect.loss.estimate > 0.0);
    let most = needed.clone().max_by(|a, b| a.0.loss.estimate.total_cmp(&b.0.loss.estimate));
    let example = most.map_or_else(String::new, |(effect, _)| {
        let Bootstrap { estimate, low, high, .. } = effect.loss;
        format!("; most without {}, by {estimate:.3} ({low:.3} to {high:.3}) nats", effect.component)
    });
    let kinds = ["head", "attention", "feed-forward", "expert", "neuron"].map(|kind| {
        let of = |effect: &&&Effect| effect.component.kind() == kind;
        let (all, some) =
            (zero.iter().filter(of).count(), needed.clone().filter(|(effect, _)| of(effect)).count());
        (all > 0).then(|| {
            let layers = matches!(kind, "attention" | "feed-forward");
            format!("{some} of {all} {kind}{}", if layers { " layers" } else { "s" })
        })
    });
    let kinds: Vec<String> = kinds.into_iter().flatten().collect();
    let kinds: Vec<&str> = kinds.iter().map(String::as_str).collect();
    Figure {
        id: "ablation".into(),
        title: format!("The loss rises without {}{example}", crate::wording::listed(&kinds)),
        caption: format!(
            "Rise of the loss without each of the {} components that cost most as zeros, with 95 % intervals over documents; the title counts by Holm at 5 %.",
            DRAWN.min(zero.len())
        ),
        table: "ablation_largest".into(),
        kind: FigureKind::Bars { x: "component".into(), y: "loss".into(), series: Some("how".into()) },
    }
}

/// Whether it matters how components are taken out.
pub(super) fn agreement_figure(table: &Table) -> Figure {
    let number =
        |row: usize| table.column("correlation").and_then(|c| c.data.number(row)).unwrap_or(f64::NAN);
    let values: Vec<f64> = (0..table.rows()).map(number).collect();
    let least = values.iter().copied().fold(f64::INFINITY, f64::min);
    let most = values.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    Figure {
        id: "ablation_agreement".into(),
        title: format!("Ways of taking a component out rank components with correlations from {least:.2} to {most:.2}"),
        caption: "Spearman's correlation of the rises of the loss, with 95 % intervals over documents. 1 is the same order.".into(),
        table: table.name().into(),
        kind: FigureKind::Bars { x: "how".into(), y: "correlation".into(), series: Some("other".into()) },
    }
}
