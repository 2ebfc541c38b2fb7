//! Tables and picture of how experts diverge from their layer over clusters of the tokens that they get, and of those that they promote.

use moescope_base::{Column, Figure, FigureKind, Table};

use super::{LayerDivergence, Side};
use crate::AnalysisError;
use crate::routing::{NullComparison, comparison_columns};
use crate::wording::counted;

/// Name of a list of clusters.
fn clusters(found: &LayerDivergence) -> String {
    format!("{} by {}", found.clusters, found.by)
}

/// One row for each side, list of clusters and layer.
///
/// # Errors
/// If the columns make no table.
pub fn divergence_table(found: &[LayerDivergence]) -> Result<Table, AnalysisError> {
    let real = |of: &dyn Fn(&LayerDivergence) -> f64| found.iter().map(of).collect::<Vec<f64>>();
    let comparisons: Vec<NullComparison> = found.iter().map(|layer| layer.divergence).collect();
    let mut columns = vec![
        Column::key(
            "side",
            "input: tokens that an expert gets; output: tokens that its answers promote",
            found.iter().map(|layer| layer.side.name().to_owned()).collect(),
        ),
        Column::key(
            "clusters",
            "of token ids, and what they are made by",
            found.iter().map(clusters).collect(),
        ),
        Column::integer_key("layer", "", "block", found.iter().map(|layer| layer.layer as i64).collect()),
    ];
    let meaning = "Jensen-Shannon divergence of an expert's tokens, or of those it promotes, from its layer's, mean weighted by slots";
    let null = "routes of documents beside the tokens or answers of other documents";
    columns.extend(comparison_columns("divergence", "bits", meaning, null, &comparisons));
    let tokens = found.iter().map(|layer| layer.tokens as i64).collect();
    columns.push(Column::observations("divergence", "tokens", tokens));
    columns.push(Column::estimate(
        "multinomial",
        "bits",
        "as many slots of each expert drawn from the layer",
        real(&|layer| layer.multinomial),
    ));
    columns.push(Column::estimate(
        "beyond",
        "bits",
        "divergence minus that of as many slots drawn",
        real(&|layer| layer.beyond[0]),
    ));
    let level = "95 %, jackknife over documents, absent where they are fewer than four";
    let ends = [1, 2].map(|end| real(&|layer: &LayerDivergence| layer.beyond[end]));
    let [low, high] = ends;
    columns.extend(Column::interval("beyond", "bits", level, low, high));
    columns.push(Column::null("beyond", "bits", "slots drawn from the layer", vec![0.0; found.len()]));
    let documents = found.iter().map(|layer| layer.documents as i64).collect();
    columns.push(Column::observations("beyond", "documents", documents));
    let method = "Input: token ids clustered by embedding where the model shows it. Output: the three tokens that final norm and unembedding read \
                  from each answer first, clustered by unembedding; as many answers are drawn whole for `multinomial`. Shares of clusters among \
                  an expert's slots are held against those of the layer. Slots of a document are not independent, so the test exchanges \
                  documents. Does not show that experts compute otherwise: who gets other tokens answers otherwise.";
    let title = "How experts differ in the tokens they get and promote";
    Ok(Table::new("specialisation_divergence", title, method, columns)?)
}

/// One row for each side, list of clusters, layer and expert.
///
/// # Errors
/// If the columns make no table.
pub fn expert_divergence_table(found: &[LayerDivergence]) -> Result<Table, AnalysisError> {
    let rows = || found.iter().flat_map(|layer| layer.experts.iter().map(move |expert| (layer, expert)));
    let columns = vec![
        Column::key(
            "side",
            "input: tokens that it gets; output: tokens that its answers promote",
            rows().map(|row| row.0.side.name().to_owned()).collect(),
        ),
        Column::key(
            "clusters",
            "of token ids, and what they are made by",
            rows().map(|row| clusters(row.0)).collect(),
        ),
        Column::integer_key("layer", "", "block", rows().map(|row| row.0.layer as i64).collect()),
        Column::integer_key("expert", "", "expert", rows().map(|row| row.1.expert as i64).collect()),
        Column::estimate(
            "divergence",
            "bits",
            "Jensen-Shannon divergence of its tokens, or of those it promotes, from its layer's",
            rows().map(|row| row.1.divergence).collect(),
        ),
        Column::null(
            "divergence",
            "bits",
            "as many slots drawn from the layer",
            rows().map(|row| row.1.multinomial).collect(),
        ),
        Column::observations("divergence", "slots", rows().map(|row| row.1.slots as i64).collect()),
    ];
    let method = "As in specialisation_divergence, expert by expert. No test: the null takes slots for independent, which those of a document \
                  are not.";
    Ok(Table::new("specialisation_divergence_by_expert", "Divergence of each expert", method, columns)?)
}

