use rand_chacha::ChaCha8Rng;

use super::Labels;
use crate::AnalysisError;
use crate::along::Along;
use crate::grouped::grouped;
use crate::shuffled::shuffle;

/// What may be exchanged when there is nothing to find.
#[derive(Clone, Copy, Debug)]
pub enum Exchange<'a> {
    /// Whole routes of any two tokens that agree in what is given. Keeps the load of each expert and which experts go
    /// together. Too liberal where tokens are not independent: labels that whole documents share, or that come in stretches as routes do.
    Tokens,
    /// Labels of whole documents: `documents[token]`. Keeps every route where it is. For labels, such as the domain,
    /// that all tokens of a document share.
    Documents(&'a [u32]),
    /// Routes moved along each document by a random number of tokens, its end coming round to its beginning: `documents[token]`. Keeps the load of
    /// each expert, which experts go together, what a document speaks of and stretches of neighbours that are alike. For labels that
    /// change from token to token, where nothing is given.
    Along(&'a [u32]),
}

/// Tokens in cells, of one condition and one label each.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Cells {
    /// Cell of each token.
    pub(super) of: Vec<u32>,
    /// Cells, some of which may be empty.
    pub(super) count: usize,
}

impl Cells {
    /// Tokens in each cell.
    pub(super) fn sizes(&self) -> Vec<u32> {
        let mut sizes = vec![0; self.count];
        self.of.iter().for_each(|cell| sizes[*cell as usize] += 1);
        sizes
    }
}

/// The cells of a text, and how to draw them anew under the null.
#[derive(Clone, Debug)]
pub(super) struct Regrouping {
    /// By condition and label, as they are.
    pub(super) start: Cells,
    /// By condition alone, which no draw changes.
    pub(super) conditions: Cells,
    /// Cells that a draw may have, at most.
    pub(super) most_cells: usize,
    how: How,
}

/// What a draw does.
#[derive(Clone, Debug)]
enum How {
    Shuffle(Segments),
    Relabel(DocumentLabels, Segments),
    Move(Along),
}

/// Tokens of each condition.
#[derive(Clone, Debug)]
struct Segments {
    order: Vec<u32>,
    /// End of each segment in `order`.
    ends: Vec<u32>,
}

#[derive(Clone, Debug)]
struct DocumentLabels {
    /// Document of each token, dense.
    document: Vec<u32>,
    /// Label of each document.
    label: Vec<u32>,
    /// Labels.
    values: usize,
}

/// What draws need and need not make anew.
#[derive(Clone, Debug)]
pub(super) struct Draw {
    pub(super) cells: Cells,
    tokens: Vec<u32>,
}

impl Regrouping {
    pub(super) fn new(
        labels: &Labels,
        given: Option<&Labels>,
        exchange: Exchange<'_>,
    ) -> Result<Regrouping, AnalysisError> {
        let tokens = labels.codes().len();
        let conditions = match given {
            Some(given) => Cells { of: given.codes().to_vec(), count: given.values() },
            None => Cells { of: vec![0; tokens], count: 1 },
        };
        let within = conditions.count.saturating_mul(labels.values()).min(tokens);
        let how = match exchange {
            Exchange::Tokens => How::Shuffle(Segments::new(&conditions, Some(labels.codes()))),
            Exchange::Documents(documents) => {
                How::Relabel(DocumentLabels::new(labels, documents)?, Segments::new(&conditions, None))
            }
            Exchange::Along(documents) => {
                check_along(labels, given, documents)?;
                How::Move(Along::new(documents))
            }
        };
        let start = Segments::new(&conditions, None).split(|token| labels.codes()[token], labels.values());
        let most_cells = match how {
            How::Relabel(..) => within,
            How::Shuffle(_) | How::Move(_) => start.count,
        };
        Ok(Regrouping { start, conditions, most_cells, how })
    }

    /// Room for draws.
    pub(super) fn room(&self) -> Draw {
        Draw { cells: self.start.clone(), tokens: vec![0; self.start.of.len()] }
    }

