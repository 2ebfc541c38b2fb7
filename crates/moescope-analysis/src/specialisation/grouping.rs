use rand::seq::SliceRandom;
use rand_chacha::ChaCha8Rng;

use super::Labels;
use crate::AnalysisError;
use crate::along::Along;

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

/// Tokens sorted by condition (segments) and, within it, by label (groups).
#[derive(Clone, Debug)]
pub(super) struct Grouping {
    /// Tokens in groups.
    pub(super) order: Vec<u32>,
    /// End of each segment in `order`.
    pub(super) segments: Vec<u32>,
    /// End of each group in `order`; every segment ends with a group.
    pub(super) groups: Vec<u32>,
}

/// A grouping, and how to draw it anew under the null.
#[derive(Clone, Debug)]
pub(super) struct Regrouping {
    pub(super) start: Grouping,
    /// The tokens of each segment, ascending; only where labels are exchanged.
    ascending: Vec<u32>,
    /// Labels.
    values: usize,
    pub(super) how: How,
}

/// What a draw does.
#[derive(Clone, Debug)]
pub(super) enum How {
    Shuffle,
    Relabel(DocumentLabels),
    Move(Along),
}

#[derive(Clone, Debug)]
pub(super) struct DocumentLabels {
    /// Document of each token, dense.
    pub(super) document: Vec<u32>,
    /// Label of each document.
    label: Vec<u32>,
}

impl Grouping {
    fn new(labels: &[u32], given: Option<&[u32]>) -> Grouping {
        let condition = |token: u32| given.map_or(0, |g| g[token as usize]);
        let mut order: Vec<u32> = (0..labels.len() as u32).collect();
        order.sort_unstable_by_key(|t| (condition(*t), labels[*t as usize], *t));
        let mut grouping = Grouping { order, segments: Vec::new(), groups: Vec::new() };
        grouping.segments = ends(&grouping.order, condition);
        grouping.mark_groups(labels);
        grouping
    }

    /// Marks the ends of the groups of an order that is sorted by label within each segment.
    fn mark_groups(&mut self, labels: &[u32]) {
        self.groups.clear();
        let mut start = 0;
        for end in &self.segments {
            let segment = &self.order[start as usize..*end as usize];
            self.groups.extend(ends(segment, |t| labels[t as usize]).iter().map(|e| e + start));
            start = *end;
        }
    }

    fn shuffle_within_segments(&mut self, rng: &mut ChaCha8Rng) {
        for_each_part(&self.segments, |part| self.order[part].shuffle(rng));
    }

    /// Sorts each segment of `ascending`, in which the tokens of a segment ascend, by label. Labels are few, so that they are counted, not compared.
    fn sort_within_segments(&mut self, ascending: &[u32], labels: &[u32], values: usize) {
        let mut places = vec![0; values];
        for_each_part(&self.segments, |part| {
            let tokens = &ascending[part.clone()];
            places.fill(0);
            tokens.iter().for_each(|token| places[labels[*token as usize] as usize] += 1);
            let mut place = part.start;
            places.iter_mut().for_each(|own| (place, *own) = (place + *own, place));
            for token in tokens {
                let place = &mut places[labels[*token as usize] as usize];
                self.order[*place] = *token;
                *place += 1;
            }
        });
        self.mark_groups(labels);
    }
}

impl Regrouping {
    pub(super) fn new(
        labels: &Labels,
        given: Option<&Labels>,
        exchange: Exchange<'_>,
    ) -> Result<Regrouping, AnalysisError> {
        let how = match exchange {
            Exchange::Tokens => How::Shuffle,
            Exchange::Documents(documents) => How::Relabel(DocumentLabels::new(labels, documents)?),
            Exchange::Along(documents) => {
                check_along(labels, given, documents)?;
                How::Move(Along::new(documents))
            }
        };
        let start = Grouping::new(labels.codes(), given.map(Labels::codes));
        let mut ascending = Vec::new();
        if matches!(how, How::Relabel(_)) {
            ascending.clone_from(&start.order);
            for_each_part(&start.segments, |part| ascending[part].sort_unstable());
        }
        Ok(Regrouping { start, ascending, values: labels.values(), how })
    }

