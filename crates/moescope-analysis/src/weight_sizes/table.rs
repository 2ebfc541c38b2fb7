//! Tables of the sizes of experts.

use moescope_base::{Column, Projection, Table};

use super::{ExpertSizes, LayerSizes, MatrixSize, MatrixSummary, Relation, Usage};
use crate::AnalysisError;
use crate::routing::{NullComparison, comparison_columns};
use crate::statistics::holm;

/// Name of a matrix.
pub(super) fn name(projection: Projection) -> &'static str {
    match projection {
        Projection::Gate => "gate",
        Projection::Up => "up",
        Projection::Down => "down",
    }
}

const GAUSSIAN: &str = "Gaussian matrices of this shape and Frobenius norm";

/// One row for each layer and kind of matrix.
///
/// Null of the ranks are Gaussian matrices of the same shape and norm; of `lowest_rank` what chance reaches in less than 5 % of models; of
/// `spread` Gaussian matrices of one scale.
///
/// # Errors
/// If the columns make no table.
pub fn by_layer_table(layers: &[LayerSizes]) -> Result<Table, AnalysisError> {
    let rows: Vec<(&LayerSizes, &MatrixSummary)> =
        layers.iter().flat_map(|layer| layer.matrices.iter().map(move |matrix| (layer, matrix))).collect();
    let real = |of: fn(&LayerSizes, &MatrixSummary) -> f64| rows.iter().map(|row| of(row.0, row.1)).collect();
    let count = |of: fn(&LayerSizes, &MatrixSummary) -> usize| {
        rows.iter().map(|row| of(row.0, row.1) as i64).collect::<Vec<i64>>()
    };
    let spread: Vec<NullComparison> = rows.iter().map(|row| row.1.spread).collect();
    let mut columns = vec![
        Column::integer_key("layer", "", "block", count(|layer, _| layer.layer)),
        Column::key(
            "matrix",
            "gate, up or down",
            rows.iter().map(|row| name(row.1.projection).into()).collect(),
        ),
        Column::count("experts", "experts", "experts of the layer", count(|layer, _| layer.experts.len())),
        Column::estimate("frobenius", "weight", "mean Frobenius norm", real(|_, matrix| matrix.frobenius)),
    ];
    columns.extend(comparison_columns(
        "spread",
        "natural logarithm",
        "standard deviation over experts of the logarithm of the Frobenius norm",
        "Gaussian matrices of one scale",
        &spread,
    ));
    let p: Vec<f64> = spread.iter().map(|spread| spread.p_value).collect();
    columns.push(Column::estimate("spread_holm", "", "its p-value, corrected over all rows", holm(&p)));
    let expert = |of: fn(&MatrixSummary) -> usize| rows.iter().map(|row| of(row.1).to_string()).collect();
    columns.push(Column::text("largest", "expert with the largest norm", expert(|matrix| matrix.largest.0)));
    columns.extend([
        Column::estimate(
            "times_median",
            "times",
            "that norm over the median of the layer",
            real(|_, matrix| matrix.largest.1),
        ),
        Column::estimate(
            "effective_rank",
            "directions",
            "mean over experts",
            real(|_, matrix| matrix.effective_rank),
        ),
        Column::null(
            "effective_rank",
            "directions",
            GAUSSIAN,
            real(|layer, _| layer.gaussian.effective_rank),
        ),
        Column::observations("effective_rank_null", "Gaussian matrices", count(|layer, _| layer.random)),
        Column::estimate("stable_rank", "directions", "mean over experts", real(|_, m| m.stable_rank)),
        Column::null("stable_rank", "directions", GAUSSIAN, real(|layer, _| layer.gaussian.stable_rank)),
        Column::estimate(
            "lowest_rank",
            "directions",
            "lowest effective rank of an expert",
            real(|_, m| m.lowest.1),
        ),
        Column::null(
            "lowest_rank",
            "directions",
            "what one of all Gaussian matrices falls below in less than 5 % of models",
            real(|_, matrix| matrix.threshold),
        ),
    ]);
    columns.push(Column::text("lowest", "that expert", expert(|matrix| matrix.lowest.0)));
    columns.push(Column::count("below", "experts", "experts below that null", count(|_, m| m.below)));
    let method = "Singular values of each matrix of each expert; of wide experts those of 256 neurons, the same of all. No interval: weights are no \
                  sample. Does not show what directions are for, nor that small ones can be left out.";
    Ok(Table::new(
        "expert_weights",
        "How large experts are and how many directions they use",
        method,
        columns,
    )?)
}

