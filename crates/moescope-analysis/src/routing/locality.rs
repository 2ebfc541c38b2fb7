use moescope_base::{Column, Table};
use moescope_trace::{LayerRouting, RoutingTrace, TokenTable};
use rand::seq::SliceRandom;

use super::{NullComparison, Permutations, Tail, comparison_columns, require_tokens};
use crate::AnalysisError;

/// How much of a token's set its successor keeps, in one layer.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct LayerLocality {
    /// Block.
    pub layer: usize,
    /// Mean of |S(t) ∩ S(t+1)| / k over pairs of neighbours, from 0 to 1; null: routes shuffled over the whole layer,
    /// which keeps loads and sets.
    pub overlap: NullComparison,
    /// The same overlap; null: routes shuffled within each document, which also keeps the topic of the document, so
    /// that only the order of tokens can make a difference.
    pub order_overlap: NullComparison,
    /// Share of neighbours whose first choice is the same, from 0 to 1; null: shuffled over the layer.
    pub first_choice: NullComparison,
}

/// Locality of every routed layer.
///
/// - **Does not show:** locality of the router beyond that of the text: neighbours are alike in token and topic.
/// - **Source:** repeated first choices of Mixtral (Jiang et al. 2024, table 5), with a null that keeps loads in place
///   of 1/n.
#[derive(Clone, Debug, PartialEq)]
pub struct LocalityReport {
    /// In the order of the trace.
    pub layers: Vec<LayerLocality>,
    /// Pairs of neighbours.
    pub pairs: usize,
}

/// Overlap between the routes of neighbouring tokens of a document.
///
/// # Errors
/// If no two tokens are neighbours in a document, or no permutation is asked for.
pub fn locality(trace: &RoutingTrace, permutations: Permutations) -> Result<LocalityReport, AnalysisError> {
    require_tokens("locality", trace.tokens().len())?;
    permutations.check("locality")?;
    let firsts = neighbours(trace.tokens());
    if firsts.is_empty() {
        let (method, unit) = ("locality", "pairs of neighbouring tokens");
        return Err(AnalysisError::TooFew { method, unit, found: 0, wanted: 1 });
    }
    let documents = runs(&trace.tokens().documents);
    let permutations = permutations.child("locality");
    let layers = trace.layers().iter().map(|l| of_layer(l, &firsts, &documents, permutations)).collect();
    Ok(LocalityReport { layers, pairs: firsts.len() })
}

/// Tokens whose successor in the table follows them in the same document.
fn neighbours(tokens: &TokenTable) -> Vec<u32> {
    let follows = |t: &usize| {
        tokens.documents[*t] == tokens.documents[t + 1]
            && tokens.positions[*t].checked_add(1) == Some(tokens.positions[t + 1])
    };
    (0..tokens.len() - 1).filter(follows).map(|t| t as u32).collect()
}

/// Tokens of each document.
fn runs(documents: &[u32]) -> Vec<Vec<u32>> {
    let mut order: Vec<u32> = (0..documents.len() as u32).collect();
    order.sort_unstable_by_key(|t| (documents[*t as usize], *t));
    order.chunk_by(|a, b| documents[*a as usize] == documents[*b as usize]).map(<[u32]>::to_vec).collect()
}

#[derive(Clone, Copy)]
struct Overlap {
    sets: f64,
    firsts: f64,
}

fn of_layer(
    routing: &LayerRouting,
    firsts: &[u32],
    documents: &[Vec<u32>],
    permutations: Permutations,
) -> LayerLocality {
    let identity: Vec<u32> = (0..(routing.choices.len() / routing.per_token) as u32).collect();
    let observed = overlap(routing, firsts, &identity);
    let by_layer = permutations.child("layer").draw(Vec::new, |order: &mut Vec<u32>, rng| {
        order.clone_from(&identity);
        order.shuffle(rng);
        overlap(routing, firsts, order)
    });
    let by_document = permutations.child("document").draw(
        || identity.clone(),
        |order, rng| {
            for document in documents {
                let mut from = document.clone();
                from.shuffle(rng);
                document.iter().zip(from).for_each(|(to, from)| order[*to as usize] = from);
            }
            overlap(routing, firsts, order).sets
        },
    );
    let (sets, first): (Vec<f64>, Vec<f64>) = by_layer.iter().map(|o| (o.sets, o.firsts)).unzip();
    LayerLocality {
        layer: routing.layer,
        overlap: NullComparison::new(observed.sets, &sets, Tail::Upper),
        order_overlap: NullComparison::new(observed.sets, &by_document, Tail::Upper),
        first_choice: NullComparison::new(observed.firsts, &first, Tail::Upper),
    }
}

/// Overlap of neighbours when the token at a place takes the routes of `order[place]`.
fn overlap(routing: &LayerRouting, firsts: &[u32], order: &[u32]) -> Overlap {
    let (mut shared, mut same_first) = (0u64, 0u64);
    for place in firsts {
        let here = routing.chosen(order[*place as usize] as usize);
        let next = routing.chosen(order[*place as usize + 1] as usize);
        shared += here.iter().filter(|e| next.contains(e)).count() as u64;
        same_first += u64::from(here[0] == next[0]);
    }
    let pairs = firsts.len() as f64;
    Overlap { sets: shared as f64 / (pairs * routing.per_token as f64), firsts: same_first as f64 / pairs }
}

impl LocalityReport {
    /// One row for each layer.
    ///
    /// # Errors
    /// If the columns make no table.
    pub fn table(&self) -> Result<Table, AnalysisError> {
        let each = |f: fn(&LayerLocality) -> NullComparison| -> Vec<NullComparison> {
            self.layers.iter().map(f).collect()
        };
        let mut columns = vec![Column::integer_key(
            "layer",
            "",
            "block",
            self.layers.iter().map(|l| l.layer as i64).collect(),
        )];
        let meaning = "share of a token's experts that the next token keeps";
        columns.extend(comparison_columns(
            "overlap",
            "share of experts",
            meaning,
            "routes shuffled over the layer, loads kept",
            &each(|l| l.overlap),
        ));
        columns.push(Column::observations("overlap", "pairs of neighbours", {
            vec![self.pairs as i64; self.layers.len()]
        }));
        columns.extend(comparison_columns(
            "order_overlap",
            "share of experts",
            meaning,
            "routes shuffled within documents",
            &each(|l| l.order_overlap),
        ));
        columns.extend(comparison_columns(
            "first_choice",
            "share of tokens",
            "next token has the same first choice",
            "routes shuffled over the layer, loads kept",
            &each(|l| l.first_choice),
        ));
        let method = "Neighbouring tokens of the same document. Does not show locality beyond that of the text itself.";
        Ok(Table::new("routing_locality", "How much of its route a token hands on", method, columns)?)
    }
}