    /// Turns `grouping` into one draw of the null.
    pub(super) fn draw(&self, grouping: &mut Grouping, rng: &mut ChaCha8Rng) {
        grouping.order.copy_from_slice(&self.start.order);
        match &self.how {
            How::Shuffle => grouping.shuffle_within_segments(rng),
            How::Relabel(documents) => {
                let label = documents.draw(rng);
                let labels: Vec<u32> = documents.document.iter().map(|d| label[*d as usize]).collect();
                grouping.sort_within_segments(&self.ascending, &labels, self.values);
            }
            // Each place of a group then has the route of another token.
            How::Move(along) => {
                let from = along.draw(rng);
                grouping.order.iter_mut().for_each(|token| *token = from[*token as usize]);
            }
        }
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
        Ok(DocumentLabels { document: dense.codes().to_vec(), label })
    }

    /// Labels of the documents, exchanged.
    pub(super) fn draw(&self, rng: &mut ChaCha8Rng) -> Vec<u32> {
        let mut label = self.label.clone();
        label.shuffle(rng);
        label
    }
}

/// Calls `visit` with the range of each part, given the ascending ends of all parts.
pub(super) fn for_each_part(ends: &[u32], mut visit: impl FnMut(std::ops::Range<usize>)) {
    let mut start = 0;
    for end in ends {
        visit(start..*end as usize);
        start = *end as usize;
    }
}

/// Ends of the runs of equal keys.
fn ends(order: &[u32], key: impl Fn(u32) -> u32) -> Vec<u32> {
    let is_end = |i: &usize| *i == order.len() || key(order[*i - 1]) != key(order[*i]);
    (1..=order.len()).filter(is_end).map(|i| i as u32).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use moescope_base::Seed;

    #[test]
    fn tokens_are_grouped_by_condition_and_label() {
        let grouping = Grouping::new(&[1, 0, 1, 0], Some(&[0, 1, 0, 0]));
        assert_eq!(grouping.order, [3, 0, 2, 1]);
        assert_eq!((grouping.segments, grouping.groups), (vec![3, 4], vec![1, 3, 4]));
    }

    #[test]
    fn an_exchange_of_tokens_stays_within_its_condition() {
        let given = Labels::new("given", &[0, 0, 0, 1, 1]);
        let regrouping =
            Regrouping::new(&Labels::new("x", &[0, 1, 1, 0, 1]), Some(&given), Exchange::Tokens).unwrap();
        let mut grouping = regrouping.start.clone();
        regrouping.draw(&mut grouping, &mut Seed(1).rng());
        let mut first = grouping.order[..3].to_vec();
        first.sort_unstable();
        assert_eq!(first, [0, 1, 2]);
        assert_eq!(grouping.groups, regrouping.start.groups);
    }

    #[test]
    fn routes_move_along_their_document() {
        let (labels, documents) = (Labels::new("x", &[0, 1, 1, 0, 1]), [7, 7, 7, 8, 8]);
        let regrouping = Regrouping::new(&labels, None, Exchange::Along(&documents)).unwrap();
        let mut grouping = regrouping.start.clone();
        assert_eq!(grouping.order, [0, 3, 1, 2, 4]);
        for seed in 0..10 {
            regrouping.draw(&mut grouping, &mut Seed(seed).rng());
            // The routes that tokens 0, 1 and 2 have now are those of three neighbours, the last followed by the first.
            let (first, second) = (grouping.order[0], [grouping.order[2], grouping.order[3]]);
            assert_eq!(second, [(first + 1) % 3, (first + 2) % 3]);
            assert_eq!(grouping.groups, regrouping.start.groups);
        }
        let given = Some(&labels);
        assert!(Regrouping::new(&labels, given, Exchange::Along(&documents)).is_err());
        assert!(Regrouping::new(&labels, None, Exchange::Along(&documents[..3])).is_err());
    }

    #[test]
    fn documents_move_as_a_whole() {
        let (labels, documents) = (Labels::new("x", &[0, 0, 1, 1, 1]), [7, 7, 8, 8, 8]);
        let regrouping = Regrouping::new(&labels, None, Exchange::Documents(&documents)).unwrap();
        let mut grouping = regrouping.start.clone();
        for seed in 0..10 {
            regrouping.draw(&mut grouping, &mut Seed(seed).rng());
            assert!(grouping.order == [0, 1, 2, 3, 4] || grouping.order == [2, 3, 4, 0, 1]);
            assert!(grouping.groups == [2, 5] || grouping.groups == [3, 5]);
        }
        let mixed = Labels::new("x", &[0, 1, 1, 1, 1]);
        assert!(Regrouping::new(&mixed, None, Exchange::Documents(&documents)).is_err());
    }
}
