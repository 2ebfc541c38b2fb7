//! A few passages of the text, each token with the expert that it chose first.

use moescope_base::{Column, Figure, FigureKind, Seed, Table};
use moescope_trace::{LayerRouting, RoutingTrace, TokenTable};
use rand::seq::IndexedRandom;

use crate::AnalysisError;

/// Tokens of a passage, where windows are so long.
const LENGTH: usize = 56;
/// Tokens of a passage, at least: fewer are no text.
const SHORTEST: usize = 8;
/// Domains that are shown.
const DOMAINS: usize = 5;

/// Passages with the first choices of one layer.
#[derive(Clone, Debug, PartialEq)]
pub struct Passages {
    /// Block.
    pub layer: usize,
    /// In the order of the domains.
    pub rows: Vec<PassageToken>,
    /// Mean number of neighbouring tokens with the same first expert, over the passages shown.
    pub run: f64,
    /// The same for tokens that choose by load alone.
    pub run_by_load: f64,
}

/// One token of a passage.
#[derive(Clone, Debug, PartialEq)]
pub struct PassageToken {
    /// Domain and document.
    pub passage: String,
    /// Position in the window.
    pub position: u32,
    /// The token's text.
    pub text: String,
    /// First choice.
    pub expert: u32,
    /// Its weight as applied.
    pub weight: f32,
}

/// One passage of each of at most five domains, drawn at random. A passage has 56 tokens, or those of a window if that is shorter; none where no
/// document has so many.
///
/// `words[id]` is the text of a token; where it is not known, its number stands for it.
///
/// - **Does not show:** what the layer does elsewhere: these are a few tokens among many, picked by chance.
pub fn passages(trace: &RoutingTrace, layer: usize, words: &[String], seed: Seed) -> Option<Passages> {
    let routing = trace.layers().iter().find(|routing| routing.layer == layer)?;
    let tokens = trace.tokens();
    let length = LENGTH.min(tokens.positions.iter().max().map_or(0, |last| *last as usize + 1));
    if length < SHORTEST {
        return None;
    }
    let starts = starts(tokens, length);
    let mut rows = Vec::new();
    let (mut runs, mut shown) = (0, 0);
    for domain in 0..tokens.domain_names.len() {
        let of_domain: Vec<usize> =
            starts.iter().copied().filter(|start| usize::from(tokens.domains[*start]) == domain).collect();
        let Some(&start) = of_domain.choose(&mut seed.index(domain as u64).rng()) else { continue };
        if shown == DOMAINS * length {
            break;
        }
        let passage = (start..start + length).map(|token| row(tokens, routing, words, token));
        rows.extend(passage);
        let first = |token: usize| routing.choices[token * routing.per_token];
        runs += 1 + (start + 1..start + length).filter(|token| first(*token) != first(token - 1)).count();
        shown += length;
    }
    (!rows.is_empty()).then(|| Passages {
        layer,
        rows,
        run: shown as f64 / runs as f64,
        run_by_load: 1.0 / (1.0 - repeats(routing)).max(1.0 / length as f64),
    })
}

/// Tokens from which on a passage lies in one window of one document.
fn starts(tokens: &TokenTable, length: usize) -> Vec<usize> {
    let together = |start: usize| {
        let end = start + length - 1;
        tokens.documents[start] == tokens.documents[end]
            && tokens.positions[end].checked_sub(tokens.positions[start]) == Some(length as u32 - 1)
    };
    // Not at every token, so that long documents do not crowd out short ones by much.
    (0..(tokens.len() + 1).saturating_sub(length)).step_by(8).filter(|start| together(*start)).collect()
}

fn row(tokens: &TokenTable, routing: &LayerRouting, words: &[String], token: usize) -> PassageToken {
    let (id, slot) = (tokens.ids[token], token * routing.per_token);
    let domain = &tokens.domain_names[usize::from(tokens.domains[token])];
    PassageToken {
        passage: format!("{domain}, document {}", tokens.documents[token]),
        position: tokens.positions[token],
        text: words.get(id as usize).cloned().unwrap_or_else(|| format!(" #{id}")),
        expert: routing.choices[slot],
        weight: routing.weights[slot],
    }
}