    /// Makes one draw of the null.
    pub(super) fn draw(&self, draw: &mut Draw, rng: &mut ChaCha8Rng) {
        let Draw { cells, tokens } = draw;
        match &self.how {
            How::Shuffle(segments) => {
                tokens.copy_from_slice(&segments.order);
                for_each_part(&segments.ends, |part| shuffle(&mut tokens[part], rng));
                let places = segments.order.iter().zip(&*tokens);
                places.for_each(|(from, to)| cells.of[*to as usize] = self.start.of[*from as usize]);
            }
            How::Relabel(documents, segments) => {
                let label = documents.draw(rng);
                let of_token = |token: usize| label[documents.document[token] as usize];
                segments.split_into(of_token, documents.values, cells);
            }
            // Each token then has the route of another.
            How::Move(along) => {
                along.draw_into(rng, tokens);
                let places = tokens.iter().zip(&self.start.of);
                places.for_each(|(from, cell)| cells.of[*from as usize] = *cell);
            }
        }
    }
}

impl Segments {
    /// Tokens by condition and, within it, by label where there is one, and in order.
    fn new(conditions: &Cells, labels: Option<&[u32]>) -> Segments {
        let tokens = 0..conditions.of.len() as u32;
        let condition = |token: u32| (conditions.of[token as usize] as usize, token);
        let (order, mut ends) = match labels {
            Some(labels) => {
                let values = labels.iter().max().map_or(0, |most| *most as usize + 1);
                let label = |token: u32| (labels[token as usize] as usize, token);
                let (by_label, _) = grouped(values, || tokens.clone().map(label));
                grouped(conditions.count, || by_label.iter().map(|token| condition(*token)))
            }
            None => grouped(conditions.count, || tokens.clone().map(condition)),
        };
        ends.dedup();
        Segments { order, ends }
    }

    /// Cells of one label in one segment.
    fn split(&self, label: impl Fn(usize) -> u32, labels: usize) -> Cells {
        let mut cells = Cells { of: vec![0; self.order.len()], count: 0 };
        self.split_into(label, labels, &mut cells);
        cells
    }

    /// The same into cells of as many tokens. Only cells with tokens get a number.
    fn split_into(&self, label: impl Fn(usize) -> u32, labels: usize, cells: &mut Cells) {
        let mut numbers = vec![u32::MAX; labels];
        let mut used = Vec::new();
        let mut count = 0;
        for_each_part(&self.ends, |part| {
            for token in &self.order[part] {
                let label = label(*token as usize);
                let number = &mut numbers[label as usize];
                if *number == u32::MAX {
                    *number = count;
                    count += 1;
                    used.push(label);
                }
                cells.of[*token as usize] = *number;
            }
            used.drain(..).for_each(|label| numbers[label as usize] = u32::MAX);
        });
        cells.count = count as usize;
    }
}

/// Tokens of a document differ in what is given, so moving them along would take them out of their condition.
fn check_along(labels: &Labels, given: Option<&Labels>, documents: &[u32]) -> Result<(), AnalysisError> {
    let (method, wanted) = ("moving routes along documents", labels.codes().len());
    if documents.len() != wanted {
        return Err(AnalysisError::Length { method, what: "documents", found: documents.len(), wanted });
    }
    match given {
        Some(given) => Err(AnalysisError::OutOfRange {
            method,
            what: "what is given",
            found: format!("`{}`", given.name()),
            wanted: "nothing; exchange tokens or documents instead".into(),
        }),
        None => Ok(()),
    }
}

impl DocumentLabels {
    fn new(labels: &Labels, documents: &[u32]) -> Result<DocumentLabels, AnalysisError> {
        let method = "exchange of documents";
        if documents.len() != labels.codes().len() {
            let (found, wanted) = (documents.len(), labels.codes().len());
            return Err(AnalysisError::Length { method, what: "documents", found, wanted });
        }
        let dense = Labels::new("document", documents);
        let mut label = vec![u32::MAX; dense.values()]; // [document]
        for (document, own) in dense.codes().iter().zip(labels.codes()) {
            let known = &mut label[*document as usize];
            if *known != u32::MAX && known != own {
                return Err(AnalysisError::OutOfRange {
                    method,
                    what: "label",
                    found: format!("`{}` differs within a document", labels.name()),
                    wanted: "one label for all tokens of a document; exchange tokens instead".into(),
                });
            }
            *known = *own;
        }
        Ok(DocumentLabels { document: dense.codes().to_vec(), label, values: labels.values() })
    }

    /// Labels of the documents, exchanged.
    fn draw(&self, rng: &mut ChaCha8Rng) -> Vec<u32> {
        let mut label = self.label.clone();
        shuffle(&mut label, rng);
        label
    }
}

