use moescope_base::{Column, Table};

use super::Probe;
use crate::AnalysisError;
use crate::tabulate::{bootstrap_columns, labels};

/// One row for each probe.
///
/// # Errors
/// If the columns make no table.
pub fn table(name: &str, title: &str, probes: &[(String, Probe)]) -> Result<Table, AnalysisError> {
    let of = |pick: fn(&Probe) -> f64| probes.iter().map(|(_, p)| pick(p)).collect::<Vec<f64>>();
    let accuracies: Vec<_> = probes.iter().map(|(_, p)| p.accuracy).collect();
    let selectivities: Vec<_> = probes.iter().map(|(_, p)| p.selectivity).collect();
    let (share, nats) = ("share", "nats");
    let mut columns = vec![Column::key("probe", "what is read from where", labels(probes))];
    columns.extend(bootstrap_columns(
        "accuracy",
        share,
        "tokens of held-out documents read rightly",
        &accuracies,
    ));
    columns.push(Column::null("accuracy", share, "most frequent class of these tokens", of(|p| p.majority)));
    columns.push(Column::estimate(
        "control",
        share,
        "accuracy on a random label per token type",
        of(|p| p.control),
    ));
    columns.extend(bootstrap_columns("selectivity", share, "accuracy − control", &selectivities));
    columns.push(Column::null("selectivity", share, "no better than random labels of types", of(|_| 0.0)));
    let likelihood = of(|p| p.log_likelihood);
    columns.push(Column::estimate(
        "log_likelihood",
        nats,
        "mean log-probability of the true class",
        likelihood,
    ));
    columns.push(Column::null(
        "log_likelihood",
        nats,
        "frequencies of the classes among these tokens",
        of(|p| p.log_likelihood_null),
    ));
    let method = "Multinomial logistic regression with a ridge penalty on standardised features; folds share no document.";
    Ok(Table::new(name, title, method, columns)?)
}