/// One row for each layer, expert and matrix.
///
/// The null of the spectral norm is scaled by the share of the neurons that were looked at. Norm, load and answers are of the expert and stand
/// in each of its rows.
///
/// # Errors
/// If the columns make no table.
pub fn by_expert_table(layers: &[LayerSizes], usage: &[Usage]) -> Result<Table, AnalysisError> {
    let mut rows: Vec<Row<'_>> = Vec::new();
    for (layer, usage) in layers.iter().zip(usage) {
        let (load, answer) = (usage.load(&usage.all()), usage.answer(&usage.all()));
        for (expert, sizes) in layer.experts.iter().enumerate() {
            let (load, answer) = (load.get(expert), answer.get(expert));
            let used = [load, answer].map(|number| number.copied().unwrap_or(f64::NAN));
            let own = sizes.matrices.iter().map(|(projection, size)| (*projection, size));
            rows.extend(own.map(|(matrix, size)| Row { layer, expert, sizes, matrix, size, used }));
        }
    }
    let real = |of: fn(&Row<'_>) -> f64| rows.iter().map(of).collect::<Vec<f64>>();
    let columns = vec![
        Column::integer_key("layer", "", "block", rows.iter().map(|row| row.layer.layer as i64).collect()),
        Column::integer_key("expert", "", "expert", rows.iter().map(|row| row.expert as i64).collect()),
        Column::key("matrix", "gate, up or down", rows.iter().map(|row| name(row.matrix).into()).collect()),
        Column::estimate("frobenius", "weight", "Frobenius norm", real(|row| row.size.frobenius)),
        Column::estimate(
            "spectral",
            "weight",
            "largest singular value of the neurons that were looked at",
            real(|row| row.size.spectral),
        ),
        Column::null(
            "spectral",
            "weight",
            GAUSSIAN,
            real(|row| row.size.frobenius * row.layer.share.sqrt() * row.layer.gaussian.spectral),
        ),
        Column::estimate(
            "effective_rank",
            "directions",
            "exp of the entropy of the singular values",
            real(|row| row.size.effective_rank),
        ),
        Column::null("effective_rank", "directions", GAUSSIAN, real(|row| row.layer.gaussian.effective_rank)),
        Column::estimate(
            "stable_rank",
            "directions",
            "sum of the squared singular values over the largest square",
            real(|row| row.size.stable_rank),
        ),
        Column::null("stable_rank", "directions", GAUSSIAN, real(|row| row.layer.gaussian.stable_rank)),
        Column::estimate(
            "norm",
            "weight",
            "Frobenius norm of all matrices together",
            real(|row| row.sizes.norm),
        ),
        Column::estimate("load", "share of slots", "slots that choose the expert", real(|row| row.used[0])),
        Column::estimate(
            "answer",
            "activation",
            "mean length of its answers before their weight",
            real(|row| row.used[1]),
        ),
    ];
    let method = "As in expert_weights, expert by expert; load and answers are those of at most 64 sequences, and stand in each row of the expert.";
    Ok(Table::new("expert_weights_by_expert", "Size and rank of each expert", method, columns)?)
}

/// One matrix of one expert.
struct Row<'r> {
    layer: &'r LayerSizes,
    expert: usize,
    sizes: &'r ExpertSizes,
    matrix: Projection,
    size: &'r MatrixSize,
    /// Load and mean length of the answers.
    used: [f64; 2],
}

/// One row for each pair and layer.
///
/// # Errors
/// If the columns make no table.
pub fn relation_table(relations: &[Relation]) -> Result<Table, AnalysisError> {
    let text = |of: fn(&Relation) -> &'static str| relations.iter().map(|r| of(r).to_owned()).collect();
    let real = |of: fn(&Relation) -> f64| relations.iter().map(of).collect::<Vec<f64>>();
    let mut columns = vec![
        Column::key("first", "norm of the weights, or mean length of the answers", text(|r| r.first)),
        Column::key("second", "load, or mean length of the answers", text(|r| r.second)),
        Column::integer_key("layer", "", "block", relations.iter().map(|r| r.layer as i64).collect()),
        Column::estimate(
            "correlation",
            "",
            "Spearman's coefficient over experts",
            real(|r| r.correlation.observed),
        ),
    ];
    let level =
        "95 %, bootstrap over documents with the experts held, absent where documents are fewer than four";
    columns.extend(Column::interval(
        "correlation",
        "",
        level,
        real(|r| r.interval.low),
        real(|r| r.interval.high),
    ));
    columns.extend([
        Column::null(
            "correlation",
            "",
            "one of the two dealt out to other experts",
            real(|r| r.correlation.null_mean),
        ),
        Column::p_value("correlation", "two-sided, dealt-out experts", real(|r| r.correlation.p_value)),
        Column::observations("correlation", "experts", relations.iter().map(|r| r.experts as i64).collect()),
        Column::estimate("corrected", "", "the p-value corrected over layers (Holm)", real(|r| r.corrected)),
    ]);
    let method = "Experts that no token chooses are left out. Does not show which comes first, nor the answers of experts that were not chosen.";
    Ok(Table::new(
        "expert_weights_use",
        "Whether large experts answer more and are chosen more",
        method,
        columns,
    )?)
}