/// The divergence beyond counting of each layer, for the finest clusters of each side told in the title.
pub fn divergence_figure(found: &[LayerDivergence]) -> Option<Figure> {
    let input = Told::of(found, Side::Input)?;
    let output = Told::of(found, Side::Output).map_or_else(String::new, |output| {
        format!("; what it promotes, over {} by {}: {}", output.clusters, output.by, output.words)
    });
    Some(Figure {
        id: "specialisation_divergence".into(),
        title: format!(
            "Over {} clusters of tokens by {}, an expert diverges from its layer by {}{output}",
            input.clusters, input.by, input.words
        ),
        caption: "Mean over experts of the Jensen–Shannon divergence between the clusters of their tokens, or of those that their answers \
                  promote (by unembedding), and those of the layer's, minus that of as many slots drawn from the layer, with 95 % jackknife \
                  intervals over documents."
            .into(),
        table: "specialisation_divergence".into(),
        kind: FigureKind::Bars { x: "layer".into(), y: "beyond".into(), series: Some("clusters".into()) },
    })
}

/// What the finest clusters of one side say.
struct Told {
    clusters: usize,
    by: &'static str,
    words: String,
}

impl Told {
    fn of(found: &[LayerDivergence], side: Side) -> Option<Told> {
        let own = || found.iter().filter(|layer| layer.side == side);
        let clusters = own().map(|layer| layer.clusters).max()?;
        let shown: Vec<&LayerDivergence> = own().filter(|layer| layer.clusters == clusters).collect();
        let beyond = || shown.iter().map(|layer| layer.beyond[0]);
        let (low, high) =
            (beyond().fold(f64::INFINITY, f64::min), beyond().fold(f64::NEG_INFINITY, f64::max));
        let words = format!("{} bits beyond chance, {}", range(low, high), tested(&shown));
        Some(Told { clusters, by: shown[0].by, words })
    }
}

/// In how many layers the divergence is more than documents bring along.
fn tested(shown: &[&LayerDivergence]) -> String {
    // A null that never varies, as with two documents, or has few draws can call nothing.
    let tested = |layer: &&&LayerDivergence| {
        let null = layer.divergence;
        null.permutations >= 19 && null.null_high - null.null_low > 1e-12
    };
    match shown.iter().filter(tested).count() {
        0 => "too few documents or permutations to test it".to_owned(),
        _ => {
            let called = shown.iter().filter(|layer| layer.divergence.p_value <= 0.05).count();
            format!(
                "told from exchanged documents in {called} of {} (p ≤ 0.05 in each)",
                counted(shown.len(), "layer", "layers")
            )
        }
    }
}

/// Two numbers as a range, or as one where they look alike.
fn range(low: f64, high: f64) -> String {
    let [low, high] = [low, high].map(|bits| format!("{bits:.3}"));
    if low == high { low } else { format!("{low} to {high}") }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::routing::{Permutations, planted};
    use crate::specialisation::{cluster_divergence, clusters_by_frequency};
    use moescope_base::Seed;

    fn found(documents: usize, draws: usize) -> Vec<LayerDivergence> {
        let text = planted::text(documents, 40, 40, &mut Seed(2).rng());
        let clusters = clusters_by_frequency(&text.ids).remove(0);
        let reads = clusters.of.iter().map(|cluster| cluster % 4).collect();
        let trace = planted::trace(text, 4, 1, vec![reads]);
        cluster_divergence(&trace, &clusters, Permutations::new(draws, Seed(1))).unwrap()
    }

    #[test]
    fn tables_have_null_interval_and_numbers_and_the_title_says_what_was_tested() {
        let many = found(16, 39);
        let (table, experts) = (divergence_table(&many).unwrap(), expert_divergence_table(&many).unwrap());
        assert_eq!((table.rows(), experts.rows()), (1, 4));
        for column in ["divergence_null", "divergence_p", "beyond_low", "beyond_n", "multinomial"] {
            assert!(table.column(column).is_some(), "{column}");
        }
        let title = divergence_figure(&many).unwrap().title;
        assert!(title.contains("in 1 of 1 layer (p") && !title.contains("promotes"), "{title}");
        let both: Vec<LayerDivergence> = many
            .iter()
            .cloned()
            .chain(many.iter().map(|layer| LayerDivergence {
                side: Side::Output,
                by: "unembedding",
                ..layer.clone()
            }))
            .collect();
        let title = divergence_figure(&both).unwrap().title;
        assert!(title.contains("; what it promotes, over 10 by unembedding: "), "{title}");
        assert_eq!(divergence_table(&both).unwrap().column("side").unwrap().data.label(1), "output");
        let title = divergence_figure(&found(16, 3)).unwrap().title;
        assert!(title.contains("too few documents or permutations"), "{title}");
        assert!(divergence_figure(&[]).is_none());
    }
}