/// Calls `visit` with the range of each part, given the ascending ends of all parts.
fn for_each_part(ends: &[u32], mut visit: impl FnMut(std::ops::Range<usize>)) {
    let mut start = 0;
    for end in ends {
        visit(start..*end as usize);
        start = *end as usize;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use moescope_base::Seed;

    #[test]
    fn a_cell_is_one_label_under_one_condition() {
        let given = Labels::new("given", &[0, 1, 0, 0]);
        let labels = Labels::new("x", &[1, 0, 1, 0]);
        let found = Regrouping::new(&labels, Some(&given), Exchange::Tokens).unwrap();
        assert_eq!(found.start, Cells { of: vec![0, 2, 0, 1], count: 3 });
        assert_eq!(found.conditions, Cells { of: vec![0, 1, 0, 0], count: 2 });
    }

    #[test]
    fn an_exchange_of_tokens_stays_within_its_condition() {
        let given = Labels::new("given", &[0, 0, 0, 1, 1]);
        let labels = Labels::new("x", &[0, 1, 1, 0, 1]);
        let regrouping = Regrouping::new(&labels, Some(&given), Exchange::Tokens).unwrap();
        let mut draw = regrouping.room();
        let mut seen = std::collections::BTreeSet::new();
        for seed in 0..40 {
            regrouping.draw(&mut draw, &mut Seed(seed).rng());
            let [mut first, mut second] = [draw.cells.of[..3].to_vec(), draw.cells.of[3..].to_vec()];
            seen.insert(draw.cells.of.clone());
            [&mut first, &mut second].into_iter().for_each(|cells| cells.sort_unstable());
            assert_eq!([first, second], [vec![0, 1, 1], vec![2, 3]]);
        }
        assert_eq!(seen.len(), 6, "every way to exchange is drawn");
    }

    #[test]
    fn routes_move_along_their_document() {
        let (labels, documents) = (Labels::new("x", &[0, 1, 2, 3, 4]), [7, 7, 7, 8, 8]);
        let regrouping = Regrouping::new(&labels, None, Exchange::Along(&documents)).unwrap();
        let mut draw = regrouping.room();
        for seed in 0..10 {
            regrouping.draw(&mut draw, &mut Seed(seed).rng());
            // Neighbours stay neighbours, the last one followed by the first.
            let cells = &draw.cells.of;
            assert_eq!([cells[1], cells[2]], [(cells[0] + 1) % 3, (cells[0] + 2) % 3]);
            assert_eq!(cells[3] + cells[4], 3 + 4);
        }
        let given = Some(&labels);
        assert!(Regrouping::new(&labels, given, Exchange::Along(&documents)).is_err());
        assert!(Regrouping::new(&labels, None, Exchange::Along(&documents[..3])).is_err());
    }

    #[test]
    fn documents_move_as_a_whole() {
        let (labels, documents) = (Labels::new("x", &[0, 0, 1, 1, 1]), [7, 7, 8, 8, 8]);
        let given = Labels::new("given", &[0, 1, 0, 1, 1]);
        for given in [None, Some(&given)] {
            let regrouping = Regrouping::new(&labels, given, Exchange::Documents(&documents)).unwrap();
            let mut draw = regrouping.room();
            for seed in 0..10 {
                regrouping.draw(&mut draw, &mut Seed(seed).rng());
                // Whichever label a document gets, cells have the same tokens, and numbers in the order of tokens.
                let wanted = if given.is_some() { [0, 2, 1, 3, 3] } else { [0, 0, 1, 1, 1] };
                assert_eq!(
                    (&draw.cells.of[..], draw.cells.count),
                    (&wanted[..], if given.is_some() { 4 } else { 2 })
                );
            }
        }
        let three = Labels::new("x", &[0, 1, 1]);
        let regrouping = Regrouping::new(&three, None, Exchange::Documents(&[1, 2, 3])).unwrap();
        let mut draw = regrouping.room();
        let together = (0..30).map(|seed| {
            regrouping.draw(&mut draw, &mut Seed(seed).rng());
            draw.cells.of.clone()
        });
        assert_eq!(together.collect::<std::collections::BTreeSet<_>>().len(), 3);
        let mixed = Labels::new("x", &[0, 1, 1, 1, 1]);
        assert!(Regrouping::new(&mixed, None, Exchange::Documents(&documents)).is_err());
    }
}