/// Probability that two tokens drawn at random have the same first choice.
fn repeats(routing: &LayerRouting) -> f64 {
    let mut counts = vec![0u32; routing.experts];
    routing.choices.iter().step_by(routing.per_token).for_each(|expert| counts[*expert as usize] += 1);
    let tokens = (routing.choices.len() / routing.per_token) as f64;
    counts.iter().map(|count| (f64::from(*count) / tokens).powi(2)).sum()
}

impl Passages {
    /// One row for each token.
    ///
    /// # Errors
    /// If the columns make no table.
    pub fn table(&self) -> Result<Table, AnalysisError> {
        let rows = &self.rows;
        let columns = vec![
            Column::key("passage", "where", rows.iter().map(|row| row.passage.clone()).collect()),
            Column::integer_key(
                "position",
                "",
                "in the window",
                rows.iter().map(|row| i64::from(row.position)).collect(),
            ),
            Column::key("token", "text", rows.iter().map(|row| row.text.clone()).collect()),
            Column::integer_key(
                "expert",
                "",
                "first choice",
                rows.iter().map(|r| i64::from(r.expert)).collect(),
            ),
            Column::estimate(
                "weight",
                "as applied",
                "weight of the first choice",
                rows.iter().map(|row| f64::from(row.weight)).collect(),
            ),
        ];
        let method = "One passage for each of at most five domains, drawn at random by the seed.";
        let title = format!("Some text and the first choices of layer {}", self.layer);
        Ok(Table::new("routing_passages", &title, method, columns)?)
    }

    /// The text, coloured by expert.
    pub fn figure(&self) -> Figure {
        let title = format!(
            "In these passages layer {} keeps its first expert for {:.1} tokens on average; by load alone it would for {:.1}",
            self.layer, self.run, self.run_by_load
        );
        let caption = "The colour is that of the first choice; its number stands small where it changes. Point at a token for the weight. The \
                       passages are drawn at random, one for each domain; they illustrate, and prove nothing."
            .to_owned();
        let kind = FigureKind::Passages {
            passage: "passage".into(),
            text: "token".into(),
            mark: "expert".into(),
            value: "weight".into(),
        };
        Figure { id: "passages".into(), title, caption, table: "routing_passages".into(), kind }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::routing::planted;

    fn trace(length: usize, route: impl Fn(usize) -> u32) -> RoutingTrace {
        let text = planted::text(4, length, 9, &mut Seed(1).rng());
        let route = (0..text.len()).map(route).collect();
        planted::trace(text, 3, 1, vec![route])
    }

    #[test]
    fn every_domain_has_a_passage_from_one_document() {
        let trace = trace(90, |token| (token / 4 % 3) as u32);
        let words: Vec<String> = (0..9).map(|id| format!(" w{id}")).collect();
        let found = passages(&trace, 0, &words, Seed(1)).unwrap();
        assert_eq!(found.rows.len(), 2 * LENGTH);
        for passage in found.rows.chunks(LENGTH) {
            assert!(passage.iter().all(|row| row.passage == passage[0].passage));
            assert!(passage.windows(2).all(|pair| pair[1].position == pair[0].position + 1));
        }
        // Runs of four, of which the passage may cut the first and the last.
        assert!((3.7..=4.0).contains(&found.run), "{}", found.run);
        assert!((found.run_by_load - 1.5).abs() < 0.05, "{}", found.run_by_load);
        assert!(found.rows.iter().all(|row| row.text.starts_with(" w")));
        assert_eq!(found, passages(&trace, 0, &words, Seed(1)).unwrap());
        assert_ne!(found, passages(&trace, 0, &words, Seed(2)).unwrap());
    }

    #[test]
    fn short_documents_and_absent_layers_have_none() {
        assert!(passages(&trace(SHORTEST - 1, |_| 0), 0, &[], Seed(1)).is_none());
        assert_eq!(passages(&trace(16, |_| 0), 0, &[], Seed(1)).unwrap().rows.len(), 2 * 16);
        assert!(passages(&trace(90, |_| 0), 3, &[], Seed(1)).is_none());
        let unknown = passages(&trace(90, |_| 0), 0, &[], Seed(1)).unwrap();
        assert!(unknown.rows[0].text.starts_with(" #") && unknown.run == LENGTH as f64);
        assert_eq!(unknown.table().unwrap().rows(), 2 * LENGTH);
    }
}
